"""Which runs late events call for: hours before days, each fact under a key of its own, old days only when archived."""

import dataclasses
import datetime as dt
from typing import Any

from pathstats_pipeline.archive.late import late_work
from pathstats_pipeline.archive.status import DayFacts
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import Window

DAY = dt.date(2026, 11, 20)
NOW = dt.datetime(2026, 11, 21, 5, 30)
BUILT = DayFacts(DAY, 3, 30, 0, 0, 0, 30, 0, 0, 0, 30, 30)
ARCHIVED = dataclasses.replace(BUILT, generations=1, archived=30)


def hour(number: int, day: dt.date = DAY) -> dt.datetime:
    """The start of an hour."""
    return Window.of_day(day).start + dt.timedelta(hours=number)


def asked(facts: DayFacts, *files: Load, behind: dict[dt.datetime, Any] | None = None, seen: bool = True) -> list[str]:
    """The jobs asked for, with the first hour and the number of hours."""
    unknown = {facts.date: {(load, False) for load in files}} if files else {}
    work = late_work(NOW, [facts], unknown, behind or {}, [facts.date] if seen else [])
    return [
        f"{ask.job} {ask.window.start:%d %H} {(ask.window.end - ask.window.start) // dt.timedelta(hours=1)}"
        for ask in work
    ]


def test_hours_come_first_and_days_wait_for_them() -> None:
    """Consecutive hours are one run; a day of which hours are left is neither rolled up nor archived."""
    late = dataclasses.replace(ARCHIVED, stored=35, counted=35)
    files = [Load(hour(number), "x") for number in (3, 4, 9)]

    assert asked(late, *files) == ["hourly 20 03 2", "hourly 20 09 1"]
    assert asked(late, behind={hour(7): (9, 8)}) == ["hourly 20 07 1"]
    assert asked(late) == ["daily 20 00 24", "archive 20 00 24"]
    assert asked(BUILT) == asked(ARCHIVED) == []


def test_what_is_not_late_is_not_asked_for() -> None:
    """Never archived; not over; an old day nobody looked at, unless it is archived."""
    assert asked(dataclasses.replace(BUILT, stored=35)) == []
    today = dataclasses.replace(BUILT, date=NOW.date(), counted_daily=None)
    assert asked(today) == []
    assert asked(today, Load(hour(5, NOW.date()), "x"), Load(hour(4, NOW.date()), "x")) == [
        "hourly 21 05 1",
        "hourly 21 04 1",
    ]
    assert asked(dataclasses.replace(BUILT, counted=31), seen=False) == []
    assert asked(dataclasses.replace(ARCHIVED, counted=31), seen=False) == ["daily 20 00 24"]


def test_the_same_fact_has_the_same_key_and_another_one_another() -> None:
    """A load more, a number more: another key; the order in which they are found is of no account."""

    def keys(*ids: str, stored: int = 35) -> set[str]:
        unknown = {DAY: [(Load(hour(3), load_id), False) for load_id in ids]} if ids else {}
        late = dataclasses.replace(ARCHIVED, stored=stored, counted=30)
        return {ask.run_key for ask in late_work(NOW, [late], unknown, {}, [DAY])}

    assert keys("a", "b") == keys("b", "a")
    assert len(keys("a", "b") | keys("a") | keys() | keys(stored=36)) == 4
