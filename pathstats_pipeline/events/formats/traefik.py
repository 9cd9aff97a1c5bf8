"""Traefik's access log in its own common log format, the default; its JSON lines are read by a field map.

Traefik puts texts in quotes and escapes nothing within: a line is read from both of its ends.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.matched import matched_events, with_request
from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import duration_ms

_NUMBERS: Final = r"(?P<status>[0-9]+|-) (?P<size>[0-9]+|-)"
_ROUTED: Final = r'(?:[0-9]+|-) "[^"]*" "[^"]*" (?P<elapsed>[0-9]+ms)(?: .*)?$'
_ORDINARY: Final = (
    r'(?s)^(?P<client>[^ ]+) - [^ \[]+ \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" '
    rf'{_NUMBERS} "[^"]*" "(?P<agent>[^"]*)" {_ROUTED}'
)
_QUOTES: Final = (
    r'(?s)^(?P<client>[^ ]+) - .*?\[(?P<time>[0-9][^\]]+)\] "(?P<request>.*?)" '
    rf'{_NUMBERS} ".*" "(?P<agent>.*?)" {_ROUTED}'
)
"""Spaces in the user's name; quotes within the request, the referrer or the user agent."""

_NO_REQUEST: Final = "- - -"


@dataclasses.dataclass(frozen=True)
class TraefikFormat:
    """Traefik lines: combined ones, with a counter, the router, the server and the milliseconds behind."""

    name: str = "traefik"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    matched, rest = first_match(without_prefix(frame), (_ORDINARY, _QUOTES))
    return [
        *(_events(with_request(part.with_columns(pl.col("request").replace(_NO_REQUEST, "-")))) for part in matched),
        rest.select("index", reason=pl.lit("not a line of Traefik's common log format")),
    ]


def _events(part: pl.DataFrame) -> pl.DataFrame:
    return matched_events(
        part,
        times(part["time"], *TIME_FORMS["clf"], *TIME_FORMS["rfc3339"]),
        duration_ms(pl.col("elapsed"), "ms"),
        pl.col("target_host"),
    )
