"""The consumer against a real SQS server: exactly what is durable is acknowledged, and no innocent is punished."""

import contextlib
import dataclasses
import datetime as dt
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import pytest
from conftest import new_bucket, s3_client_of
from queues import (
    NOW,
    POISON,
    Queues,
    body,
    check_poison,
    consumer_of,
    deliveries,
    drain_to_the_end,
    event,
    good,
    gzipped,
    landing_at,
    paths_landed,
    total,
)

from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.consumer import Bounds, object_ingester
from pathstats_pipeline.intake.dead_letters import redrive
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.intake.messages import Message, QueueError
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import DirectoryObjects, ObjectsError, S3Objects
from pathstats_pipeline.storage.queue import SqsQueue
from pathstats_pipeline.storage.warehouse import open_warehouse

WINDOW = Window(dt.datetime(2026, 11, 2), dt.datetime(2026, 11, 3))


@pytest.fixture
def landing(tmp_path: pathlib.Path) -> Landing:
    """An empty landing zone in a directory."""
    return landing_at(tmp_path / "landing")


def test_every_kind_of_message_is_stored_and_deleted(queues: Queues, landing: Landing) -> None:
    """One event, many, gzip, S3's own test: afterwards the queue is empty, and so are the dead letters."""
    texts = {
        "one": body(event(1)),
        "many": body(event(2), event(3, hour=6)),
        "gzip": gzipped(body(event(4), event(5))),
        "test": '{"Event": "s3:TestEvent"}',
    }
    queues.send(texts.items())

    [report] = drain_to_the_end(consumer_of(queues, landing), queues)

    assert (report.received, report.acknowledged, report.stored, report.retried, report.dead) == (4, 4, 5, 0, 0)
    assert paths_landed(landing) == [f"/item/{number}" for number in range(1, 6)]
    assert queues.dead() == {}
    assert report.hours == {dt.datetime(2026, 11, 2, hour) for hour in (5, 6)}


def test_a_log_file_on_s3_is_read_when_it_is_told_of(
    queues: Queues, tmp_path: pathlib.Path, s3_server: LocalS3
) -> None:
    """Its lines land; told of twice they land once; one that isn't there is poison, and comes in by a redrive."""
    objects = S3Objects(s3_client_of(s3_server), new_bucket(s3_server))
    line = '10.0.0.1 - - [02/Nov/2026:05:00:0{} +0000] "GET /log{} HTTP/1.1" 200 5 "-" "curl"\n'
    objects.put("logs/a b.log", "".join(line.format(n, n) for n in range(5)).encode())
    news = '{{"Records": [{{"eventName": "ObjectCreated:Put", "s3": {{"bucket": {{"name": "{}"}}, "object": {{"key": "{}"}}}}}}]}}'  # noqa: E501
    landing = landing_at(tmp_path / "landing")
    ingest = object_ingester(
        landing,
        lambda bucket: S3Objects(objects.client, bucket),
        dt.datetime(2000, 1, 2),
        lambda: NOW,
        contextlib.nullcontext,
    )
    there, missing = (news.format(objects.bucket, key) for key in ("logs/a+b.log", "logs/later.log"))
    queues.send([("a", there), ("again", there), ("missing", missing)])
    consumer = consumer_of(queues, landing, ingest, bounds=Bounds(messages=1))

    reports = drain_to_the_end(consumer, queues)

    assert (total(reports, "stored"), total(reports, "acknowledged"), total(reports, "dead")) == (5, 2, 1)
    assert paths_landed(landing) == [f"/log{n}" for n in range(5)]
    objects.put("logs/later.log", line.format(9, 9).encode())
    assert redrive(queues.letters, queues.queue, 10) == 1
    drain_to_the_end(consumer, queues)
    assert "/log9" in paths_landed(landing)


@pytest.mark.parametrize(("share", "size"), [(0.01, 9), (0.1, 10), (0.3, 5), (0.3, 1)])
def test_m13_the_dead_letters_are_the_poison_and_nothing_else(
    queues: Queues, landing: Landing, share: float, size: int
) -> None:
    """M13: all good messages are stored, each once, and the dead letters are the poison with its bytes and reason."""
    check_poison(queues, landing, 40, share, size)


@pytest.mark.parametrize(("failed", "refused"), [(0, False), (1, False), (2, True), (10, True)])
def test_m12_a_batch_is_refused_above_a_tenth_and_then_leaves_nothing(
    queues: Queues, landing: Landing, failed: int, *, refused: bool
) -> None:
    """M12: of ten, one may fail; with two, not a row of the batch is in the landing zone, and all come again."""
    texts = {**good(10 - failed), **{f"poison-{number}": POISON for number in range(failed)}}
    queues.send(texts.items())
    consumer = consumer_of(queues, landing, retry_seconds=lambda _: 600)

    report = consumer.drain(lambda: True)

    assert report.refused_batches == refused
    assert len(paths_landed(landing)) == (0 if refused else 10 - failed)
    assert (report.retried, report.refused) == ((10, 10 - failed) if refused else (failed, 0))
    depth = queues.queue.depth()
    assert (depth.waiting, depth.hidden) == (0, report.retried)


@dataclasses.dataclass(frozen=True)
class Unreliable:
    """A queue whose calls to delete or to hide fail so many times."""

    queue: SqsQueue
    failures: dict[str, int]

    @property
    def name(self) -> str:
        """The queue's."""
        return self.queue.name

    def receive(self, most: int, *, hidden_seconds: int, wait_seconds: int = 0) -> list[Message]:
        """As the queue does it."""
        return self.queue.receive(most, hidden_seconds=hidden_seconds, wait_seconds=wait_seconds)

    def delete(self, messages: Sequence[Message]) -> int:
        """Fail for all of them, or delete."""
        return len(messages) if messages and self._fails("delete") else self.queue.delete(messages)

    def hide(self, seconds: Mapping[Message, int]) -> int:
        """Fail for all of them, or hide."""
        return len(seconds) if seconds and self._fails("hide") else self.queue.hide(seconds)

    def _fails(self, verb: str) -> bool:
        self.failures[verb] = self.failures.get(verb, 0) - 1
        return self.failures[verb] >= 0


def test_m12_acknowledgements_that_fail_lead_to_redeliveries_that_are_absorbed(
    queues: Queues, landing: Landing, tmp_path: pathlib.Path
) -> None:
    """M12: what is durable but not let go comes again; the warehouse has each event once, and counts the others."""
    queues.send(good(30).items())
    unreliable = Unreliable(queues.queue, {"delete": 2})
    consumer = consumer_of(queues, landing, queue=unreliable, bounds=Bounds(messages=10, hidden_seconds=1))

    reports = drain_to_the_end(consumer, queues)

    assert total(reports, "unacknowledged") == 20
    assert total(reports, "received") == 30 + 20
    assert total(reports, "received") == total(reports, "acknowledged") + total(reports, "unacknowledged")
    stored, duplicates = loaded(tmp_path, landing)
    assert (stored, stored + duplicates) == (30, len(paths_landed(landing)))


def test_a_failed_call_to_hide_only_lets_messages_come_when_they_come(queues: Queues, landing: Landing) -> None:
    """Nothing is lost, nothing is raised."""
    queues.send([*good(5).items(), ("poison", POISON)])
    unreliable = Unreliable(queues.queue, {"hide": 3})
    consumer = consumer_of(queues, landing, queue=unreliable, bounds=Bounds(messages=6, hidden_seconds=1))

    drain_to_the_end(consumer, queues)

    assert (len(paths_landed(landing)), queues.dead()) == (5, {"poison": POISON})


@dataclasses.dataclass(frozen=True)
class FullHour(DirectoryObjects):
    """A landing zone that can't keep anything of one hour until it is repaired."""

    hour: int = 6
    broken: dict[str, bool] = dataclasses.field(default_factory=lambda: {"is": True})

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """As a directory does it, but for the hour."""
        if self.broken["is"] and f"/hour={self.hour:02d}/" in key:
            raise ObjectsError(f"cannot write {key}: No space left on device")
        return super().put_file(key, path)


def test_a_landing_zone_that_fails_for_one_hour_keeps_back_only_its_messages(
    queues: Queues, tmp_path: pathlib.Path
) -> None:
    """The others are stored and deleted; those come again unharmed, however often, and no one dies."""
    objects = FullHour(tmp_path / "landing")
    landing = Landing(objects)
    texts = {f"m{number}": body(event(number, hour=6 if number == 3 else 5)) for number in range(20)}
    queues.send(texts.items())
    consumer = consumer_of(queues, landing, bounds=Bounds(messages=20))

    first = consumer.drain(lambda: True)

    assert (first.acknowledged, first.retried, first.landing_failed) == (19, 1, True)
    for _ in range(6):
        consumer.drain(lambda: True)
    assert queues.queue.depth().messages == 1
    objects.broken["is"] = False
    drain_to_the_end(consumer, queues)
    assert len(paths_landed(landing)) == 20
    assert queues.dead() == {}


def test_above_a_tenth_a_failing_hour_refuses_the_batch_and_takes_back_what_landed(
    queues: Queues, tmp_path: pathlib.Path
) -> None:
    """Nothing of it stays in the landing zone; once it is repaired, each event is there once."""
    objects = FullHour(tmp_path / "landing")
    landing = Landing(objects)
    texts = {f"m{number}": body(event(number, hour=5 + number % 2)) for number in range(20)}
    queues.send(texts.items())
    consumer = consumer_of(queues, landing, bounds=Bounds(messages=20))

    report = consumer.drain(lambda: True)

    assert (report.refused_batches, report.acknowledged, report.retried) == (1, 0, 20)
    assert paths_landed(landing) == []
    objects.broken["is"] = False
    drain_to_the_end(consumer, queues)
    assert len(paths_landed(landing)) == 20


def test_while_s3_is_down_nothing_is_lost_and_nothing_is_taken_on(queues: Queues, tmp_path: pathlib.Path) -> None:
    """A landing zone on S3 whose server is stopped: the drain ends after its first batch; later all is stored."""
    server = LocalS3(tmp_path / "s3")
    server.start()
    try:
        server.ensure_bucket("landing")
        landing = Landing(S3Objects(s3_client_of(server), "landing", "zone"))
        queues.send(good(60).items())
        consumer = consumer_of(queues, landing, bounds=Bounds(messages=10))
        server.stop()

        down = consumer.drain(lambda: True)

        assert (down.received, down.acknowledged, down.retried, down.landing_failed) == (10, 0, 10, True)
        server.start()
        reports = drain_to_the_end(consumer, queues)
        assert total(reports, "acknowledged") == 60
        stored, duplicates = loaded(tmp_path, landing)
        assert (stored, duplicates) == (60, 0)
        assert queues.dead() == {}
    finally:
        server.stop()


def test_m11_messages_that_come_up_to_five_times_are_stored_once(
    queues: Queues, landing: Landing, tmp_path: pathlib.Path
) -> None:
    """M11: delivered one to five times in random order; received = stored + duplicate + rejected + dead-lettered."""
    texts = {f"m{number}": body(event(number, hour=number % 5)) for number in range(150)}
    texts |= {f"half{number}": f"{body(event(1000 + number))}\nno event" for number in range(5)}
    texts |= {f"poison{number}": f"{POISON} {number}" for number in range(5)}
    queues.send(deliveries(texts, seed=11))

    reports = drain_to_the_end(consumer_of(queues, landing, bounds=Bounds(messages=40)), queues)

    stored, duplicates = loaded(tmp_path, landing)
    assert stored == 155
    assert stored + duplicates == len(paths_landed(landing)) == total(reports, "stored")
    assert set(queues.dead()) == {f"poison{number}" for number in range(5)}
    with open_warehouse(tmp_path / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        assert warehouse.rejected_lines(WINDOW) == 5
    received = total(reports, "received")
    assert received == sum(total(reports, name) for name in ("acknowledged", "unacknowledged", "retried", "dead"))


def loaded(folder: pathlib.Path, landing: Landing) -> tuple[int, int]:
    """Load the day into a warehouse; how many events it has now, and how many duplicates it counted."""
    with open_warehouse(folder / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        result = load_hours(warehouse, landing, WINDOW, NOW)
        assert not result.unreadable
        facts = warehouse.loads(WINDOW)
        assert len(warehouse.read_events(WINDOW, ["event_id"])) == sum(each.rows for each in facts)
        return sum(each.rows for each in facts), sum(each.duplicates for each in facts)


def test_dead_letters_that_cannot_be_kept_stay_in_the_queue(queues: Queues, landing: Landing) -> None:
    """Poison is deleted only when it is among the dead letters."""

    def fail(message: Message, reason: str) -> None:
        raise QueueError(f"cannot send {message.identity}: {reason}")

    queues.send([("poison", POISON)])
    consumer = consumer_of(queues, landing, bury=fail)
    turns = iter(range(8))
    report = consumer.drain(lambda: next(turns, None) is not None)
    assert (report.received, report.retried, report.dead) == (8, 8, 0)
    assert queues.queue.depth().messages == 1
    drain_to_the_end(consumer_of(queues, landing), queues)
    assert queues.dead() == {"poison": POISON}


def test_loads_in_flight_are_bounded(queues: Queues, tmp_path: pathlib.Path) -> None:
    """Never more than `groups` at once, however many hours a batch has."""
    objects = Counting(tmp_path / "landing")
    texts = {f"m{number}": body(event(number, hour=number)) for number in range(24)}
    queues.send(texts.items())

    consumer = consumer_of(queues, Landing(objects), bounds=Bounds(messages=24, groups=3))
    consumer.drain(lambda: True)

    assert 1 < objects.seen["most"] <= 3


@dataclasses.dataclass(frozen=True)
class Counting(DirectoryObjects):
    """Knows how many were writing at once."""

    seen: dict[str, int] = dataclasses.field(default_factory=lambda: {"now": 0, "most": 0})

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """As a directory does it, not so fast."""
        with self._counted():
            return super().put_file(key, path)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        import time  # noqa: PLC0415

        self.seen["now"] += 1
        self.seen["most"] = max(self.seen["most"], self.seen["now"])
        time.sleep(0.01)
        yield
        self.seen["now"] -= 1
