"""How each day stands: what came, what is here, what is archived, what waits; and whether the numbers add up. Pure.

The facts are counted in the warehouse (storage/overview.py) and listed in the landing zone, without a look at the
archive: that is `pathstats verify`'s.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pathstats_pipeline.archive.lifecycle import Retention, deletable_from
from pathstats_pipeline.events.window import Window


class DayState(enum.StrEnum):
    """How far a day has come."""

    OPEN = "open"
    """It isn't over."""
    UNLOADED = "unloaded"
    """It is over, and files of it stand in the landing zone that aren't loaded yet, or can't be."""
    EMPTY = "empty"
    """It brought no event."""
    UNARCHIVED = "unarchived"
    """It is over, and none of its events is in a generation."""
    ARCHIVING = "archiving"
    """A generation was begun, and isn't committed: a run is at it, or has died and goes on when it runs again."""
    LATE = "late"
    """It is archived, but for loads that came since."""
    ARCHIVED = "archived"
    """Every event is in a generation; all of them are in the warehouse, too."""
    DELETING = "deleting"
    """Some archived events are deleted, and some not yet."""
    CLEANED = "cleaned"
    """Every event is in a generation, and none is in the warehouse."""


@dataclasses.dataclass(frozen=True)
class DayFacts:
    """What the warehouse counts of a day.

    `stored`, `duplicates`, `rejected` and `deleted` are the ledger's; `live` are the rows of the event table;
    `archived` the events of committed generations, `unfinished` how many generations were begun and aren't committed.
    `counted` and `counted_daily` are the requests of the hourly and the daily statistics, None where there are none.
    `verified_at` is when the last recorded generation was read back. `unloaded` are files in the landing zone that the
    ledger doesn't know; 0 where nobody has listed them.
    """

    date: dt.date
    loads: int
    stored: int
    duplicates: int
    rejected: int
    deleted: int
    live: int
    generations: int
    archived: int
    unfinished: int
    counted: int | None
    counted_daily: int | None
    hold: str | None = None
    verified_at: dt.datetime | None = None
    unloaded: int = 0

    @classmethod
    def of_nothing(cls, date: dt.date) -> Self:
        """A day of which the warehouse knows nothing."""
        return cls(date, 0, 0, 0, 0, 0, 0, 0, 0, 0, None, None)

    @property
    def received(self) -> int:
        """Lines and rows that came, whatever became of them."""
        return self.stored + self.duplicates + self.rejected

    @property
    def waiting(self) -> int:
        """Events that no generation covers."""
        return max(self.stored - self.archived, 0)

    def state(self, now: dt.datetime) -> DayState:
        """How far the day has come."""
        is_over = Window.of_day(self.date).end <= now
        by_archive = {
            DayState.OPEN: not is_over,
            DayState.UNLOADED: self.unloaded > 0,
            DayState.ARCHIVING: self.unfinished > 0,
            DayState.EMPTY: self.stored == 0,
            DayState.UNARCHIVED: self.generations == 0,
            DayState.LATE: self.waiting > 0,
            DayState.ARCHIVED: self.deleted == 0,
            DayState.DELETING: self.live > 0,
        }
        return next((state for state, holds in by_archive.items() if holds), DayState.CLEANED)

    def under(self, retention: Retention) -> Retention:
        """The retention as it holds for this day, with its hold."""
        held = {self.date: self.hold} if self.hold is not None else {}
        return dataclasses.replace(retention, held=held)

    def deletable_from(self, retention: Retention) -> dt.datetime | None:
        """From when on clean-up may delete what is archived of it; None where a hold keeps it, or nothing is left."""
        if not self.live and not self.unloaded:
            return None
        return deletable_from(self.date, self.under(retention), self.verified_at)

    def problems(self) -> list[str]:
        """Where the numbers don't add up, in words."""
        found = []
        if self.stored != self.live + self.deleted:
            found.append(
                f"{self.date}: the ledger has {self.stored} events stored, but {self.live} are in the warehouse and "
                f"{self.deleted} deleted"
            )
        if self.deleted > self.archived:
            found.append(f"{self.date}: {self.deleted} events are deleted, but {self.archived} archived")
        return found


@dataclasses.dataclass(frozen=True)
class Status:
    """All days, the rows of `rejected_events`, and the clock.

    `unloaded` are the hours of which files stand in the landing zone that the ledger doesn't know, and how many; None
    where nobody could list them.
    """

    days: Sequence[DayFacts]
    rejected_rows: int
    now: dt.datetime
    unloaded: Mapping[dt.datetime, int] | None = None

    def problems(self) -> list[str]:
        """Where the numbers don't add up; nothing where stored = live + deleted, and so on, for every day."""
        found = [problem for day in self.days for problem in day.problems()]
        if (rejected := sum(day.rejected for day in self.days)) != self.rejected_rows:
            found.append(f"the ledger has {rejected} lines rejected, but rejected_events has {self.rejected_rows}")
        return found

    def overdue(self) -> Mapping[dt.date, int]:
        """Days that are over and have files which aren't loaded, and how many."""
        return {day.date: day.unloaded for day in self.days if day.state(self.now) is DayState.UNLOADED}

    def totals(self) -> Mapping[str, Any]:
        """The sums over all days, and the oldest day that is over and not archived as a whole."""
        names = ("received", "stored", "duplicates", "rejected", "live", "deleted", "archived", "waiting")
        behind = {DayState.UNLOADED, DayState.UNARCHIVED, DayState.ARCHIVING, DayState.LATE}
        return {
            **{name: sum(getattr(day, name) for day in self.days) for name in names},
            "unloaded": None if self.unloaded is None else sum(self.unloaded.values()),
            "oldest_unloaded_hour": min(self.unloaded or (), default=None),
            "oldest_unarchived_day": min(
                (day.date for day in self.days if day.state(self.now) in behind), default=None
            ),
            "holds": [day.date for day in self.days if day.hold is not None],
        }
