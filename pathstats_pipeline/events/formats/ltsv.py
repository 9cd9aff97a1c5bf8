"""Labelled tab-separated values: `label:value` fields with the labels of ltsv.org, and those of nginx's variables.

The labels and what they become are told in `_LABELS`; how fields become an event is in `mapped`.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.fieldmap import REQUEST_LINE, FieldMap
from pathstats_pipeline.events.formats.mapped import mapped_events, places_of
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import absent

_LABEL: Final = r"[0-9A-Za-z_.-]+"
_SHAPE: Final = rf"(?s)^\t*{_LABEL}:[^\t]*(?:\t+{_LABEL}:[^\t]*)*\t*$"
_MICROSECONDS: Final = "reqtime_microsec"
_TIMES: Final = ("time", "time_local")
"""Apache's `%t` brings its brackets along."""
_PATHS: Final = ("uri", "request_uri", "req", "request")

_LABELS: Final = FieldMap(
    name="ltsv",
    columns={
        "event_time": (("time",), ("time_local",), ("time_iso8601",), ("msec",)),
        "host": (("vhost",), ("http_host",)),
        "method": (("method",), ("request_method",)),
        "path": (("uri",), ("request_uri",)),
        REQUEST_LINE: (("req",), ("request",)),
        "status": (("status",),),
        "response_time_ms": ((_MICROSECONDS,), ("reqtime",), ("request_time",)),
        "bytes_sent": (("size",), ("body_bytes_sent",), ("bytes_sent",)),
        # Not `forwardedfor`: any client can write that header.
        "client_ip": (("remote_addr",), ("host",)),
        "user_agent": (("ua",), ("http_user_agent",)),
    },
    time=("clf", "rfc3339", "unix_s"),
    response_time="s",
)


@dataclasses.dataclass(frozen=True)
class LtsvFormat:
    """LTSV lines of a web server."""

    name: str = "ltsv"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    frame = without_prefix(frame)
    labelled = pl.col("line").str.contains(_SHAPE)
    lines = frame.filter(labelled)
    fields = lines.with_columns(_value(lines, str(place[0])).alias(repr(place)) for place in places_of(_LABELS))
    return [
        mapped_events(fields, _LABELS, pl.lit(value=False)),
        frame.filter(~labelled).select("index", reason=pl.lit("not LTSV: a field without a label")),
    ]


def _value(lines: pl.DataFrame, label: str) -> pl.Expr:
    """Give the value of a label; one of `-` or nothing is none, and the next label of its column is looked at."""
    if not lines["line"].str.contains(f"{label}:", literal=True).any():
        return pl.lit(None, pl.String)
    value = pl.col("line").str.extract(rf"(?:^|\t){label}:([^\t]*)")
    if label in _PATHS:
        return value  # nothing in the place of a path is a request without one, not a gap
    value = pl.when(~absent(value)).then(value)
    if label in _TIMES:
        return value.str.strip_chars("[]")
    return value + "us" if label == _MICROSECONDS else value
