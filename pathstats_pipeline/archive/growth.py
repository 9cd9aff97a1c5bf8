"""How long the warehouse's file has room to grow: a size, the room left, the peaks of the days before. Pure."""

import datetime as dt
import itertools
import statistics
from collections.abc import Mapping
from typing import Final

from pathstats_pipeline.archive.balance import Judgement

KEPT_DAYS: Final = 8
"""Days whose peaks are remembered: a week's traffic has its rhythm."""
FEWEST_DAYS: Final = 4
"""Days before today from which on growth can be told: three steps, of which one may be a backfill."""
WARN_DAYS: Final = 7
ERROR_DAYS: Final = 2
_MB: Final = 1024 * 1024

Peaks = Mapping[dt.date, int]
"""The largest size of the file on each day, in bytes. Within a day it goes up with loads and down with clean-ups."""


def with_size(peaks: Peaks, day: dt.date, size_bytes: int) -> Peaks:
    """The peaks with another size of a day; older days than are needed are forgotten."""
    recent = {each: peak for each, peak in peaks.items() if day - dt.timedelta(days=KEPT_DAYS) < each <= day}
    return {**recent, day: max(size_bytes, recent.get(day, 0))}


def growth_bytes_per_day(peaks: Peaks, today: dt.date) -> float | None:
    """By how much the peak grows from day to day: the median, which one backfill can't move. None: not known yet.

    Today isn't over, and doesn't count.
    """
    days = sorted(day for day in peaks if day < today)
    if len(days) < FEWEST_DAYS:
        return None
    steps = [(peaks[day] - peaks[before]) / (day - before).days for before, day in itertools.pairwise(days)]
    return statistics.median(steps)


def judge_size(size_bytes: int, free_bytes: int, limit_bytes: int | None, growth: float | None) -> Judgement:
    """Whether the file has room for a week: up to its limit, where there is one, and on its disk."""
    room = free_bytes if limit_bytes is None else min(free_bytes, limit_bytes - size_bytes)
    figures: dict[str, float] = {"warehouse_bytes": size_bytes, "room_bytes": max(room, 0)}
    what = f"the warehouse has {size_bytes / _MB:,.0f} MiB, and room for {max(room, 0) / _MB:,.0f} MiB more"
    todo = (
        "see that days are archived and cleaned up (`pathstats status`), lower PATHSTATS_HOT_DAYS, or give it more room"
    )
    if room <= 0:
        return Judgement(passed=False, reason=f"{what}: {todo}", figures=figures, is_error=True)
    if growth is None:
        return Judgement(passed=True, reason=f"{what}; its growth is known after {FEWEST_DAYS} days", figures=figures)
    figures["growth_bytes_per_day"] = round(growth)
    if growth <= 0:
        return Judgement(passed=True, reason=f"{what}; it doesn't grow", figures=figures)
    days = room / growth
    figures["days_to_full"] = round(days, 1)
    what = f"{what}; it grows by {growth / _MB:,.1f} MiB a day, and is full in {days:,.0f} days"
    if days >= WARN_DAYS:
        return Judgement(passed=True, reason=what, figures=figures)
    return Judgement(passed=False, reason=f"{what}: {todo}", figures=figures, is_error=days < ERROR_DAYS)
