"""Messages of a queue into the landing zone: what is durable there is taken off the queue, and nothing else is.

The order is the safety: decode, publish each hour's load durably, and only then delete messages. Whatever dies in
between is delivered again, and absorbed by the ids of its events. When a batch is refused and when its messages come
again is decided in batches.py, what stands in a message in messages.py, which loads a batch is in planning.py.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, Self

from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.intake.batches import batches, is_dead, refuses, visibility_seconds
from pathstats_pipeline.intake.dead_letters import LetterQueue, bury
from pathstats_pipeline.intake.ingest import IngestReport, Intake, ingest_file
from pathstats_pipeline.intake.lines import SourceError
from pathstats_pipeline.intake.logfiles import ObjectLogFile
from pathstats_pipeline.intake.messages import Content, Message, ObjectName, PoisonError, QueueError, content_of, weight
from pathstats_pipeline.intake.planning import PlannedLoad, plan
from pathstats_pipeline.intake.records import SourceRecords
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.landing import Landing, load_key
from pathstats_pipeline.storage.objects import MissingObjectError, ObjectsError, VersionedObjects

_NOT_DURABLE: Final = (ObjectsError, OSError)
"""How the landing zone says that it can't keep a load: no fault of any message."""


class MessageQueue(Protocol):
    """What is asked of a queue. Deleting and hiding tell how often they failed, and raise nothing."""

    @property
    def name(self) -> str:
        """For people."""

    def receive(self, most: int, *, hidden_seconds: int, wait_seconds: int = 0) -> list[Message]:
        """At most so many messages, hidden from others for a while; raises QueueError."""

    def delete(self, messages: Sequence[Message]) -> int:
        """Take messages off the queue."""

    def hide(self, seconds: Mapping[Message, int]) -> int:
        """Keep messages hidden for so long."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much is taken on at once: messages, bytes and seconds of a batch, and loads in flight.

    `hidden_seconds` is for how long received messages are kept from other consumers: longer than a batch takes.
    """

    messages: int = 100
    size_bytes: int = 16 * 1024 * 1024
    seconds: float = 5.0
    groups: int = 45
    hidden_seconds: int = 900

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The bounds that the settings give."""
        return cls(
            settings.sqs_batch_messages,
            settings.sqs_batch_bytes,
            settings.sqs_batch_seconds,
            settings.sqs_groups,
            settings.sqs_hidden_seconds,
        )


@dataclasses.dataclass
class DrainReport:
    """What became of messages, and of the lines in them.

    received = acknowledged + unacknowledged + retried + dead. The unacknowledged are durable, but the queue would not
    let them go; `refused` are those of `retried` that came in a refused batch without a fault of their own. `stored`
    and `rejected` lines are durable, now or from an earlier delivery: what came twice is counted by the warehouse.
    """

    received: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    retried: int = 0
    refused: int = 0
    refused_batches: int = 0
    dead: int = 0
    stored: int = 0
    rejected: int = 0
    objects: int = 0
    landing_failed: bool = False
    oldest_sent_at: dt.datetime | None = None
    hours: set[dt.datetime] = dataclasses.field(default_factory=set)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class _Outcome:
    """What a batch came to. By message: why it is poison, or what kept it, through no fault of its own."""

    poison: dict[Message, str] = dataclasses.field(default_factory=dict)
    kept_back: dict[Message, str] = dataclasses.field(default_factory=dict)
    published: list[PlannedLoad] = dataclasses.field(default_factory=list)
    ingested: list[IngestReport] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> dict[Message, str]:
        return {**self.kept_back, **self.poison}


@dataclasses.dataclass(frozen=True)
class Consumer:
    """Takes messages off a queue, batch by batch.

    `bury` puts a poisonous message among the dead letters with the reason, durably; without it, poison stays in the
    queue. `ingest_object` takes in a log file on S3. `first_hour` and `clock` (naive UTC) bound the times of events;
    `retry_seconds` says how long a message stays hidden after so many failed attempts.
    """

    queue: MessageQueue
    landing: Landing
    ingest_object: Callable[[ObjectName], IngestReport]
    bury: Callable[[Message, str], None] | None
    first_hour: dt.datetime
    clock: Callable[[], dt.datetime]
    bounds: Bounds = Bounds()
    retry_seconds: Callable[[int], int] = visibility_seconds

    def drain(self, keep_on: Callable[[], bool]) -> DrainReport:
        """Take batches until the queue gives none, the landing zone fails, or `keep_on` says no.

        Raises QueueError when the queue can't be asked.
        """
        report = DrainReport()
        with concurrent.futures.ThreadPoolExecutor(self.bounds.groups, thread_name_prefix="landing") as pool:
            while keep_on() and not report.landing_failed and (messages := self._gather()):
                report.received += len(messages)
                oldest = [report.oldest_sent_at, *(message.sent_at for message in messages)]
                report.oldest_sent_at = min(filter(None, oldest))
                copies: dict[str, list[Message]] = {}
                for message in messages:
                    copies.setdefault(message.identity, []).append(message)
                for batch in self._batches(same[-1] for same in copies.values()):
                    self._settle(batch, self._take(batch, pool), copies, report)
        return report

    def _gather(self) -> list[Message]:
        """Messages until there are enough, by number, bytes or seconds."""
        bounds, started, size = self.bounds, self.clock(), 0
        found: list[Message] = []
        while len(found) < bounds.messages and size < bounds.size_bytes:
            wait_seconds = 0 if found else 1
            fresh = self.queue.receive(
                bounds.messages - len(found), hidden_seconds=bounds.hidden_seconds, wait_seconds=wait_seconds
            )
            found += fresh
            size += sum(map(weight, fresh))
            if not fresh or (self.clock() - started).total_seconds() >= bounds.seconds:
                break
        return found

    def _batches(self, messages: Iterable[Message]) -> Iterable[list[Message]]:
        """Messages, none of them twice, in batches: those that were delivered before in smaller company."""
        by_identity = {message.identity: message for message in messages}
        refusals = {identity: message.receives - 1 for identity, message in by_identity.items()}
        for identities in batches(refusals, by_identity, self.bounds.messages):
            yield from self._of_size([by_identity[identity] for identity in identities])

    def _of_size(self, batch: Sequence[Message]) -> Iterator[list[Message]]:
        """A batch, cut where its messages would be too many bytes at once."""
        part: list[Message] = []
        size = 0
        for message in batch:
            if part and size + weight(message) > self.bounds.size_bytes:
                yield part
                part, size = [], 0
            part.append(message)
            size += weight(message)
        if part:
            yield part

    def _take(self, batch: Sequence[Message], pool: concurrent.futures.Executor) -> _Outcome:
        """Do with a batch what can be done, and take it back where that is too little."""
        outcome, contents = _Outcome(), dict[Message, Content]()
        for message in batch:
            try:
                contents[message] = content_of(message.body)
            except PoisonError as error:
                outcome.poison[message] = str(error)
        with_lines = [(message, content) for message, content in contents.items() if content.lines]
        planned = plan(with_lines, f"sqs://{self.queue.name}", self.first_hour, self.clock())
        outcome.poison |= {with_lines[at][0]: f"holds no event: {reason}" for at, reason in planned.barren.items()}
        if refuses(len(outcome.failed), len(batch)):
            return outcome
        messages = [message for message, _ in with_lines]
        self._publish([load for load in planned.loads if not load.rejected], messages, outcome, pool)
        for message, content in contents.items():
            self._ingest(message, content, outcome)
        if not refuses(len(outcome.failed), len(batch)):
            # Last, for they are never taken back: another consumer may have found them there, and rely on them.
            self._publish([load for load in planned.loads if load.rejected], messages, outcome, pool)
        if refuses(len(outcome.failed), len(batch)):
            self._take_back(outcome)
        return outcome

    def _publish(
        self,
        loads: Sequence[PlannedLoad],
        messages: Sequence[Message],
        outcome: _Outcome,
        pool: concurrent.futures.Executor,
    ) -> None:
        """Publish loads, at most `groups` at once; one that fails keeps back the messages that have rows in it."""
        futures = [(load, pool.submit(self._publish_one, load)) for load in loads]
        for load, future in futures:
            try:
                future.result()
            except _NOT_DURABLE as error:
                outcome.kept_back |= {messages[at]: str(error) for at in load.messages}
            else:
                outcome.published.append(load)

    def _publish_one(self, planned: PlannedLoad) -> None:
        self.landing.mark_day(planned.load.hour.date())
        self.landing.publish(planned.load, planned.rows, rejected=planned.rejected)

    def _ingest(self, message: Message, content: Content, outcome: _Outcome) -> None:
        """Take in the log files that a message tells of. Their own records make that safe to be done again."""
        for name in content.objects:
            try:
                outcome.ingested.append(self.ingest_object(name))
            except SourceError as error:
                whose = outcome.kept_back if _is_of_the_store(error) else outcome.poison
                whose[message] = str(error)
            except _NOT_DURABLE as error:
                outcome.kept_back[message] = str(error)

    def _take_back(self, outcome: _Outcome) -> None:
        """Leave no event of a refused batch in the landing zone. What can't be removed is absorbed when it comes again.

        Log files stay: they are whole, whatever became of the messages beside theirs.
        """
        for planned in outcome.published:
            if not planned.rejected:
                with contextlib.suppress(*_NOT_DURABLE):
                    self.landing.objects.delete(load_key(planned.load))
        outcome.published.clear()

    def _settle(
        self, batch: Sequence[Message], outcome: _Outcome, copies: Mapping[str, Sequence[Message]], report: DrainReport
    ) -> None:
        """Answer each message, and each copy of it: delete it, bury it, or hide it until it is tried again."""
        failed, is_refused = outcome.failed, refuses(len(outcome.failed), len(batch))
        dead = {message for message in outcome.poison if is_dead(message.receives) and self._buried(message, outcome)}
        durable, buried, again, innocent = list[Message](), list[Message](), dict[Message, int](), 0
        for message in batch:
            if message in dead:
                buried += copies[message.identity]
            elif message in failed or is_refused:
                # Attempts are charged to the message that failed; others of a refused batch come again as after one.
                seconds = self.retry_seconds(message.receives - 1 if message in failed else 0)
                again |= dict.fromkeys(copies[message.identity], seconds)
                innocent += message not in failed
            else:
                durable += copies[message.identity]
        unacknowledged = self.queue.delete(durable)
        self.queue.delete(buried)
        self.queue.hide(again)
        report.acknowledged += len(durable) - unacknowledged
        report.unacknowledged += unacknowledged
        report.retried += len(again)
        report.dead += len(buried)
        report.refused += innocent
        report.refused_batches += is_refused
        report.landing_failed |= bool(outcome.kept_back)
        report.reasons.update(failed.values())
        self._count(outcome, report)

    def _buried(self, message: Message, outcome: _Outcome) -> bool:
        """Whether a message is among the dead letters now; one that can't be put there is tried again."""
        if self.bury is None:
            return False
        try:
            self.bury(message, outcome.poison[message])
        except QueueError as error:
            outcome.poison[message] = str(error)
            return False
        return True

    @staticmethod
    def _count(outcome: _Outcome, report: DrainReport) -> None:
        for planned in outcome.published:
            if planned.rejected:
                report.rejected += len(planned.rows)
            else:
                report.stored += len(planned.rows)
        report.objects += len(outcome.ingested)
        report.stored += sum(each.accepted for each in outcome.ingested)
        report.rejected += sum(each.rejected for each in outcome.ingested)
        report.hours |= {planned.load.hour for planned in outcome.published}
        report.hours |= {hour for each in outcome.ingested for hour in each.hours}


def _is_of_the_store(error: SourceError) -> bool:
    """Whether a log file couldn't be read because its store couldn't be asked, not because of what it holds."""
    cause = error.__cause__
    return isinstance(cause, ObjectsError) and not isinstance(cause, MissingObjectError)


def consumer_of(
    queues: tuple[MessageQueue, LetterQueue | None],
    landing: Landing,
    bucket: Callable[[str], VersionedObjects],
    first_hour: dt.datetime,
    clock: Callable[[], dt.datetime],
    lock: Callable[[], contextlib.AbstractContextManager[object]],
    bounds: Bounds,
) -> Consumer:
    """Who takes messages off a queue into the landing zone, and poison to its dead letters where there are any.

    `bucket` gives the objects of a bucket by its name, for messages that name a log file; `lock` holds the intake
    alone while one is read, as every other intake does.
    """
    queue, letters = queues
    return Consumer(
        queue=queue,
        landing=landing,
        ingest_object=object_ingester(landing, bucket, first_hour, clock, lock),
        bury=(lambda message, reason: bury(letters, message, reason, clock())) if letters else None,
        first_hour=first_hour,
        clock=clock,
        bounds=bounds,
    )


def object_ingester(
    landing: Landing,
    bucket: Callable[[str], VersionedObjects],
    first_hour: dt.datetime,
    clock: Callable[[], dt.datetime],
    lock: Callable[[], contextlib.AbstractContextManager[object]],
) -> Callable[[ObjectName], IngestReport]:
    """Takes in a log file on S3, whatever its format; `lock` holds the intake alone, as every other intake does."""
    records = SourceRecords(landing)

    def ingest_object(name: ObjectName) -> IngestReport:
        intake = Intake(landing, first_hour, clock(), detect)
        with lock():
            records.refresh()
            return ingest_file(ObjectLogFile(bucket(name.bucket), name.key), intake, records)

    return ingest_object
