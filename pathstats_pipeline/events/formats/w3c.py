"""W3C extended log files, of IIS and others, and CloudFront's standard logs, which are a dialect of them.

Header lines name the fields and may change them anywhere; the format is a value that holds what they said so far
(`directives`). What named fields become is in `mapped`. IIS's own and NCSA layouts do not belong here.
"""

import dataclasses
from typing import Final, Self

import polars as pl

from pathstats_pipeline.events.formats.directives import Directives, is_directive
from pathstats_pipeline.events.formats.fieldmap import FieldMap
from pathstats_pipeline.events.formats.mapped import mapped_events, places_of
from pathstats_pipeline.events.formats.parsed import HEADER, ParsedLines, account
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.formats.values import absent

_WHEN: Final = "date and time"
_USER_AGENTS: Final = ("cs(user-agent)", "cs-user-agent")
_PATHS: Final = ("cs-uri-stem", "cs-uri-path", "cs-uri")
_DURATION: Final = "time-taken"
_FIELDS: Final = FieldMap(
    name="w3c",
    columns={
        "event_time": ((_WHEN,), ("timestamp",), ("timestamp(ms)",)),
        "host": (("x-host-header",), ("cs-host",), ("cs(host)",)),
        "method": (("cs-method",),),
        "path": tuple((name,) for name in _PATHS),
        "status": (("sc-status",),),
        "response_time_ms": ((_DURATION,),),
        "bytes_sent": (("sc-bytes",), ("bytes",)),
        "client_ip": (("c-ip",),),
        "user_agent": tuple((name,) for name in _USER_AGENTS),
    },
    time=("rfc3339", "unix_s", "unix_ms"),
    response_time="s",
)
_WANTED: Final = ("date", "time", *(str(place[0]) for place in places_of(_FIELDS) if place[0] != _WHEN))

_IIS: Final = r"(?i)microsoft|\biis\b"
_PROXYSG: Final = r"(?i)sgos|blue ?coat|proxysg"
_FIELDS_OF_IIS: Final = r"(?i)(?:^|[ \t])sc-(?:win32-status|substatus)(?:[ \t]|$)"
"""These tell IIS where somebody took its #Software line off."""

_OF_CLOUDFRONT: Final = r"(?i)(?:^|[ \t])x-edge-location(?:[ \t]|$)"
_CLOUDFRONT_FIELDS: Final = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) "
    "cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken "
    "x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status "
    "fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len "
    "sc-range-start sc-range-end"
)
"""The documented order, for files whose header was taken off; new fields come last."""
_CLOUDFRONT_FIRST_FIELDS: Final = 12
"""The fields of the first release: a line with fewer is no line of CloudFront's."""

_VALUE: Final = r'"(?:[^"]|"")*"|[^ ]+'
_ESCAPED: Final = {f"%{code:02X}": chr(code) for code in range(0x20, 0x7F)}
_ESCAPES: Final = {**_ESCAPED, **{key.lower(): char for key, char in _ESCAPED.items()}}
"""Printable ASCII only: what else a client sent stays as CloudFront escaped it."""

_NOTHING_SAID: Final = Directives()


@dataclasses.dataclass(frozen=True)
class W3cFormat:
    """W3C extended lines, behind these header lines."""

    name: str = "w3c"
    directives: Directives = _NOTHING_SAID
    cloudfront: bool = False

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, self._draft)

    def after(self, lines: pl.Series) -> Self:
        """Give the format that reads what follows these lines."""
        return dataclasses.replace(self, directives=self.directives.after(_framed(lines)))

    def _draft(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        frame = without_prefix(frame)
        said = self.directives.said(frame).with_columns(
            is_ours=pl.col("fields").str.contains(_OF_CLOUDFRONT) == self.cloudfront
        )
        foreign = pl.lit(f"fields of another format than {self.name}")
        headers = said.filter(pl.col("index") >= 0).select(
            "index", reason=pl.when(~pl.col("is_fields") | pl.col("is_ours")).then(pl.lit(HEADER)).otherwise(foreign)
        )
        data = frame.filter(~is_directive(pl.col("line"))).join_asof(said.rename({"date": "begun"}), on="index")
        told = pl.col("is_ours")
        nothing = pl.when(told.is_null()).then(pl.lit("no #Fields line before it")).otherwise(foreign)
        return [headers, data.filter(~told.fill_null(value=False)).select("index", reason=nothing), *self._read(data)]

    def _read(self, data: pl.DataFrame) -> list[pl.DataFrame]:
        """Give the drafts of the data lines that stand behind names of fields."""
        data = data.filter("is_ours")
        if data.is_empty():
            return []
        split = _split(data.join(_positions(data["fields"].unique()), on="fields", maintain_order="left"))
        width, found = pl.col("width"), pl.col("values").list.len()
        if self.cloudfront:
            width = pl.min_horizontal(width, _CLOUDFRONT_FIRST_FIELDS)
        fewer, more = found < width, pl.lit(value=not self.cloudfront) & (found > width)
        reason = pl.when(fewer).then(pl.lit("fewer fields than named")).otherwise(pl.lit("more fields than named"))
        values = split.filter(~fewer & ~more).select(
            "index",
            "fields",
            "software",
            "begun",
            *(pl.col("values").list.get(pl.col(name), null_on_oob=True).alias(name) for name in _WANTED),
        )
        return [
            mapped_events(self._named(values), _FIELDS, pl.lit(value=False)),
            split.filter(fewer | more).select("index", reason=reason),
        ]

    def _named(self, values: pl.DataFrame) -> pl.DataFrame:
        """Give the fields by the names of their places, in one writing; `-` is none.

        In the place of a path it is a request without one, unless nothing else tells of a request: HTTP.sys also logs
        connections that were closed while they were idle.
        """
        plain = values.with_columns(
            pl.when(~absent(pl.col(name))).then(pl.col(name)).alias(name) for name in _WANTED if name not in _PATHS
        )
        requested = pl.col("cs-method").is_not_null() | pl.col("sc-status").is_not_null()
        read = plain.with_columns(
            *(pl.when(requested | ~absent(pl.col(name))).then(pl.col(name)).alias(name) for name in _PATHS),
            _when().alias(_WHEN),
            _duration().alias(_DURATION),
            *(self._user_agent(pl.col(name)).alias(name) for name in _USER_AGENTS),
        )
        return read.select("index", *(pl.col(str(place[0])).alias(repr(place)) for place in places_of(_FIELDS)))

    def _user_agent(self, text: pl.Expr) -> pl.Expr:
        if self.cloudfront:
            return text.str.replace_many(_ESCAPES)
        # The second of two pluses was one: " +http://..." is logged as "++http://...".
        return (
            pl.when(text.str.contains(" ", literal=True)).then(text).otherwise(text.str.replace_all(r"\+(\+?)", " $1"))
        )


CLOUDFRONT: Final = W3cFormat("cloudfront", Directives(_CLOUDFRONT_FIELDS), cloudfront=True)
"""CloudFront's standard logs, with their header or without it."""


def _framed(lines: pl.Series) -> pl.DataFrame:
    text = lines.cast(pl.String).alias("line")
    return without_prefix(text.to_frame().with_row_index("index").with_columns(pl.col("index").cast(pl.Int64)))


def _positions(fields: pl.Series) -> pl.DataFrame:
    """Give for each #Fields line how many fields it names, and where the wanted ones stand; NULL where they don't."""
    names = pl.col("names")
    return (
        fields.to_frame("fields")
        .with_columns(names=pl.col("fields").str.to_lowercase().str.extract_all(r"[^ \t]+"))
        .select(
            "fields",
            names.list.len().alias("width"),
            *(
                pl.when(names.list.contains(name))
                .then(names.list.eval((pl.element() == name).cast(pl.Int8)).list.arg_max())
                .alias(name)
                for name in _WANTED
            ),
        )
    )


def _split(data: pl.DataFrame) -> pl.DataFrame:
    """Add the values of each line: separated by tabs where it has any, else by spaces, and then maybe in quotes.

    IIS puts quotes around nothing and leaves those of clients as they are: of its lines only those are read with quotes
    that do not have the right number of fields without.
    """
    line, values, width = pl.col("line"), pl.col("values"), pl.col("width")
    tabbed = line.str.contains("\t", literal=True)
    plain = data.with_columns(
        values=pl.when(tabbed).then(line.str.split("\t")).otherwise(line.str.strip_chars_end(" \r").str.split(" "))
    )
    quotes = ~tabbed & (line.str.contains('"', literal=True) & ~_of_iis() | (values.list.len() != width))
    if not plain.select(quotes.any()).item():
        return plain
    bare = pl.element().str.replace(r'(?s)^"(.*)"$', "$1").str.replace_all('""', '"', literal=True)
    read = line.str.extract_all(_VALUE).list.eval(bare)
    quoted = plain.filter(quotes).with_columns(values=pl.when(read.list.len() == width).then(read).otherwise(values))
    return pl.concat([plain.filter(~quotes), quoted])


def _when() -> pl.Expr:
    """Give date and time as one text, in UTC; where lines have the time alone, #Date has the date."""
    day = pl.coalesce("date", pl.col("begun").str.extract(r"^([0-9]{4}-[0-9]{2}-[0-9]{2})"))
    return day + "T" + pl.col("time") + "Z"


def _duration() -> pl.Expr:
    """Give the duration with its unit: milliseconds of IIS and ProxySG, seconds of all who follow the specification."""
    in_ms = _of_iis() | pl.col("software").str.contains(_PROXYSG).fill_null(value=False)
    return pl.col(_DURATION) + pl.when(in_ms).then(pl.lit("ms")).otherwise(pl.lit("s"))


def _of_iis() -> pl.Expr:
    by_name = pl.col("software").str.contains(_IIS).fill_null(value=False)
    return by_name | pl.col("fields").str.contains(_FIELDS_OF_IIS)
