"""Envoy's default text access log, also as Istio extends it; JSON lines among them are read by the field map.

Envoy escapes nothing within quotes. TCP lines have no request, and are named and rejected.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.fieldmap import shipped_maps
from pathstats_pipeline.events.formats.jsonl import JsonFormat
from pathstats_pipeline.events.formats.matched import matched_events
from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.requests import method_of, target_host, target_path
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import absent, duration_ms

_HEAD: Final = r"(?s)^\[(?P<time>[0-9]{4}-[^\] ]+)\] "
_STATUS: Final = r"(?P<status>[0-9]+|-) [^ ]+ "
_COUNTED: Final = r"(?:[0-9]+|-) (?P<size>[0-9]+|-) (?P<elapsed>[0-9]+|-) [^ ]+ "
_NAMES: Final = r'"(?P<forwarded>[^"]*)" "(?P<agent>[^"]*)" "[^"]*" "(?P<host>[^"]*)" "[^"]*"'
_ISTIO: Final = r'(?:"[^"]*" (?:"[^"]*" )?|[^ "]+ [^ "]+ "[^"]*" )'
"""Code details and reasons of failure, as releases of Istio have put them behind the flags."""
_PEER: Final = r"(?: [^ ]+ [^ ]+ [^ ]+ (?P<peer>[^ ]+)(?: .*)?)?$"
"""Istio: cluster, upstream local, downstream local, and then the address of the peer."""

_ASKED: Final = r'"(?P<method>[A-Z]+) (?P<path>/[^ "?#]*)(?:[?#][^ "]*)? [A-Z]+/[0-9.]+" '
"""A request with nothing odd in it, taken apart on the way."""
_DEFAULT: Final = rf"{_HEAD}{_ASKED}{_STATUS}{_COUNTED}{_NAMES}(?: .*)?$"
_OF_ISTIO: Final = f"{_HEAD}{_ASKED}{_STATUS}{_ISTIO}{_COUNTED}{_NAMES}{_PEER}"

_ODDLY_ASKED: Final = r'"(?P<method>[^ "]*) (?P<target>.*?) (?:[A-Z]+/[0-9.]+|-)" '
_ODD_NAMES: Final = r'"(?P<forwarded>[^"]*)" "(?P<agent>.*)" "[^"]*" "(?P<host>[^"]*)" "[^"]*"'
_ODD: Final = (
    rf"{_HEAD}{_ODDLY_ASKED}{_STATUS}{_COUNTED}{_ODD_NAMES}(?: .*)?$",
    f"{_HEAD}{_ODDLY_ASKED}{_STATUS}{_ISTIO}{_COUNTED}{_ODD_NAMES}{_PEER}",
)
"""Quotes or spaces in the path, quotes in the user agent, or a target that is no path."""
_TCP: Final = rf'{_HEAD}"- - -" (?:0|-) '

_JSON: Final = JsonFormat(next(field_map for field_map in shipped_maps() if field_map.name == "envoy"))


@dataclasses.dataclass(frozen=True)
class EnvoyFormat:
    """Text lines of Envoy, and JSON lines beside them: a container's log holds those of all listeners."""

    name: str = "envoy"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    frame = without_prefix(frame)
    is_json, is_tcp = pl.col("line").str.starts_with("{"), pl.col("line").str.contains(_TCP)
    ordinary, others = first_match(frame.filter(~is_json), (_DEFAULT, _OF_ISTIO))
    odd, rest = first_match(others.filter(~is_tcp), _ODD)
    return [
        *(_events(part) for part in (*ordinary, *(_taken_apart(part) for part in odd))),
        *_JSON.draft(frame.filter(is_json)),
        others.filter(is_tcp).select("index", reason=pl.lit("Envoy TCP log line: it has no request")),
        rest.select("index", reason=pl.lit("not a line of Envoy's text log format")),
    ]


def _taken_apart(part: pl.DataFrame) -> pl.DataFrame:
    target = pl.col("target")
    return part.with_columns(
        method=method_of(pl.col("method")),
        path=pl.when(~absent(target)).then(target_path(target)),
        host=pl.when(~absent(pl.col("host"))).then("host").otherwise(target_host(target)),
    )


def _events(part: pl.DataFrame) -> pl.DataFrame:
    peer = pl.col("peer") if "peer" in part.columns else pl.lit(None, pl.String)
    addressed = part.with_columns(client=pl.when(~absent(peer)).then(peer).otherwise("forwarded"))
    time, elapsed = times(part["time"], *TIME_FORMS["rfc3339"]), duration_ms(pl.col("elapsed"), "ms")
    return matched_events(addressed, time, elapsed, pl.col("host"))
