"""Which times an event may have, whatever brought it: not before the first partition, not far in the future. Pure."""

import datetime as dt
from typing import Final

import polars as pl

CLOCK_NEVER_SET: Final = dt.datetime(2000, 1, 2)  # noqa: DTZ001 - naive UTC
"""Clocks that were never set begin in 1970 or 2000; where no first partition is set, earlier lines are rejected."""
FUTURE_TOLERANCE: Final = dt.timedelta(days=1)
"""How far ahead of ours an event's clock may be; beyond, its line is rejected."""


def reason_outside(first_hour: dt.datetime, now: dt.datetime) -> pl.Expr:
    """Why an event's time can't be: an expression of `event_time`, NULL where it can."""
    time = pl.col("event_time")
    return (
        pl.when(time < first_hour)
        .then(pl.lit(f"before the first partition ({first_hour:%Y-%m-%d})"))
        .when(time > now + FUTURE_TOLERANCE)
        .then(pl.lit("more than a day in the future"))
    )
