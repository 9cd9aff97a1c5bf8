"""Following a place where log files are dropped: what changed there is ingested, each line once.

The watcher remembers only in memory which version of each file it has seen, to leave alone what didn't change; that
no line comes twice is the business of the records (sources.py), so nothing is lost with it. Reading the clock, waiting
and printing are its caller's.
"""

import collections
import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Final, Protocol

from pathstats_pipeline.intake.ingest import IngestReport, Intake, ingest_file
from pathstats_pipeline.intake.lines import SourceError, SourceGoneError
from pathstats_pipeline.intake.logfiles import SETTLED_AFTER
from pathstats_pipeline.intake.places import Found, Place, Stamp
from pathstats_pipeline.intake.records import SourceRecords
from pathstats_pipeline.storage.duck import Turn, WarehouseError
from pathstats_pipeline.storage.landing import LandingError
from pathstats_pipeline.storage.objects import ObjectsError

HOLD: Final = dt.timedelta(seconds=10)
"""How long the intake is held before others get their turn."""
PASS: Final = dt.timedelta(minutes=1)
"""How long a pass goes on: then it is told what was done so far, and what is the newest state of the place."""
REFRESH: Final = dt.timedelta(minutes=5)
"""How old the records may get while nobody on this machine ingests: files move between hosts, too."""
PAUSE_SECONDS: Final = 0.2
"""Between two turns: longer than others, who wait for the lock, need to see that it is free."""
FIRST_RETRY: Final = dt.timedelta(minutes=1)
LAST_RETRY: Final = dt.timedelta(hours=1)
"""A file that couldn't be read and didn't change is tried again after ever longer times: a server may be back."""


class Stop(Protocol):
    """Whether and when to stop."""

    def asked(self) -> bool:
        """Whether to stop after the file in hand."""

    def wait(self, seconds: float) -> bool:
        """Wait; early where it is asked to stop. Whether it is."""


@dataclasses.dataclass
class PassReport:
    """What a pass did, in sums over its files; `told` are the problems that were not told before.

    `unread` files are left with a problem; `stuck` says why nothing could be kept in the landing zone. With `more`, its
    time was up, or it was asked to stop, before all that had changed was ingested.
    """

    files: int = 0
    lines: int = 0
    accepted: int = 0
    rejected: int = 0
    unfinished: int = 0
    hours: set[dt.datetime] = dataclasses.field(default_factory=set)
    told: list[str] = dataclasses.field(default_factory=list)
    unread: int = 0
    stuck: str | None = None
    more: bool = False

    def add(self, report: IngestReport) -> None:
        """Count a file that had something new."""
        if report.loads or report.accepted or report.rejected:
            self.files += 1
            self.lines += report.accepted + report.rejected
            self.accepted += report.accepted
            self.rejected += report.rejected
            self.hours |= report.hours
        self.unfinished += report.unfinished


@dataclasses.dataclass(frozen=True, slots=True)
class _Later:
    """When a file is looked at again, though it doesn't change; and, where it couldn't be read, why."""

    due: dt.datetime
    problem: str = ""
    tries: int = 0


class Watcher:
    """Follows one place.

    `lock` gives the intake to one process at a time, and raises WarehouseError after a moment where another has it;
    `clock` is naive UTC.
    """

    def __init__(
        self,
        place: Place,
        intake: Intake,
        lock: Callable[[], contextlib.AbstractContextManager[Turn]],
        clock: Callable[[], dt.datetime],
        stop: Stop,
    ) -> None:
        self._place, self._intake, self._lock, self._clock, self._stop = place, intake, lock, clock, stop
        self._records = SourceRecords(intake.landing)
        self._turn, self._refreshed = "", dt.datetime.min  # noqa: DTZ901 - naive UTC
        self._stamps: dict[str, Stamp] = {}
        self._later: dict[str, _Later] = {}
        self._told: dict[str, str] = {}

    def look(self) -> PassReport:
        """One pass: list the place, ingest what changed; as much of it as can be done in its time."""
        report = PassReport()
        changed = self._changed(report)
        end = self._clock() + PASS
        try:
            while changed and not self._stop.asked() and self._clock() < end:
                self._take_turn(changed, report)
            report.more = bool(changed)
        except (ObjectsError, LandingError, OSError) as error:
            # Not of a file, but of the landing zone: the rest of the pass would fail like this.
            report.stuck = f"cannot ingest: {error}"
            self._tell("", report.stuck, report)
        else:
            self._told.pop("", None)
        report.unread += sum(1 for later in self._later.values() if later.problem)
        return report

    def _changed(self, report: PassReport) -> collections.deque[Found]:
        """The files that are to be read; what is gone is forgotten."""
        now = self._clock()
        changed: collections.deque[Found] = collections.deque()
        stamps: dict[str, Stamp] = {}
        troubles = set()
        for found in self._place.find():
            if found.problem:
                troubles.add(found.name)
                report.unread += 1
                self._tell(found.name, found.problem, report)
                continue
            later = self._later.get(found.name)
            stamp = self._stamps.get(found.name)
            if stamp is not None:
                stamps[found.name] = stamp
            if stamp != found.stamp or (later is not None and later.due <= now):
                changed.append(found)
        # Where a part of the place can't be listed, what was there isn't gone.
        self._stamps = {**self._stamps, **stamps} if troubles else stamps
        if not troubles:
            self._later = {name: later for name, later in self._later.items() if name in stamps}
        self._told = {
            name: text for name, text in self._told.items() if name in troubles or name in self._stamps or not name
        }
        return changed

    def _take_turn(self, changed: collections.deque[Found], report: PassReport) -> None:
        """Ingest for a while, then let others; nothing, where others have the intake."""
        with contextlib.suppress(WarehouseError), self._lock() as turn:
            self._keep_current(turn)
            end = self._clock() + HOLD
            while changed and not self._stop.asked() and self._clock() < end:
                self._take(changed[0], report)
                changed.popleft()
        if changed:
            self._stop.wait(PAUSE_SECONDS)

    def _keep_current(self, turn: Turn) -> None:
        """Read the records of others, unless nobody had the intake since this watcher did."""
        now = self._clock()
        if turn.before != self._turn or now - self._refreshed >= REFRESH:
            self._turn = ""
            self._records.refresh()
            self._refreshed = now
        self._turn = turn.name

    def _take(self, found: Found, report: PassReport) -> None:
        now = self._clock()
        log_file = self._place.log_file(found.name)
        try:
            ingested = ingest_file(log_file, dataclasses.replace(self._intake, now=now), self._records)
        except SourceGoneError:
            return  # if it comes back, it is found again
        except SourceError as error:
            self._stamps[found.name] = found.stamp
            self._put_off(found.name, str(error), report, now, growing=log_file.may_grow(now))
            return
        self._stamps[found.name] = found.stamp
        self._later.pop(found.name, None)
        self._told.pop(found.name, None)
        if ingested.unfinished:
            self._later[found.name] = _Later(now + SETTLED_AFTER)
        report.add(ingested)

    def _put_off(self, name: str, problem: str, report: PassReport, now: dt.datetime, *, growing: bool) -> None:
        """Try a file again later; what is still being written is no problem yet."""
        if growing:
            self._later[name] = _Later(now + SETTLED_AFTER)
            return
        before = self._later.get(name)
        tries = before.tries if before else 0
        due = now + min(FIRST_RETRY * 2 ** min(tries, 10), LAST_RETRY)
        self._later[name] = _Later(due, problem, tries + 1)
        self._tell(name, problem, report)

    def _tell(self, name: str, problem: str, report: PassReport) -> None:
        """Tell a problem unless it was the last that was told of this name."""
        if self._told.get(name) != problem:
            self._told[name] = problem
            report.told.append(problem)
