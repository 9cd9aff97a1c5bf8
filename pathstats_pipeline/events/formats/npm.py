"""Nginx proxy manager: its two layouts, and the combined lines that its default host writes.

It logs no request time. The error log beside it is not read.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.clf import ClfFormat
from pathstats_pipeline.events.formats.matched import matched_events
from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.requests import method_of, target_host, target_path
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import absent

_LINE: Final = (
    r"(?s)^\[(?P<time>[0-9][^\]]*)\] (?:[^ ]+ (?:[0-9]+|-)(?:(?:,| :) (?:[0-9]+|-))* )?(?P<status>[0-9]+|-) - "
    r'(?P<method>[^ ]*) [^ ]+ (?P<host>[^ ]*) "(?P<target>[^"]*)" '
    r"\[Client (?P<client>[^\]]*)\] \[Length (?P<size>[0-9]+|-)\] \[Gzip [^\]]*\] "
    r'(?:\[Sent-to [^\]]*\] )?"(?P<agent>[^"]*)"'
)
"""With cache and upstream status (several, where one was tried after the other) before the own, or without."""

_COMBINED: Final = ClfFormat()


@dataclasses.dataclass(frozen=True)
class NpmFormat:
    """Lines of nginx proxy manager's proxy hosts, redirection hosts and default host."""

    name: str = "npm"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    matched, rest = first_match(without_prefix(frame), (_LINE,))
    return [*(_events(part) for part in matched), *_COMBINED.draft(rest)]


def _events(part: pl.DataFrame) -> pl.DataFrame:
    target = pl.col("target")
    asked = part.with_columns(
        method=method_of(pl.col("method")),
        path=pl.when(~absent(target)).then(target_path(target)),
        host=pl.when(~absent(pl.col("host"))).then("host").otherwise(target_host(target)),
    )
    return matched_events(asked, times(part["time"], *TIME_FORMS["clf"]), pl.lit(None, pl.Float64), pl.col("host"))
