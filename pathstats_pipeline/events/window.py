"""Hours, days and windows in UTC, half-open; the keys that partitions and the landing zone use.

Naive datetimes here are UTC: that is how DuckDB and Polars hold them. Nothing in this file reads a clock.
"""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Self

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@dataclasses.dataclass(frozen=True, order=True)
class Window:
    """A half-open span of time `[start, end)`, naive UTC."""

    start: dt.datetime
    end: dt.datetime

    @classmethod
    def of_hour(cls, hour: dt.datetime) -> Self:
        """The window of the hour that starts at `hour`."""
        return cls(hour, hour + HOUR)

    @classmethod
    def of_day(cls, day: dt.date) -> Self:
        """The window of a UTC day."""
        start = dt.datetime.combine(day, dt.time())
        return cls(start, start + DAY)

    def hours(self) -> Iterator[dt.datetime]:
        """Every hour of the window, in order."""
        hour = self.start
        while hour < self.end:
            yield hour
            hour += HOUR

    def days(self) -> Iterator[dt.date]:
        """Every day that the window touches, in order."""
        day = self.start.date()
        while dt.datetime.combine(day, dt.time()) < self.end:
            yield day
            day += DAY


def runs_of_days(days: Iterable[dt.date]) -> list[Window]:
    """The days as windows, one for each run of consecutive days, in order."""
    runs: list[Window] = []
    for day in sorted(set(days)):
        window = Window.of_day(day)
        if runs and runs[-1].end == window.start:
            window = Window(runs.pop().start, window.end)
        runs.append(window)
    return runs


def naive_utc(moment: dt.datetime) -> dt.datetime:
    """The same moment as a naive UTC datetime; a naive one is taken as UTC."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def rfc3339(moment: dt.datetime) -> str:
    """A naive UTC moment as RFC 3339 with `Z` and microseconds."""
    return moment.isoformat(timespec="microseconds") + "Z"


def from_rfc3339(text: str) -> dt.datetime:
    """The naive UTC moment that `rfc3339` wrote."""
    return naive_utc(dt.datetime.fromisoformat(text))
