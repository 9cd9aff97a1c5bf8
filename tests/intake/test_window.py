"""Hours, days and RFC 3339, half-open and in UTC."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.events.window import HOUR, Window, from_rfc3339, naive_utc, rfc3339, runs_of_days

DAY = dt.date(2026, 3, 29)
"""The day on which clocks in Europe are put forward; UTC doesn't care."""


def test_a_day_has_24_hours_and_ends_where_the_next_begins() -> None:
    """Windows are half-open and touch each other, also where local clocks jump."""
    window = Window.of_day(DAY)
    hours = list(window.hours())
    assert len(hours) == 24
    assert Window.of_hour(hours[-1]).end == window.end == Window.of_day(DAY + dt.timedelta(days=1)).start
    assert list(window.days()) == [DAY]


def test_a_window_touches_the_days_it_has_a_moment_of() -> None:
    """The end is outside: a window up to midnight doesn't touch the next day."""
    start = Window.of_day(DAY).start
    assert list(Window(start + HOUR, start + 25 * HOUR).days()) == [DAY, DAY + dt.timedelta(days=1)]
    assert list(Window(start + HOUR, start + 24 * HOUR).days()) == [DAY]
    assert list(Window(start, start).hours()) == []


@given(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(9999, 1, 1)))
def test_rfc3339_keeps_every_microsecond(moment: dt.datetime) -> None:
    """Written and read back, a moment is the same; always with `Z` and six digits."""
    text = rfc3339(moment)
    assert len(text) == len("2026-03-29T00:00:00.000000Z")
    assert text.endswith("Z")
    assert from_rfc3339(text) == moment


@pytest.mark.parametrize("text", ["2026-03-29T02:30:00+02:00", "2026-03-29T00:30:00Z", "2026-03-28T19:30:00-05:00"])
def test_a_moment_with_an_offset_becomes_utc(text: str) -> None:
    """The same moment, however its clock was set."""
    assert naive_utc(dt.datetime.fromisoformat(text)) == Window.of_day(DAY).start + HOUR / 2


def test_days_become_runs_of_consecutive_days() -> None:
    """Days in any order, and twice, are one window each run; a gap of a day begins another."""
    days = [dt.date(2024, 3, 1), dt.date(2024, 2, 28), dt.date(2024, 2, 29), dt.date(2024, 3, 3), dt.date(2024, 3, 1)]

    first, second = runs_of_days(days)

    assert (first.start, first.end) == (dt.datetime(2024, 2, 28), dt.datetime(2024, 3, 2))
    assert (second.start, second.end) == (dt.datetime(2024, 3, 3), dt.datetime(2024, 3, 4))
    assert runs_of_days([]) == []
