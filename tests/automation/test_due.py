"""Which runs are due: hours before days, each fact under a key of its own, every partition once, nobody held up."""

import dataclasses
import datetime as dt
import itertools
from typing import Any

import pytest

from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.status import DayFacts
from pathstats_pipeline.automation.due import (
    CATCH_UP,
    Facts,
    Pace,
    Progress,
    catch_up_since,
    due_work,
    may_be_asked,
)
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import DAY as ONE_DAY
from pathstats_pipeline.events.window import HOUR, Window

DAY = dt.date(2026, 11, 20)
NOW = dt.datetime(2026, 11, 21, 5, 30)
PACE = Pace(dt.timedelta(minutes=5), 2 * HOUR, Retention(3))
BUILT = DayFacts(DAY, 3, 30, 0, 0, 0, 30, 0, 0, 0, 30, 30)
ARCHIVED = dataclasses.replace(BUILT, generations=1, archived=30)
CLEANED = dataclasses.replace(ARCHIVED, deleted=30, live=0)


def hour(number: int, day: dt.date = DAY) -> dt.datetime:
    """The start of an hour."""
    return Window.of_day(day).start + dt.timedelta(hours=number)


def asked(
    facts: DayFacts | None,
    *files: Load,
    behind: dict[dt.datetime, Any] | None = None,
    now: dt.datetime = NOW,
    pace: Pace = PACE,
    progress: Progress | None = None,
    busy: tuple[Window, ...] = (),
) -> list[str]:
    """The jobs asked for, with the first hour and the number of hours; no partition is asked for its own sake."""
    unknown: dict[dt.date, list[tuple[Load, bool]]] = {}
    for load in files:
        unknown.setdefault(load.hour.date(), []).append((load, False))
    known = Facts(now, [facts] if facts else [], unknown, behind or {}, progress or Progress(now))
    return [
        f"{ask.job} {ask.window.start:%d %H} {(ask.window.end - ask.window.start) // dt.timedelta(hours=1)}"
        for ask in due_work(known, pace, busy)
    ]


def test_hours_come_first_and_days_wait_for_them() -> None:
    """Consecutive hours are one run; a day of which hours are left is neither rolled up nor archived."""
    late = dataclasses.replace(ARCHIVED, stored=35, counted=35)
    files = [Load(hour(number), "x") for number in (3, 4, 9)]

    assert asked(late, *files) == ["hourly 20 03 2", "hourly 20 09 1"]
    assert asked(late, behind={hour(7): (9, 8)}) == ["hourly 20 07 1"]
    assert asked(late) == ["daily 20 00 24", "archive 20 00 24"]
    assert asked(ARCHIVED) == []


def test_a_day_is_archived_after_its_grace_and_cleaned_after_the_hot_window() -> None:
    """From two hours after its end on; from the third day after it on, once, and not while it is on hold."""
    midnight = Window.of_day(DAY).end
    assert asked(BUILT, now=midnight + 2 * HOUR - dt.timedelta(seconds=1)) == []
    assert asked(BUILT, now=midnight + 2 * HOUR) == ["archive 20 00 24"]
    third = Window.of_day(DAY + 3 * ONE_DAY).start
    assert asked(ARCHIVED, now=third - dt.timedelta(seconds=1)) == []
    assert asked(ARCHIVED, now=third) == ["cleanup 20 00 24"]
    assert asked(dataclasses.replace(ARCHIVED, deleted=9, live=21), now=third) == ["cleanup 20 00 24"]
    assert asked(CLEANED, now=third) == []
    assert asked(dataclasses.replace(ARCHIVED, hold="a court's order"), now=third) == []
    graced = dataclasses.replace(PACE, retention=Retention(3, 4 * HOUR))
    verified = dataclasses.replace(ARCHIVED, verified_at=third - HOUR)
    assert asked(verified, now=third, pace=graced) == []
    assert asked(verified, now=third + 3 * HOUR, pace=graced) == ["cleanup 20 00 24"]


def test_an_archive_that_was_begun_is_finished_and_a_day_that_is_not_over_is_left_alone() -> None:
    """A run that died left a generation; today's events aren't archived, whatever is counted."""
    assert asked(dataclasses.replace(BUILT, unfinished=1)) == ["archive 20 00 24"]
    assert asked(dataclasses.replace(BUILT, date=NOW.date(), counted_daily=None)) == []


def test_the_hour_that_fills_is_refreshed_until_it_is_closed() -> None:
    """Until five minutes after its end it is still filling, every five minutes under another key; then it is closed."""

    def keys(minutes: int, *hours: int) -> set[str]:
        now = hour(5, NOW.date()) + dt.timedelta(minutes=minutes)
        unknown = {NOW.date(): [(Load(hour(number, NOW.date()), "x"), False) for number in hours]}
        return {ask.run_key for ask in due_work(Facts(now, [], unknown, {}, Progress(now)), PACE)}

    assert keys(31, 5) == keys(34, 5) != keys(35, 5)
    assert len(set().union(*(keys(minutes, 5) for minutes in range(65)))) == 13
    assert keys(64, 5) != keys(65, 5) == keys(66, 5) == keys(600, 5)
    assert keys(30, 6) == set()
    assert len(keys(62, 5, 6)) == 2
    assert len(keys(65, 5, 6)) == 2


def test_each_partition_since_the_first_file_is_materialised_once_also_without_events() -> None:
    """Driven to its end: two days and some hours without an event, each in its turn, and then there is quiet."""
    since, now = hour(0, DAY), hour(7, DAY + 5 * ONE_DAY)
    progress = Progress(since, hours={hour(3)})
    ran: list[str] = []
    while asks := list(due_work(Facts(now, [], {}, {}, progress), PACE)):
        for ask in asks:
            ran.append(f"{ask.job} {ask.window.start:%d %H}")
            progress = _done(progress, ask.job, ask.window)
        assert len(ran) < 100
    assert len(ran) == len(set(ran))
    days = [f"{DAY + n * ONE_DAY:%d} 00" for n in range(5)]
    assert sorted(line for line in ran if "hourly" not in line) == sorted(
        [
            *(f"{job} {day}" for job, day in itertools.product(["archive", "daily"], days)),
            *(f"cleanup {day}" for day in days[:3]),
        ]
    )
    # One run before the hour that was there, and one behind it; the last hour isn't closed yet.
    assert [line for line in ran if "hourly" in line] == [
        "hourly 20 00",
        "hourly 20 04",
        *(f"hourly {day}" for day in [*days[1:], "25 00"]),
    ]
    assert progress.hours == {hour(number) for number in range(5 * 24 + 6)}


def _done(progress: Progress, job: str, window: Window) -> Progress:
    date = window.start.date()
    kept = {
        "hourly": {"hours": {*progress.hours, *window.hours()}},
        "daily": {"rolled_up": {*progress.rolled_up, date}},
        "archive": {"archived": {*progress.archived, date}},
        "cleanup": {"cleaned": {*progress.cleaned, date}},
    }
    return dataclasses.replace(progress, **kept[job])  # type: ignore[arg-type]


def test_hours_that_failed_are_asked_for_alone() -> None:
    """One broken file must not hold up the hours beside it."""
    files = [Load(hour(number), "x") for number in (3, 4, 5, 6)]
    failed = Progress(NOW, failed={hour(4)})
    assert asked(None, *files, progress=failed) == ["hourly 20 03 1", "hourly 20 04 1", "hourly 20 05 2"]


@pytest.mark.parametrize(
    ("busy", "left"),
    [
        (Window.of_hour(hour(3)), ["hourly 20 09 1"]),
        (Window(hour(4), hour(10)), []),
        (Window.of_day(DAY), []),
        (Window.of_day(DAY - ONE_DAY), ["hourly 20 03 2", "hourly 20 09 1"]),
    ],
)
def test_what_is_under_way_is_left_out(busy: Window, left: list[str]) -> None:
    """A run or a backfill holds up what it touches, and nothing else."""
    files = [Load(hour(number), "x") for number in (3, 4, 9)]
    assert asked(None, *files, busy=(busy,)) == left


def test_the_same_fact_has_the_same_key_and_another_one_another() -> None:
    """A load more, a number more: another key; the order in which they are found is of no account."""

    def keys(*ids: str, stored: int = 35) -> set[str]:
        unknown = {DAY: [(Load(hour(3), load_id), False) for load_id in ids]} if ids else {}
        late = dataclasses.replace(ARCHIVED, stored=stored, counted=30)
        return {ask.run_key for ask in due_work(Facts(NOW, [late], unknown, {}, Progress(NOW)), PACE)}

    assert keys("a", "b") == keys("b", "a")
    assert len(keys("a", "b") | keys("a") | keys() | keys(stored=36)) == 4


def test_partitions_are_kept_whole_since_anything_came_but_not_for_ever() -> None:
    """Not before the first partition, nor before the first day of the last 30 of which anything came, if any did."""
    first = hour(0, NOW.date() - 400 * ONE_DAY)
    assert catch_up_since(first, [DAY], NOW) == Window.of_day(DAY).start
    assert catch_up_since(first, [first.date(), DAY, NOW.date()], NOW) == Window.of_day(DAY).start
    assert catch_up_since(first, [(NOW - CATCH_UP).date()], NOW) == Window.of_day((NOW - CATCH_UP).date()).start
    assert catch_up_since(hour(0), [(NOW - CATCH_UP).date()], NOW) == hour(0)
    assert catch_up_since(first, [first.date(), DAY - CATCH_UP - ONE_DAY], NOW) > NOW
    assert catch_up_since(first, [], NOW) > NOW


def test_a_run_that_failed_is_asked_for_again_with_growing_patience() -> None:
    """After 10 minutes, 1 hour, 6 hours, and then every day."""
    waits = [dt.timedelta(minutes=10), HOUR, 6 * HOUR, ONE_DAY, ONE_DAY, ONE_DAY]
    assert may_be_asked([], NOW)
    for count, wait in enumerate(waits, start=1):
        failures = [NOW - n * ONE_DAY for n in range(count)]
        assert not may_be_asked(failures, NOW + wait - dt.timedelta(seconds=1))
        assert may_be_asked(failures, NOW + wait)


def test_the_reason_says_whether_an_hour_was_tried_before() -> None:
    """One that failed isn't called never built: it may have been, before its last run failed."""
    progress = Progress(hour(0), hours=frozenset(), failed=frozenset({hour(1)}))
    due = due_work(Facts(hour(3), [], {}, {}, progress), PACE)
    assert [(ask.window.start, ask.reason) for ask in due] == [
        (hour(0), "over, and never built"),
        (hour(1), "over, and its last run failed"),
    ]
