"""HAProxy's HTTP log (`option httplog`, `httpslog`). Its TCP and error lines are named and rejected.

The accept date carries no offset and is taken as UTC. Captured headers have no names in the log, so none of them
becomes the host or the user agent.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.requests import read_requests
from pathstats_pipeline.events.formats.times import haproxy_time, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import host_names, whole_numbers

_TIME: Final = r"\[(?P<time>[^\] ]+)\] "
_COUNTED: Final = (
    r"[^ ]+ [^ ]+ [^ /]+/[^ /]+/[^ /]+/[^ /]+/(?P<total>[^ /]+) (?P<status>[^ ]+) (?P<size>[^ ]+) "
    r"[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ "
)
_CAPTURED: Final = r'(?:\{[^"}]*\} ){0,2}'
_REQUEST: Final = r'"(?P<request>[^"]*)(?:".*)?$'
"""The closing quote may be missing: HAProxy cuts a line at its `len` (1,024 by default)."""

_ORDINARY: Final = (
    rf"(?s)^(?P<client>[0-9.]+):[0-9]+ {_TIME}{_COUNTED}{_CAPTURED}"
    r'"(?P<method>[A-Z]+) (?P<path>/[^ "?#]*)(?:[?#][^ "]*)? HTTP/[0-9.]+"'
)
"""An IPv4 client and an HTTP request; the request is taken apart on the way."""

_ANY_CLIENT: Final = rf"(?s)^(?P<client>[^ ]+) {_TIME}{_COUNTED}{_CAPTURED}{_REQUEST}"
_LOOSE: Final = (
    r"(?s)^(?:.*? )?(?P<client>[^ ]+) \[(?P<time>[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8}\.[0-9]+)\] "
    rf"{_COUNTED}(?:\{{.*\}} )?{_REQUEST}"
)
"""A prefix that no carrier is known for; quotes or braces among the captured headers."""

_HEAD: Final = r"\[[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8}\.[0-9]+\] "


@dataclasses.dataclass(frozen=True)
class HaproxyFormat:
    """HAProxy HTTP lines. Tt (or Ta) is the response time; -1 and the `+` of an unfinished one are unknown."""

    name: str = "haproxy"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    matched, rest = first_match(without_prefix(frame), (_ORDINARY, _ANY_CLIENT, _LOOSE))
    return [*(_events(part) for part in matched), rest.select("index", reason=_what_it_is(pl.col("line")))]


def _events(part: pl.DataFrame) -> pl.DataFrame:
    client = pl.col("client")
    if "request" in part.columns:
        part = part.hstack(read_requests(part["request"]))
        client = _without_port(client)
    else:
        part = part.with_columns(target_host=pl.lit(None, pl.String))
    status, bad_status = whole_numbers(part["status"])
    size, bad_size = whole_numbers(part["size"])
    total, bad_total = whole_numbers(part["total"])
    return part.select(
        "index",
        pl.when(bad_status)
        .then(pl.lit("bad status"))
        .when(bad_size)
        .then(pl.lit("bad bytes"))
        .when(bad_total)
        .then(pl.lit("bad response time"))
        .alias("reason"),
        times(part["time"], haproxy_time).alias("event_time"),
        host_names(part["target_host"]).alias("host"),
        "method",
        "path",
        status.alias("status"),
        pl.when(_finished("total")).then(total).cast(pl.Float64).alias("response_time_ms"),
        pl.when(_finished("size")).then(size).alias("bytes_sent"),
        client.alias("client_ip"),
    )


def _finished(name: str) -> pl.Expr:
    """Tell whether a count is final; with `option logasap` the line is written before the end, and a `+` says so."""
    return ~pl.col(name).str.starts_with("+")


def _without_port(client: pl.Expr) -> pl.Expr:
    """Give the address before the last colon, without brackets; a Unix socket has none."""
    bare = client.str.extract(r"^\[?(.*?)\]?:[0-9]+$")
    return pl.when(bare != "unix").then(bare)


def _what_it_is(line: pl.Expr) -> pl.Expr:
    return (
        pl.when(line.str.contains(rf"{_HEAD}[^ ]+: "))
        .then(pl.lit("haproxy connection error line: it has no request"))
        .when(line.str.contains(rf"{_HEAD}[^ ]+ [^ ]+ [+-]?[0-9]+/[+-]?[0-9]+/[+-]?[0-9]+ "))
        .then(pl.lit("haproxy TCP log line: it has no request"))
        .otherwise(pl.lit("not a line of the haproxy HTTP log format"))
    )
