"""What a carrier writes before a line: container runtimes (CRI) and syslog. Taken off before any format reads.

Only prefixes that a log line of ours can't begin with belong here.
"""

from typing import Final

import polars as pl

_CARRIED: Final = r"^(?:<[0-9]|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:|[0-9]{4}-[0-9]{2}-[0-9]{2}T)"
"""Cheap to ask of every line; the prefix below is not."""

_CRI: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ (?:stdout|stderr) [FP] "

_STAMP: Final = (
    r"(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?: [0-9]{4})?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+)"
)
_RFC_5424: Final = rf"<[0-9]{{1,3}}>1 (?:-|{_STAMP}) [^ ]+ [^ ]+ [^ ]+ [^ ]+ (?:-|(?:\[[^\]]*\])+) ?"
_RFC_3164: Final = rf"(?:<[0-9]{{1,3}}>)?{_STAMP} (?:[^ ]+ )?[^ :\[]+(?:\[[^\] ]*\])?: "
_TAG_ONLY: Final = r"<[0-9]{1,3}>(?:[^ :\[]+(?:\[[0-9]+\])?: )?"

_PREFIX: Final = rf"^(?:{_CRI})?(?:{_RFC_5424}|{_RFC_3164}|{_TAG_ONLY})?"


def without_prefix(frame: pl.DataFrame) -> pl.DataFrame:
    """Give the frame (`index`, `line`) with the carrier's prefix taken off each line that has one."""
    if not frame["line"].str.contains(_CARRIED).any():
        return frame
    return frame.with_columns(pl.col("line").str.replace(_PREFIX, ""))
