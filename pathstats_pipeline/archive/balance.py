"""Do the numbers of hours and days agree: ledger, events, statistics, archive? Verdicts with their figures. Pure.

The numbers are counted in storage/overview.py and storage/statistics.py; what the archive holds is summed in
archive/sums.py. Every verdict says what to do, for the person who is woken by it. How days stand is status.py's.
"""

import dataclasses
import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Self

import polars as pl

SUMS: Final = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent")
"""What statistics and events can be compared by, exactly."""
FEW_LINES: Final = 10
"""Fewer rejected lines than that are no alarm, whatever their share: a quiet hour has one bad line in ten."""
_SHOWN: Final = 3


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whether all is well, why or why not, and the figures behind it; what isn't well may be an error or a warning."""

    passed: bool
    reason: str
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_error: bool = False


@dataclasses.dataclass(frozen=True)
class Balance:
    """What the warehouse counts of an hour, or of several in sum.

    `stored`, `duplicates`, `rejected` and `deleted` are the ledger's, `live` rows of the event table, and `counted` the
    requests of the hourly statistics.
    """

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    deleted: int = 0
    live: int = 0
    counted: int = 0

    def __add__(self, other: Self) -> "Balance":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Balance(*(one + another for one, another in zip(mine, theirs, strict=True)))

    @property
    def received(self) -> int:
        """Lines and rows that came, whatever became of them."""
        return self.stored + self.duplicates + self.rejected

    @property
    def rejected_share(self) -> float:
        """Rejected lines among all that came; 0 where nothing did."""
        return self.rejected / self.received if self.received else 0.0

    @property
    def duplicate_share(self) -> float:
        """Events that were there before, among all that came; 0 where nothing did."""
        return self.duplicates / self.received if self.received else 0.0


def judge_rejected(balance: Balance, most: float) -> Judgement:
    """Whether few enough of an hour's lines were rejected."""
    figures = {"rejected_share": round(balance.rejected_share, 6), "rejected_lines": balance.rejected}
    what = f"{balance.rejected} of {balance.received} lines were rejected ({balance.rejected_share:.1%})"
    if balance.rejected < FEW_LINES or balance.rejected_share <= most:
        return Judgement(passed=True, reason=what, figures=figures)
    todo = "look at their reasons in pathstats.rejected_events, and whether a format or a field map has changed"
    return Judgement(passed=False, reason=f"{what}; more than {most:.1%} are an alarm: {todo}", figures=figures)


def judge_requests(balance: Balance) -> Judgement:
    """Whether the statistics of an hour count each event that was stored, once."""
    figures = {"requests": balance.counted, "events_stored": balance.stored}
    wrong = []
    if balance.counted != balance.stored:
        wrong.append(f"the statistics count {balance.counted} requests, the ledger {balance.stored} events")
    if balance.stored != balance.live + balance.deleted:
        wrong.append(
            f"the ledger has {balance.stored} events stored, but {balance.live} are in the warehouse and "
            f"{balance.deleted} deleted"
        )
    if wrong:
        todo = "materialise the hour again; if that doesn't help, somebody has changed the tables by hand"
        return Judgement(passed=False, reason=f"{'; '.join(wrong)}: {todo}", figures=figures, is_error=True)
    return Judgement(passed=True, reason=f"{balance.counted} requests are {balance.stored} events", figures=figures)


def judge_hours(hours: Mapping[dt.datetime, Balance], not_loaded: Collection[dt.datetime]) -> Judgement:
    """Whether every hour of a day is loaded and counted; `not_loaded` are hours with files that the ledger lacks.

    An hour that nothing came for is complete.
    """
    behind = [hour for hour, balance in hours.items() if balance.counted != balance.stored]
    incomplete = sorted({*behind, *not_loaded})
    figures = {
        "hours_with_events": sum(balance.stored > 0 for balance in hours.values()),
        "hours_behind": len(behind),
        "hours_not_loaded": len(set(not_loaded)),
    }
    if not incomplete:
        return Judgement(passed=True, reason=f"all {len(hours)} hours are loaded and counted", figures=figures)
    todo = "materialise raw_events and path_stats_hourly of them, then the day; due_runs does so, once for each fact"
    return Judgement(passed=False, reason=f"not complete: {hours_in_words(incomplete)}: {todo}", figures=figures)


def judge_archive(
    hours: Mapping[dt.datetime, Balance], statistics: pl.DataFrame, archived: pl.DataFrame, daily_requests: int | None
) -> Judgement:
    """Whether a day's statistics are those of the archived events, hour by hour.

    `statistics` and `archived` have an `hour` and `SUMS`; `daily_requests` is None where the day isn't built yet. Hours
    are compared as far as the ledger's events are in the archive: those that came since are nobody's fault.
    """
    in_archive = dict(archived.select("hour", "requests").iter_rows())
    same = [hour for hour, balance in hours.items() if balance.stored == in_archive.get(hour, 0)]
    behind = [hour for hour in same if hours[hour].counted != hours[hour].stored]
    compared = set(same) - set(behind)
    counted = sum(balance.counted for balance in hours.values())
    differences = _differences(
        *(frame.filter(pl.col("hour").is_in(list(compared))) for frame in (statistics, archived))
    )
    figures = {
        "hours_compared": len(compared),
        "archived_events": sum(in_archive.values()),
        "requests": counted,
        "differences": len(differences),
    }
    if differences:
        todo = "materialise path_stats_hourly of them, which reads the archive where events are gone"
        reason = f"statistics differ from the archive: {_some(differences)}: {todo}"
        return Judgement(passed=False, reason=reason, figures=figures, is_error=True)
    unknown = [hour for hour, requests in in_archive.items() if requests > hours.get(hour, Balance()).stored]
    problems = {
        f"statistics are behind: {hours_in_words(behind)}: materialise path_stats_hourly of them": bool(behind),
        f"the archive has events that the warehouse never had: {hours_in_words(unknown)}: is it a warehouse that was "
        "made anew? `pathstats restore` brings them back": bool(unknown),
        f"the day counts {daily_requests} requests, its hours {counted}: materialise path_stats_daily": (
            daily_requests is not None and daily_requests != counted
        ),
    }
    if found := [problem for problem, is_one in problems.items() if is_one]:
        return Judgement(passed=False, reason="; ".join(found), figures=figures)
    waiting = len(hours) - len(compared)
    more = f"; {waiting} hour(s) have events that no generation covers yet" if waiting else ""
    return Judgement(passed=True, reason=f"{len(compared)} hours are those of the archive{more}", figures=figures)


def _differences(statistics: pl.DataFrame, archived: pl.DataFrame) -> list[str]:
    """Where two frames of sums differ, in words."""
    both = statistics.join(archived, on="hour", how="full", coalesce=True, suffix="_archived").sort("hour").fill_null(0)
    return [
        f"{row['hour']:%H}:00 {name} {row[name]}, archive {row[f'{name}_archived']}"
        for row in both.iter_rows(named=True)
        for name in SUMS
        if row[name] != row[f"{name}_archived"]
    ]


def hours_in_words(hours: Collection[dt.datetime]) -> str:
    """The first hours of some, and how many more there are."""
    return _some([f"{hour:%Y-%m-%dT%H}" for hour in sorted(hours)])


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join([*texts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])
