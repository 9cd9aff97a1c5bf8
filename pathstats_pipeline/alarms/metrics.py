"""What is measured, by name, and how it is said to Prometheus. Pure: facts in, samples out.

All are gauges, since they are counted anew each time, and may go down when a warehouse is rebuilt. Add a metric here
with its meaning, and to the table in docs/operations.md, which a test holds to this.
"""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily

from pathstats_pipeline.archive.status import DayFacts, DayState, Status
from pathstats_pipeline.events.window import DAY, Window

PARTS: Final = ("warehouse", "disk", "queue", "dagster")
"""What is asked for itself: where one can't be asked, its last values stay, with the time they are of."""

METRICS: Final[Mapping[str, str]] = {
    "pathstats_facts_timestamp_seconds": "when the values of this part were asked for; of a part that was never, none",
    "pathstats_archive_events": "events in committed generations",
    "pathstats_archive_bytes": "size of the archive's objects",
    "pathstats_archive_generations": "committed generations",
    "pathstats_archive_last_verified_timestamp_seconds": "when a generation was last read back and committed",
    "pathstats_archive_waiting_events": "events of days that are over, which no generation covers",
    "pathstats_archive_oldest_unarchived_day_timestamp_seconds": "the oldest day that is over and isn't archived whole",
    "pathstats_archive_oldest_unarchived_day_age_seconds": "time since the end of that day; 0 where there is none",
    "pathstats_landing_unloaded_files": "files in the landing zone that the ledger doesn't know",
    "pathstats_landing_oldest_unloaded_hour_age_seconds": "time since the end of the oldest hour that has such; else 0",
    "pathstats_days": "days by state, as in `pathstats status`",
    "pathstats_held_days": "days on hold",
    "pathstats_ledger_problems": "numbers that don't add up; `pathstats status` names them",
    "pathstats_hot_store_events": "events in the warehouse",
    "pathstats_hot_store_bytes": "size of the warehouse's file",
    "pathstats_received_lines": "lines and rows that ever came",
    "pathstats_rejected_lines": "lines that could not become events",
    "pathstats_rejected_ratio": "share of the lines of today and yesterday that could not become events",
    "pathstats_statistics_newest_hour_timestamp_seconds": "the newest hour that has statistics",
    "pathstats_disk_free_bytes": "free space where the warehouse is, for us",
    "pathstats_queue_messages": "messages by state: waiting, hidden, dead",
    "pathstats_queue_last_drain_timestamp_seconds": "when the last drain ended: the consumer's heartbeat",
    "pathstats_queue_oldest_message_age_seconds": "how old the oldest message of the last drain was at its end",
    "pathstats_automation_last_tick_timestamp_seconds": "when a sensor was last evaluated; that of Dagster's daemon",
    "pathstats_runs_failed": "runs that failed within the last day",
    "pathstats_runs_unfinished": "runs that wait or are under way",
}
_LABELS: Final = {
    "pathstats_facts_timestamp_seconds": "part",
    "pathstats_days": "state",
    "pathstats_queue_messages": "state",
    "pathstats_automation_last_tick_timestamp_seconds": "sensor",
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """A value of a metric; `label` where the metric has one."""

    name: str
    value: float
    label: str = ""


@dataclasses.dataclass(eq=False)
class Board:
    """The last known values of each part, and when they were asked for; and why a part can't be asked now."""

    parts: dict[str, tuple[dt.datetime, Sequence[Sample]]] = dataclasses.field(default_factory=dict)

    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def put(self, part: str, samples: Iterable[Sample], now: dt.datetime) -> None:
        """Replace the values of a part, all at once: a scrape in another thread sees the old ones or the new."""
        self.parts[part] = now, tuple(samples)
        self.problems.pop(part, None)

    def is_new(self, part: str, problem: str) -> bool:
        """Whether it wasn't this problem the last time."""
        known, self.problems[part] = self.problems.get(part), problem
        return known != problem

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, as a registry of prometheus_client asks for them."""
        parts = dict(self.parts)
        asked = [Sample("pathstats_facts_timestamp_seconds", epoch(at), part) for part, (at, _) in parts.items()]
        samples = [*asked, *(sample for _, of_part in parts.values() for sample in of_part)]
        for name, text in METRICS.items():
            if found := [sample for sample in samples if sample.name == name]:
                family = GaugeMetricFamily(name, text, labels=[_LABELS[name]] if name in _LABELS else [])
                for sample in found:
                    family.add_metric([sample.label] if name in _LABELS else [], sample.value)
                yield family


def epoch(moment: dt.datetime) -> float:
    """A naive time in UTC as Prometheus has it."""
    return moment.replace(tzinfo=dt.UTC).timestamp()


def of_warehouse(
    status: Status, archives: Iterable[Mapping[str, Any]], newest_hour: dt.datetime | None, file_bytes: int
) -> Iterator[Sample]:
    """What the ledger and the tables say."""
    generations, totals = list(archives), status.totals()
    yield Sample("pathstats_archive_events", sum(row["rows"] for row in generations))
    yield Sample("pathstats_archive_bytes", sum(row["bytes"] for row in generations))
    yield Sample("pathstats_archive_generations", len(generations))
    if generations:
        verified = max(row["verified_at"] for row in generations)
        yield Sample("pathstats_archive_last_verified_timestamp_seconds", epoch(verified))
    yield from _unarchived(totals["oldest_unarchived_day"], status)
    if status.unloaded is not None:
        yield Sample("pathstats_landing_unloaded_files", totals["unloaded"])
        age = _age(totals["oldest_unloaded_hour"], status.now)
        yield Sample("pathstats_landing_oldest_unloaded_hour_age_seconds", age)
    states = [day.state(status.now) for day in status.days]
    yield from (Sample("pathstats_days", states.count(state), state.value) for state in DayState)
    yield Sample("pathstats_held_days", len(totals["holds"]))
    yield Sample("pathstats_ledger_problems", len(status.problems()))
    yield Sample("pathstats_hot_store_events", totals["live"])
    yield Sample("pathstats_hot_store_bytes", file_bytes)
    yield Sample("pathstats_received_lines", totals["received"])
    yield Sample("pathstats_rejected_lines", totals["rejected"])
    yield Sample("pathstats_rejected_ratio", _rejected_share(status.days, status.now.date() - DAY))
    if newest_hour is not None:
        yield Sample("pathstats_statistics_newest_hour_timestamp_seconds", epoch(newest_hour))


def _unarchived(oldest: dt.date | None, status: Status) -> Iterator[Sample]:
    waiting = sum(day.waiting for day in status.days if Window.of_day(day.date).end <= status.now)
    yield Sample("pathstats_archive_waiting_events", waiting)
    if oldest is not None:
        start = epoch(Window.of_day(oldest).start)
        yield Sample("pathstats_archive_oldest_unarchived_day_timestamp_seconds", start)
    age = (status.now - Window.of_day(oldest).end).total_seconds() if oldest is not None else 0.0
    yield Sample("pathstats_archive_oldest_unarchived_day_age_seconds", age)


def _age(hour: dt.datetime | None, now: dt.datetime) -> float:
    """Since the end of an hour; 0 for one that isn't over."""
    return max((now - Window.of_hour(hour).end).total_seconds(), 0.0) if hour is not None else 0.0


def _rejected_share(days: Iterable[DayFacts], since: dt.date) -> float:
    recent = [day for day in days if day.date >= since]
    received = sum(day.received for day in recent)
    return sum(day.rejected for day in recent) / received if received else 0.0
