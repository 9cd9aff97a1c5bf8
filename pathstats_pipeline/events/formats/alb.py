"""AWS load balancers: the access logs of an Application Load Balancer, and those of its classic predecessor.

The time is that of the answer, in UTC. Connection logs, and the TLS logs of network load balancers, hold no requests.
"""

import dataclasses
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.matched import matched_events, with_request
from pathstats_pipeline.events.formats.matching import first_match
from pathstats_pipeline.events.formats.parsed import ParsedLines, account
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.transport import without_prefix

_TIMES: Final = ("before", "within", "behind")
_TIMES_MS_DECIMALS: Final = 6
"""Far finer than what is logged; it takes off what adding three binary fractions puts on."""

_SECONDS: Final = r"(?:[0-9]+(?:\.[0-9]+)?|-1?)"
_KIND: Final = r"(?s)^(?:[a-z][a-z0-9]* )?(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) [^ ]+ "
_NUMBERS: Final = (
    "".join(rf"(?P<{name}>{_SECONDS}) " for name in _TIMES)
    + r"(?P<status>[0-9]+|-) (?:[0-9]+|-) (?:[0-9]+|-) (?P<size>[0-9]+|-) "
)
_TLS: Final = r" [^ ]+ (?:(?:TLS|SSL)v[^ ]*|-)(?: (?P<tail>.*))?$"
_ORDINARY: Final = (
    rf"{_KIND}(?P<client>[0-9.]+):[0-9]+ [^ ]+ {_NUMBERS}"
    r'"(?P<method>[A-Z]+) [a-z]+://(?P<target_host>[^ "/?#\\]+)(?P<path>/[^ "?#\\]*)(?:[?#][^ "\\]*)? HTTP/[0-9.]+" '
    rf'"(?P<agent>[^"\\]*)"{_TLS}'
)
"""An IPv4 client and a request over HTTP; the request is taken apart on the way."""

_HEAD: Final = rf"{_KIND}(?:(?P<client>[^ ]+):[0-9]+|-) [^ ]+ {_NUMBERS}"
_QUOTES: Final = rf'{_HEAD}"(?P<request>.*?)" "(?P<agent>.*?)"{_TLS}'
"""Whatever else is in the request or the user agent, quotes too: these end before the cipher."""
_EARLIEST: Final = rf'{_HEAD}"(?P<request>.*?)"(?: "(?P<agent>[^"]*)")?$'
"""Classic balancers wrote no user agent once, and no cipher."""

_NO_REQUEST: Final = r"^- (?:[a-z]+://(?P<host>[^ /]*?)-?)? ?-$"
"""What stands for a request that could not be read: `- http://balancer:80- -`."""
_SERVER_WIDE: Final = r"^(OPTIONS) [a-z]+://([^ /]*)\* "
"""`OPTIONS *`, to which the balancer puts its scheme and host, too."""
_DOMAIN: Final = r'^[^ ]+ "[^"]*" "([^"]*)"'
"""The server name that the client gave within TLS: behind the target group and the trace."""


@dataclasses.dataclass(frozen=True)
class AlbFormat:
    """Lines of an Application Load Balancer; the fields that newer releases put behind are not needed."""

    name: str = "alb"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, _draft)


def _draft(frame: pl.DataFrame) -> list[pl.DataFrame]:
    ordinary, others = first_match(without_prefix(frame), (_ORDINARY,))
    tcp = pl.col("line").str.contains(rf'{_HEAD}"- - - ?"')
    matched, rest = first_match(others.filter(~tcp), (_QUOTES, _EARLIEST))
    return [
        *(_events(part.with_columns(asked_host=pl.lit(None, pl.String))) for part in ordinary),
        *(_events(with_request(_without_balancer(part))) for part in matched),
        others.filter(tcp).select("index", reason=pl.lit("load balancer TCP line: it has no request")),
        rest.select("index", reason=pl.lit("not a line of an AWS load balancer's access log")),
    ]


def _without_balancer(part: pl.DataFrame) -> pl.DataFrame:
    request = pl.col("request")
    return part.with_columns(
        request=pl.when(request.str.contains(_NO_REQUEST))
        .then(pl.lit("-"))
        .otherwise(request.str.replace(_SERVER_WIDE, "$1 * ")),
        asked_host=pl.coalesce(request.str.extract(_NO_REQUEST), request.str.extract(_SERVER_WIDE, 2)),
    )


def _events(part: pl.DataFrame) -> pl.DataFrame:
    host = pl.coalesce("target_host", "asked_host")
    if "tail" in part.columns and part.select(host.is_null().any()).item():
        named = pl.col("tail").str.extract(_DOMAIN)
        host = pl.coalesce(host, pl.when(named != "-").then(named))
    return matched_events(
        part.with_columns(pl.col("client").str.strip_chars("[]")),
        times(part["time"], *TIME_FORMS["rfc3339"]),
        _total_ms(),
        host,
    )


def _total_ms() -> pl.Expr:
    """Add up the three times; where one is -1 the request was not served to its end, and the total is unknown."""
    parts = [pl.col(name).cast(pl.Float64, strict=False) * 1e3 for name in _TIMES]
    known = pl.all_horizontal(part >= 0 for part in parts)
    return pl.when(known).then((parts[0] + parts[1] + parts[2]).round(_TIMES_MS_DECIMALS))
