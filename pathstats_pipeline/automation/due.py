"""Which runs are due: hours that are over or got files, then their day's roll-up, archive and clean-up. Pure.

Decides by facts: what landed, what the warehouse counts, what was materialised. Each run has a key that names the fact
which calls for it: the same fact asks once, and again only when its run failed; a new one asks again. A day's later
steps wait for its earlier ones, so that a day is not rolled up or archived while its hours are still to be built. So
it makes no difference how often it is asked, or for how long nobody asked.
"""

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from pathstats_pipeline.archive.lifecycle import Retention, reasons_to_wait
from pathstats_pipeline.archive.status import DayFacts, DayState
from pathstats_pipeline.events.load import Files, Load
from pathstats_pipeline.events.window import DAY, HOUR, Window

REFRESH: Final = dt.timedelta(minutes=5)
"""How often the hour that fills is built anew while files come; a divisor of an hour."""
CATCH_UP: Final = 30 * DAY
"""For so long after their end, partitions without any file or event are materialised, too."""
RETRY_AFTER: Final = (dt.timedelta(minutes=10), HOUR, 6 * HOUR, DAY)
"""How long after its first, second … failure a run is asked for again; after the last of these each time."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long after its end an hour is closed and a day archived, and how long a day stays hot."""

    close_after: dt.timedelta
    archive_after: dt.timedelta
    retention: Retention


@dataclasses.dataclass(frozen=True)
class Progress:
    """What was materialised of the partitions from `since` on: hours and days of these must all be, in the end.

    `failed` are hours whose last run failed; each of them is asked for alone, so that none is held up by another.
    """

    since: dt.datetime
    hours: AbstractSet[dt.datetime] = frozenset()
    failed: AbstractSet[dt.datetime] = frozenset()
    rolled_up: AbstractSet[dt.date] = frozenset()
    archived: AbstractSet[dt.date] = frozenset()
    cleaned: AbstractSet[dt.date] = frozenset()


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


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known at a moment.

    `unknown` are landed files that the ledger doesn't know; `behind` are hours whose statistics count other events than
    were stored, with both numbers.
    """

    now: dt.datetime
    days: Sequence[DayFacts]
    unknown: Files
    behind: Mapping[dt.datetime, tuple[int, int]]
    progress: Progress


def catch_up_since(first_partition: dt.datetime, known_days: Iterable[dt.date], now: dt.datetime) -> dt.datetime:
    """From when on every partition is to be materialised: the first day of the last 30 of which anything came.

    Where nothing came for so long, as when old logs were taken in, nobody waits for what is empty.
    """
    recent = [day for day in known_days if day >= (now - CATCH_UP).date()]
    return max(first_partition, Window.of_day(min(recent, default=now.date() + DAY)).start)


def due_work(facts: Facts, pace: Pace, busy: Sequence[Window] = ()) -> Iterator[Ask]:
    """The runs to ask for, oldest day first; hours before days. None that touches a window in which others are busy."""
    for ask in _all_work(facts, pace):
        if not any(ask.window.start < window.end and window.start < ask.window.end for window in busy):
            yield ask


def may_be_asked(failures: Sequence[dt.datetime], now: dt.datetime) -> bool:
    """Whether a run that failed at these times, and never did anything else, is to be asked for again."""
    return not failures or now >= max(failures) + RETRY_AFTER[min(len(failures), len(RETRY_AFTER)) - 1]


def _all_work(facts: Facts, pace: Pace) -> Iterator[Ask]:
    days = {day.date: day for day in facts.days}
    behind: dict[dt.date, set[dt.datetime]] = {}
    for hour in facts.behind:
        behind.setdefault(hour.date(), set()).add(hour)
    to_close = _to_close(facts.progress, facts.now - pace.close_after)
    for date in sorted({*days, *facts.unknown, *behind, *_days_since(facts)}):
        landed = facts.unknown.get(date, ())
        hours = {load.hour for load, _ in landed} | behind.get(date, set()) | to_close.get(date, set())
        over = sorted(hour for hour in hours if hour + HOUR + pace.close_after <= facts.now)
        yield from _filling(landed, facts.now, pace)
        yield from _hours(over, landed, facts)
        if not hours:
            yield from _day(Window.of_day(date), days.get(date), facts, pace)


def _to_close(progress: Progress, now: dt.datetime) -> dict[dt.date, set[dt.datetime]]:
    """The hours that are over and were never materialised, by day."""
    hours: dict[dt.date, set[dt.datetime]] = {}
    for number in range(max((now - progress.since) // HOUR, 0)):
        hour = progress.since + number * HOUR
        if hour not in progress.hours:
            hours.setdefault(hour.date(), set()).add(hour)
    return hours


def _days_since(facts: Facts) -> list[dt.date]:
    since = facts.progress.since
    return list(Window(since, facts.now).days()) if since < facts.now else []


def _filling(landed: Iterable[tuple[Load, bool]], now: dt.datetime, pace: Pace) -> Iterator[Ask]:
    """The hours that aren't closed yet, where they got files, but not more often than every five minutes."""
    new: dict[dt.datetime, int] = {}
    for load, _ in landed:
        if load.hour <= now < load.hour + HOUR + pace.close_after:
            new[load.hour] = new.get(load.hour, 0) + 1
    part = now.replace(minute=0) + now.minute // (REFRESH // dt.timedelta(minutes=1)) * REFRESH
    for hour, files in sorted(new.items()):
        yield Ask("hourly", Window.of_hour(hour), f"filling-{part:%H%M}", f"{files} file(s) of the hour that fills")


def _hours(hours: Sequence[dt.datetime], landed: Iterable[tuple[Load, bool]], facts: Facts) -> Iterator[Ask]:
    files = sorted(landed)
    for window in _spans(hours, alone=facts.progress.failed):
        new = [(load, kind) for load, kind in files if window.start <= load.hour < window.end]
        wrong = [(hour, *facts.behind[hour]) for hour in window.hours() if hour in facts.behind]
        if new or wrong:
            reason = f"{len(new)} file(s) that the ledger doesn't know, {len(wrong)} hour(s) of statistics behind"
        else:
            is_failed = window.start in facts.progress.failed
            reason = "over, and its last run failed" if is_failed else "over, and never built"
        yield Ask("hourly", window, _digest([*map(str, new), *map(str, wrong), str(window.end)]), reason)


def _spans(hours: Iterable[dt.datetime], alone: Collection[dt.datetime]) -> list[Window]:
    """Hours in order as windows, one for each run of consecutive hours; those of `alone` are windows of their own."""
    spans: list[Window] = []
    for hour in hours:
        window = Window.of_hour(hour)
        if spans and spans[-1].end == hour and not {hour, hour - HOUR} & set(alone):
            window = Window(spans.pop().start, window.end)
        spans.append(window)
    return spans


def _day(window: Window, day: DayFacts | None, facts: Facts, pace: Pace) -> Iterator[Ask]:
    """What a day needs whose hours are all built: its roll-up and its archive, and later its clean-up."""
    if window.end > facts.now:
        return
    progress, date = facts.progress, window.start.date()
    to_materialise = window.start >= progress.since
    if day and day.counted and day.counted != day.counted_daily:
        reason = f"the day counts {day.counted_daily or 0} of {day.counted} requests"
        yield Ask("daily", window, f"{day.loads}-{day.counted}-{day.counted_daily}", reason)
    elif to_materialise and date not in progress.rolled_up:
        yield Ask("daily", window, "first", "over, and never rolled up, or not by its last run")
    if facts.now < window.end + pace.archive_after:
        return
    state = day.state(facts.now) if day else DayState.EMPTY
    if day and state in {DayState.UNARCHIVED, DayState.ARCHIVING, DayState.LATE}:
        which = "archived before" if state is DayState.LATE else "over"
        reason = f"{day.waiting} event(s) are in no generation of a day that was {which}"
        yield Ask("archive", window, f"{day.loads}-{day.stored}-{day.generations}", reason)
    elif to_materialise and date not in progress.archived:
        yield Ask("archive", window, "first", "over, and never archived, or not by its last run")
    elif _is_to_clean(date, day, state, facts, pace, never=to_materialise and date not in progress.cleaned):
        fact = f"{day.loads}-{day.stored}-{day.generations}-{day.archived}" if day else "first"
        yield Ask("cleanup", window, fact, f"archived, and out of the hot window of {pace.retention.hot_days} day(s)")


def _is_to_clean(
    date: dt.date, day: DayFacts | None, state: DayState, facts: Facts, pace: Pace, *, never: bool
) -> bool:
    if state not in {DayState.ARCHIVED, DayState.DELETING} and not never:
        return False
    retention = day.under(pace.retention) if day else pace.retention
    return not reasons_to_wait(date, facts.now, retention, day.verified_at if day else None)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
