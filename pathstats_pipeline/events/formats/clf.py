"""The common log format family: `common`, `combined`, and what servers put around them.

One reader serves both names: a virtual host in front, more quoted fields and a request time behind are recognised
line by line, because real files mix them. JSON and HAProxy lines do not belong here.
"""

import dataclasses
from typing import Final, Literal

import polars as pl

from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.requests import read_requests
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import addresses, duration_ms, host_names, whole_numbers

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'


def _quoted(name: str) -> str:
    return rf'"(?P<{name}>(?:[^"\\]|\\.)*)"'


_NUMBERS: Final = r" (?P<status>[^ ]+) (?P<size>[^ ]+)"

_ORDINARY: Final = (
    r'(?s)^(?P<client>[^ ,\["]+) - [^ \["]+ \[(?P<time>[^\]"]+)\] '
    r'"(?P<method>[A-Z]+) (?P<path>/[^ "\\?#]*)(?:[?#][^ "\\]*)? HTTP/[0-9.]+" '
    rf"(?P<status>[0-9]+) (?P<size>[0-9]+|-) {_QUOTED} {_quoted('agent')}(?P<tail>.*)$"
)
"""A combined line with nothing odd in it; the request is taken apart on the way."""

_HEAD: Final = rf'(?s)^(?P<lead>[^\["]+)\[(?P<time>[^\]"]+)\] {_quoted("request")}{_NUMBERS}'
_COMBINED: Final = rf"{_HEAD} {_QUOTED} {_quoted('agent')}(?P<tail>.*)$"
_COMMON: Final = rf'{_HEAD}(?P<tail>(?: [^"].*)?)$'
_LOOSE: Final = (
    rf'(?s)^(?P<lead>[^ ].*?) ?\[(?P<time>[0-9][^\]"]+)\] {_quoted("request")}{_NUMBERS}'
    rf"(?: {_QUOTED} {_quoted('agent')})?(?P<tail>.*)$"
)
"""Brackets or quotes among the names before the time; one quoted field only behind the numbers."""

_IPV4: Final = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_IPV6: Final = r"[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
_VIRTUAL_HOST: Final = (
    rf"^(?P<vhost>[^ ]*[^ ,]) (?P<client>{_IPV4}(?::[0-9]+)?|{_IPV6}|\[{_IPV6}\](?::[0-9]+)?),? [^ ]+ +[^ ]"
)
"""A second token that is an address, and still two more before the time: the first is then a virtual host."""

_KEYED_TIME: Final = r'(?:^|[ "])(?:rt|request_time)="?([0-9][0-9.]*(?:ms|us|µs|s)?|-)"?(?:[ "]|$)'
_INGRESS_TIME: Final = r"^ [0-9]+ ([0-9]+\.[0-9]+) \["
_AFTER_QUOTES: Final = r'([^"]*)$'
_LAST_QUOTED: Final = r'(?:^| )"([0-9]+(?:\.[0-9]+)?(?:ms|us|µs|s)?)"$'
_ALONE: Final = r"^ *([^ ]+) *$"
_CLEAR_TIME: Final = r"^ *([0-9]+(?:\.[0-9]+(?:ms|us|µs|s)?|ms|us|µs|s))(?: |$)"
_PLAUSIBLE: Final = r"^[0-9]{1,15}(?:\.[0-9]+)?(?:ms|us|µs|s)?$"
"""A longer number is a request id, not a time."""


@dataclasses.dataclass(frozen=True)
class ClfFormat:
    """Apache and nginx lines. `time_unit` says what a request time without a written unit is counted in.

    `auto`: with a decimal point it is seconds (nginx `$request_time`), without one microseconds (Apache `%D`).
    """

    name: str = "combined"
    time_unit: Literal["auto", "s", "ms", "us"] = "auto"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, self.draft)

    def draft(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Give the drafts of a frame of `index` and `line`; for formats whose files hold such lines, too."""
        matched, rest = first_match(without_prefix(frame), (_ORDINARY, _COMBINED, _COMMON, _LOOSE))
        reason = (
            pl.when(pl.col("line").str.contains(r"^[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8} \["))
            .then(pl.lit("nginx error log line, not an access log line"))
            .otherwise(pl.lit("not a line of the common or combined log format"))
        )
        return [*(self._events(part) for part in matched), rest.select("index", reason=reason)]

    def _events(self, part: pl.DataFrame) -> pl.DataFrame:
        if "request" in part.columns:
            part = part.hstack(read_requests(part["request"]))
        client, host = _names(part)
        status, bad_status = whole_numbers(part["status"])
        size, bad_size = whole_numbers(part["size"])
        return part.select(
            "index",
            pl.when(bad_status).then(pl.lit("bad status")).when(bad_size).then(pl.lit("bad bytes")).alias("reason"),
            times(part["time"], *TIME_FORMS["clf"], *TIME_FORMS["rfc3339"]).alias("event_time"),
            host.alias("host"),
            "method",
            "path",
            status.alias("status"),
            self._response_time(part["tail"]).alias("response_time_ms"),
            size.alias("bytes_sent"),
            client.alias("client_ip"),
            (pl.col("agent") if "agent" in part.columns else pl.lit(None, pl.String)).alias("user_agent"),
        )

    def _response_time(self, tails: pl.Series) -> pl.Series:
        """Read the request time out of what stands behind the user agent (or the size)."""
        if not (tails != "").any():
            return pl.Series([None], dtype=pl.Float64).new_from_index(0, tails.len())
        text = _time_text(pl.col("tail"))
        if self.time_unit == "auto":
            seconds = text.str.contains(".", literal=True)
            read = pl.when(seconds).then(duration_ms(text, "s")).otherwise(duration_ms(text, "us"))
        else:
            read = duration_ms(text, self.time_unit)
        return tails.alias("tail").to_frame().select(read).to_series()


def _time_text(tail: pl.Expr) -> pl.Expr:
    """Find the request time: named by its key, else the only or the clearly written time after the last quote.

    Several bare integers are byte counts as often as times (Apache's `%I %O`), so they are not guessed at.
    """
    after = tail.str.extract(_AFTER_QUOTES)
    alone = after.str.extract(_ALONE)
    found = pl.coalesce(
        tail.str.extract(_KEYED_TIME),
        tail.str.extract(_INGRESS_TIME),
        after.str.extract(_CLEAR_TIME),
        alone,
        tail.str.extract(_LAST_QUOTED),
    )
    return pl.when(found.str.contains(_PLAUSIBLE)).then(found)


def _names(part: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Give the clients and the hosts: a virtual host before the client, else the authority of an absolute target."""
    if "client" in part.columns:
        return addresses(part["client"]), pl.Series([None], dtype=pl.String).new_from_index(0, part.height)
    lead = pl.col("lead")
    virtual = lead.str.extract_groups(_VIRTUAL_HOST)
    names = part.select(
        client=pl.coalesce(virtual.struct.field("client"), lead.str.extract(r"^([^ ]*)")),
        host=pl.coalesce(virtual.struct.field("vhost"), "target_host"),
    )
    return addresses(names["client"]), host_names(names["host"])
