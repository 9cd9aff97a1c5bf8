"""Squid's native access log (`logformat squid`). Other layouts of Squid's are formats of their own, or `combined`.

The time is that of the end of the transaction, and the client the address that Squid itself accepted.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.matched import matched_events
from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.requests import method_of, target_host, target_path
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import duration_ms

_HEAD: Final = (
    r"(?s)^(?P<time>[0-9]{1,11}\.[0-9]{1,6}) +(?P<elapsed>-?[0-9]+|-) (?P<client>[^ ]+) "
    r"[A-Z][A-Z_]*/(?P<status>[0-9]+|-) (?P<size>-?[0-9]+|-) (?P<method>[^ ]+) "
)
_TAIL: Final = r" [^ ]+ [A-Z_-]+/[^ ]*(?: .*)?$"
_ORDINARY: Final = rf"{_HEAD}(?P<target>[^ ]+){_TAIL}"
_SPACES: Final = rf"{_HEAD}(?P<target>[^ ].*?){_TAIL}"
"""`uri_whitespace allow`: the target holds spaces."""

_PATTERNS: Final = (_ORDINARY, _SPACES)
_NO_REQUEST: Final = "error:"
"""Squid's own word in the place of a URL, where it could read no request."""


@dataclasses.dataclass(frozen=True)
class SquidFormat:
    """Lines of Squid's native log, with or without logged headers behind."""

    name: str = "squid"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    matched, rest = first_match(without_prefix(frame), _PATTERNS)
    return [
        *(_events(part) for part in matched),
        rest.select("index", reason=pl.lit("not a line of Squid's native log format")),
    ]


def _events(part: pl.DataFrame) -> pl.DataFrame:
    target = pl.col("target")
    is_request = ~target.str.starts_with(_NO_REQUEST) & (target != "-")
    method = method_of(pl.col("method"))
    read = part.with_columns(
        method=pl.when(is_request).then(method),
        path=pl.when(is_request).then(target_path(target)),
    )
    tunnel = pl.when(method == "CONNECT").then(target)
    return matched_events(
        read,
        times(part["time"], *TIME_FORMS["unix_s"]),
        duration_ms(pl.col("elapsed"), "ms"),
        pl.coalesce(target_host(target), tunnel),
    )
