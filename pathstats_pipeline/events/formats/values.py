"""Single values as servers write them: whole numbers, durations, addresses, hosts. Text in, typed column out.

What a value may be at last (ranges, NULL for the unknown) is decided in `parsed`; here is only how it is written.
"""

from collections.abc import Callable
from typing import Final, Literal

import polars as pl

TimeUnit = Literal["s", "ms", "us", "ns"]

_WHOLE: Final = r"^[+-]?[0-9]+$"
_PLAIN: Final = r"^[0-9]{1,15}(?:\.[0-9]+)?$"
_DURATION: Final = r"^(?P<number>[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|NaN|[+-]?inf)(?P<unit>ns|us|µs|ms|s)?$"
_BRACKETED: Final = r"^\[([^\]]*)\](?::[0-9]+)?$"
_WITH_PORT: Final = r"^([^:]*):[0-9]+$"


def absent(text: pl.Expr) -> pl.Expr:
    """Tell whether the source wrote nothing: no value, an empty one, or `-`."""
    return text.is_null() | text.is_in(["", "-"])


def whole_numbers(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Read integers: the numbers, and a mask of what is written and no integer.

    A number is NULL where nothing is written, and where it is beyond 64 bits.
    """
    numbers = text.cast(pl.Int64, strict=False)
    doubtful = text.to_frame("text").select(numbers.is_null() & ~absent(pl.col("text"))).to_series()
    if not doubtful.any():
        return numbers, doubtful
    return numbers, doubtful & ~text.str.contains(_WHOLE)


def not_duration(text: pl.Expr) -> pl.Expr:
    """Tell whether something is written that is no duration."""
    return ~(absent(text) | text.str.contains(_DURATION))


def duration_ms(text: pl.Expr, unit: TimeUnit) -> pl.Expr:
    """Read a duration in milliseconds: a unit written behind the number wins over `unit`."""
    parts = text.str.extract_groups(_DURATION)
    number = parts.struct.field("number").cast(pl.Float64, strict=False)
    return _scaled(number, pl.coalesce(parts.struct.field("unit"), pl.lit(unit)))


def durations_ms(text: pl.Series, unit: TimeUnit) -> pl.Series:
    """Read a column of durations: the same at a third of the cost, where none has a unit or an exponent."""
    column = pl.col("text")
    plain = text.null_count() < text.len() and text.str.contains(_PLAIN).all()
    number = _scaled(column.cast(pl.Float64), pl.lit(unit)) if plain else duration_ms(column, unit)
    return text.to_frame("text").select(number).to_series()


def _scaled(number: pl.Expr, unit: pl.Expr) -> pl.Expr:
    # Division by a whole number rounds once; multiplication by 0.001 would round twice and spoil exact milliseconds.
    return (
        pl.when(unit == "s")
        .then(number * 1e3)
        .when(unit == "ms")
        .then(number)
        .when(unit.is_in(["us", "µs"]))
        .then(number / 1e3)
        .when(unit == "ns")
        .then(number / 1e6)
    )


def addresses(text: pl.Series) -> pl.Series:
    """Give the first address of a list, without brackets and port; a bare IPv6 address stays whole."""
    return _dressed(text, r"[\[, ]|^[^:]*:[0-9]+$", _address)


def host_names(text: pl.Series) -> pl.Series:
    """Give hosts without brackets, port and credentials."""
    return _dressed(text, r"[\[@]|^[^:]*:[0-9]+$", _host_name)


def _dressed(text: pl.Series, dressed: str, bare: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    """Undress a column only where there is something to take off: mostly there is not, and looking is cheap."""
    if text.null_count() == text.len() or not text.str.contains(dressed).any():
        return text
    return text.to_frame("text").select(bare(pl.col("text"))).to_series()


def _address(text: pl.Expr) -> pl.Expr:
    first = text.str.extract(r"^([^,]*)").str.strip_chars(" ")
    return pl.coalesce(first.str.extract(_BRACKETED), first.str.extract(_WITH_PORT), first)


def _host_name(text: pl.Expr) -> pl.Expr:
    bare = text.str.replace(r"^[^@]*@", "")
    return pl.coalesce(bare.str.extract(_BRACKETED), bare.str.extract(_WITH_PORT), bare)
