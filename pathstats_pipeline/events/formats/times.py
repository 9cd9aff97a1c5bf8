"""Times as servers write them, to UTC microseconds without a zone. One function for each form of writing.

Every function gives NULL for what is not a time of its form, impossible dates included. A fraction finer than a
microsecond is cut, not rounded, so that an event never moves into the next hour.
"""

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from pathstats_pipeline.events.schema import TIME

_CLF: Final = "%d/%b/%Y:%H:%M:%S"
_CLF_HEAD: Final = len("02/Feb/2012:04:05:24")
_CLF_FRACTION: Final = r"^([0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8})[.,]([0-9]{1,9}) ([+-][0-9]{4})$"
_RFC_3339: Final = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?"
    r" ?(?:(?P<utc>[Zz]|UTC)|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):?(?P<minutes>[0-5][0-9]))?$"
)
_LAST_SECOND: Final = 253_402_300_800  # 10000-01-01T00:00:00Z, the first second that an event can't have


def _microseconds(fraction: pl.Expr) -> pl.Expr:
    return fraction.str.head(6).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)


def _instant(text: pl.Expr, form: str) -> pl.Expr:
    return text.str.to_datetime(form, time_unit="us", strict=False)


def clf_time(text: pl.Expr) -> pl.Expr:
    """Read `17/May/2015:10:05:03 +0200`."""
    return _instant(text, f"{_CLF} %z").dt.replace_time_zone(None)


def clf_utc_time(text: pl.Expr) -> pl.Expr:
    """Read `17/May/2015:10:05:03 +0000` only: most files hold one offset, and without it this is twice as fast."""
    return pl.when(text.str.slice(_CLF_HEAD) == " +0000").then(_instant(text.str.head(_CLF_HEAD), _CLF))


def clf_fraction_time(text: pl.Expr) -> pl.Expr:
    """Read `17/May/2015:10:05:03.123 +0200`, as Apache's `msec_frac` writes it."""
    whole = clf_time(text.str.replace(_CLF_FRACTION, "$1 $3"))
    return whole + pl.duration(microseconds=_microseconds(text.str.extract(_CLF_FRACTION, 2)), time_unit="us")


def haproxy_time(text: pl.Expr) -> pl.Expr:
    """Read `02/Feb/2012:04:05:24.385`: the accept date, which carries no offset and is taken as UTC."""
    fraction = text.str.slice(_CLF_HEAD + 1)
    whole = _instant(text.str.head(_CLF_HEAD), _CLF)
    written = (text.str.slice(_CLF_HEAD, 1) == ".") & (fraction.cast(pl.Int64, strict=False) >= 0)
    return pl.when(written).then(whole + pl.duration(microseconds=_microseconds(fraction), time_unit="us"))


def _fixed_instant(text: pl.Expr, form: str, length: int) -> pl.Expr:
    """Read a form in which each part has its place: seven times faster than one with a choice.

    What is longer or shorter isn't tried: to fail takes five times as long as to read.
    """
    likely = pl.when(text.str.len_bytes() == length).then(text)
    return likely.str.to_datetime(form, time_unit="us", strict=False, cache=False)


def rfc3339_microseconds_time(text: pl.Expr) -> pl.Expr:
    """Read `2025-12-31T17:37:40.493035Z` only, as our own lines have it."""
    return _fixed_instant(text, "%Y-%m-%dT%H:%M:%S.%6fZ", len("2025-12-31T17:37:40.493035Z"))


def rfc3339_seconds_time(text: pl.Expr) -> pl.Expr:
    """Read `2025-12-31T17:37:40+00:00` only, as nginx writes it in UTC."""
    return _fixed_instant(text, "%Y-%m-%dT%H:%M:%S+00:00", len("2025-12-31T17:37:40+00:00"))


def rfc3339_offset_time(text: pl.Expr) -> pl.Expr:
    """Read RFC 3339 as it mostly is, with `T`, seconds and an offset: three times faster than all of its forms."""
    return _instant(text, "%Y-%m-%dT%H:%M:%S%.f%#z").dt.replace_time_zone(None)


def rfc3339_time(text: pl.Expr) -> pl.Expr:
    """Read `2025-12-31T17:37:40.493035218+01:00`; without an offset it is UTC."""
    parts = text.str.extract_groups(_RFC_3339)

    def part(name: str) -> pl.Expr:
        return parts.struct.field(name)

    offset = part("hours").cast(pl.Int64) * 60 + part("minutes").cast(pl.Int64)
    offset = pl.when(part("sign") == "-").then(-offset).otherwise(offset).fill_null(0)
    return (
        _instant(pl.concat_str(part("date"), pl.lit("T"), part("clock")), "%Y-%m-%dT%H:%M:%S")
        + pl.duration(microseconds=_microseconds(part("fraction")), time_unit="us")
        - pl.duration(minutes=offset, time_unit="us")
    )


def _unix_time(text: pl.Expr, ticks_per_second: int) -> pl.Expr:
    ticks = text.cast(pl.Float64, strict=False)
    known = ticks.is_finite() & (ticks >= 0) & (ticks < _LAST_SECOND * ticks_per_second)
    return pl.when(known).then(ticks * (1_000_000 // ticks_per_second)).round().cast(pl.Int64).cast(TIME)


def unix_s_time(text: pl.Expr) -> pl.Expr:
    """Read seconds since 1970, with or without a fraction."""
    return _unix_time(text, 1)


def unix_ms_time(text: pl.Expr) -> pl.Expr:
    """Read milliseconds since 1970."""
    return _unix_time(text, 1000)


def unix_ns_time(text: pl.Expr) -> pl.Expr:
    """Read whole nanoseconds since 1970. A floating-point number could not hold them."""
    ticks = text.cast(pl.Int64, strict=False)
    return pl.when(ticks >= 0).then(ticks // 1000).cast(TIME)


TIME_FORMS: Final[Mapping[str, tuple[Callable[[pl.Expr], pl.Expr], ...]]] = {
    "rfc3339": (rfc3339_microseconds_time, rfc3339_seconds_time, rfc3339_offset_time, rfc3339_time),
    "clf": (clf_utc_time, clf_time, clf_fraction_time),
    "unix_s": (unix_s_time,),
    "unix_ms": (unix_ms_time,),
    "unix_ns": (unix_ns_time,),
}
"""The forms that a field map may name, each from its usual writing to its odd ones."""


def times(text: pl.Series, *forms: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    """Read a column by the first form, and what it leaves NULL by the next ones."""
    frame = text.alias("text").to_frame()
    read = frame.select(forms[0](pl.col("text"))).to_series()
    for form in forms[1:]:
        if read.null_count() == text.null_count():
            break
        read = frame.select(pl.coalesce(read, form(pl.col("text")))).to_series()
    return read
