"""What is known of the drains of a queue: a record of each in the landing zone, and two verdicts on them.

A record is written whoever drained, a run or a command, on whichever machine: it is the heartbeat of the consumer.
"""

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from typing import Any, Final, Self

from pathstats_pipeline.events.window import from_rfc3339, rfc3339
from pathstats_pipeline.intake.consumer import Consumer, DrainReport
from pathstats_pipeline.storage.landing import Landing

_FOLDER: Final = "_queue/drains/"
_FIRST_SEEN: Final = "_queue/waiting-since"
KEPT: Final = 100
"""Records that stay; older ones are removed by the next drain."""


@dataclasses.dataclass(frozen=True)
class Drain:
    """A drain that has ended: when, and what became of messages. Times are naive UTC."""

    started_at: dt.datetime
    ended_at: dt.datetime
    received: int
    acknowledged: int
    unacknowledged: int
    retried: int
    refused: int
    dead: int
    stored: int
    rejected: int
    oldest_sent_at: dt.datetime | None

    @classmethod
    def of(cls, report: DrainReport, started_at: dt.datetime, ended_at: dt.datetime) -> Self:
        """The record of a report."""
        own = {field.name for field in dataclasses.fields(cls)} - {"started_at", "ended_at"}
        return cls(started_at, ended_at, **{name: getattr(report, name) for name in own})

    @property
    def key(self) -> str:
        """Where the record stands; records sort by their end."""
        return f"{_FOLDER}{rfc3339(self.ended_at)}.json"

    def to_json(self) -> bytes:
        """The record as it stands in the landing zone."""
        document = dataclasses.asdict(self)
        return json.dumps(
            {name: rfc3339(value) if isinstance(value, dt.datetime) else value for name, value in document.items()}
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a record back."""
        document: dict[str, Any] = json.loads(text)
        times = {name: from_rfc3339(value) for name, value in document.items() if name.endswith("_at") and value}
        return cls(**{**document, **times})


def record(landing: Landing, drain: Drain) -> None:
    """Write a record, and remove those that are too many; raises ObjectsError."""
    landing.objects.put(drain.key, drain.to_json())
    for key in landing.objects.list(_FOLDER)[:-KEPT]:
        landing.objects.delete(key)


def drain(consumer: Consumer, keep_on: Callable[[], bool]) -> tuple[Drain, DrainReport]:
    """Drain the consumer's queue, and leave a record of it; raises QueueError or, without a record, ObjectsError."""
    started = consumer.clock()
    report = consumer.drain(keep_on)
    done = Drain.of(report, started, consumer.clock())
    record(consumer.landing, done)
    return done, report


def last_drain(landing: Landing) -> Drain | None:
    """The newest record; None where there is none yet. Raises ObjectsError."""
    keys = landing.objects.list(_FOLDER)
    text = landing.objects.get(keys[-1]) if keys else None
    return Drain.from_json(text) if text else None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether all is well, and why or why not."""

    passed: bool
    reason: str


def judge_backlog(waiting: int, most: int) -> Verdict:
    """Whether more messages wait than is usual."""
    return Verdict(waiting <= most, f"{waiting} message(s) wait; more than {most} are an alarm")


def waiting_since(landing: Landing, now: dt.datetime) -> dt.datetime:
    """When messages of a queue that was never drained were seen to wait for the first time; raises ObjectsError."""
    if landing.objects.put(_FIRST_SEEN, rfc3339(now).encode()):
        return now
    return from_rfc3339((landing.objects.get(_FIRST_SEEN) or b"").decode())


def heartbeat(landing: Landing, waiting: int, now: dt.datetime, silence: dt.timedelta) -> tuple[Verdict, Drain | None]:
    """The verdict on the consumer of a landing zone, and the last drain; raises ObjectsError."""
    last = last_drain(landing)
    first_seen = waiting_since(landing, now) if waiting and last is None else now
    return judge_heartbeat(waiting, last, first_seen, now, silence), last


def judge_heartbeat(
    waiting: int, last: Drain | None, first_seen: dt.datetime, now: dt.datetime, silence: dt.timedelta
) -> Verdict:
    """Whether the consumer lives: it may be silent for so long while messages wait, and for ever while none does.

    `first_seen` is when messages were seen to wait, where there was no drain yet.
    """
    if not waiting:
        return Verdict(passed=True, reason="no message waits")
    since = now - (last.ended_at if last else first_seen)
    minutes = since.total_seconds() / 60
    what = f"the last drain ended {minutes:.0f} minute(s) ago" if last else f"no drain yet, for {minutes:.0f} minute(s)"
    return Verdict(since <= silence, f"{waiting} message(s) wait; {what}")
