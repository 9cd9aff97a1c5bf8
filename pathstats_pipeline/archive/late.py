"""What came late: files that nobody loaded, statistics without them, days that are archived but for them. Pure.

Decides which runs to ask for, and gives each a key that names the fact that calls for it: the same fact asks once,
whatever became of its run; a new one asks again. A day's later steps wait for its earlier ones, so that a day is not
rolled up or archived while its hours are still to be built.
"""

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from pathstats_pipeline.archive.status import DayFacts, DayState
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import HOUR, Window

REFRESH: Final = dt.timedelta(minutes=5)
"""How often the hour that fills is built anew while files come; a divisor of an hour."""
Files = Mapping[dt.date, Collection[tuple[Load, bool]]]
"""The loads that landed of each day, and whether each is one of rejected lines."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """A run to ask for: the job, its partitions (a window of hours, or a day), and the fact that calls for it."""

    job: str
    window: Window
    fact: str
    reason: str

    @property
    def run_key(self) -> str:
        """The same for the same fact."""
        return f"{self.job}:{self.window.start:%Y-%m-%dT%H}:{self.fact}"


def late_work(
    now: dt.datetime,
    days: Sequence[DayFacts],
    unknown: Files,
    hours_behind: Mapping[dt.datetime, tuple[int, int]],
    looked_at: Collection[dt.date],
) -> Iterator[Ask]:
    """The runs to ask for, oldest day first; hours before days.

    `unknown` are landed files that the ledger doesn't know; `hours_behind` are hours whose statistics count other
    events than were stored. Of all days, only those `looked_at`, and those that are archived, are of interest. The
    hour that isn't over is built anew while it fills, now and then.
    """
    facts = {day.date: day for day in days}
    behind_by_day: dict[dt.date, set[dt.datetime]] = {}
    for hour in hours_behind:
        behind_by_day.setdefault(hour.date(), set()).add(hour)
    archived = {day.date for day in days if day.generations}
    of_interest = {*looked_at, *archived}
    for date in sorted(of_interest & {*facts, *unknown}):
        landed = unknown.get(date, ())
        hours = {load.hour for load, _ in landed} | behind_by_day.get(date, set())
        yield from _filling(landed, now)
        if over := sorted(hour for hour in hours if hour + HOUR <= now):
            yield from _hours(over, landed, hours_behind)
        elif not hours and (day := facts.get(date)):
            yield from _day(day, now)


def _filling(landed: Iterable[tuple[Load, bool]], now: dt.datetime) -> Iterator[Ask]:
    """The hour that isn't over, where it got files, but not more often than every five minutes."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    if new := sum(load.hour == hour for load, _ in landed):
        part = now.minute // (REFRESH // dt.timedelta(minutes=1))
        yield Ask("hourly", Window.of_hour(hour), f"filling-{part}", f"{new} file(s) of the hour that fills")


def _hours(
    hours: Sequence[dt.datetime],
    landed: Iterable[tuple[Load, bool]],
    behind: Mapping[dt.datetime, tuple[int, int]],
) -> Iterator[Ask]:
    files = sorted(landed)
    for window in _spans(hours):
        new = [(load, kind) for load, kind in files if window.start <= load.hour < window.end]
        wrong = [(hour, *behind[hour]) for hour in window.hours() if hour in behind]
        reason = f"{len(new)} file(s) that the ledger doesn't know, {len(wrong)} hour(s) of statistics behind"
        yield Ask("hourly", window, _digest([*map(str, new), *map(str, wrong)]), reason)


def _spans(hours: Iterable[dt.datetime]) -> list[Window]:
    """Hours in order as windows, one for each run of consecutive hours."""
    spans: list[Window] = []
    for hour in hours:
        window = Window.of_hour(hour)
        if spans and spans[-1].end == hour:
            window = Window(spans.pop().start, window.end)
        spans.append(window)
    return spans


def _day(day: DayFacts, now: dt.datetime) -> Iterator[Ask]:
    """What a day needs whose hours are all built."""
    window = Window.of_day(day.date)
    if window.end > now:
        return
    if day.counted and day.counted != day.counted_daily:
        reason = f"the day counts {day.counted_daily or 0} of {day.counted} requests"
        yield Ask("daily", window, f"{day.loads}-{day.counted}-{day.counted_daily}", reason)
    if day.state(now) is DayState.LATE:
        reason = f"{day.waiting} event(s) are in no generation of a day that was archived before"
        yield Ask("archive", window, f"{day.loads}-{day.stored}-{day.generations}", reason)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
