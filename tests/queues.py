"""Queues on a real SQS server, messages as producers write them, and consumers whose retries don't wait."""

import base64
import dataclasses
import datetime as dt
import gzip
import json
import pathlib
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import boto3

from pathstats_pipeline.events.window import rfc3339
from pathstats_pipeline.intake.consumer import Bounds, Consumer, DrainReport
from pathstats_pipeline.intake.dead_letters import bury
from pathstats_pipeline.intake.ingest import IngestReport
from pathstats_pipeline.intake.messages import IDENTITY, ObjectName
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.queue import CALL_MESSAGES, SqsQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

DAY = dt.date(2026, 11, 2)
START = dt.datetime(2026, 11, 2)
NOW = dt.datetime(2026, 11, 5, 12)
POISON = "this is no event"


def sqs_client(url: str) -> "SQSClient":
    """A client of a server that takes any credentials."""
    client: SQSClient = boto3.client(
        "sqs", endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )
    return client


@dataclasses.dataclass(frozen=True)
class Queues:
    """A queue and its dead letters, both empty at first."""

    queue: SqsQueue
    letters: SqsQueue

    def send(self, bodies: Iterable[tuple[str, str]]) -> None:
        """Send (identity, body) pairs, ten a call; the same identity twice is one message delivered twice."""
        pairs = list(bodies)
        for start in range(0, len(pairs), CALL_MESSAGES):
            entries: Any = [
                {
                    "Id": str(at),
                    "MessageBody": body,
                    "MessageAttributes": {IDENTITY: {"DataType": "String", "StringValue": identity}},
                }
                for at, (identity, body) in enumerate(pairs[start : start + CALL_MESSAGES])
            ]
            answer = self.queue.client.send_message_batch(QueueUrl=self.queue.url, Entries=entries)
            assert not answer.get("Failed")

    def dead(self) -> dict[str, str]:
        """The dead letters' bodies by identity; takes them off."""
        found: dict[str, str] = {}
        while messages := self.letters.receive(100, hidden_seconds=60):
            found |= {message.identity: message.body for message in messages}
            assert self.letters.delete(messages) == 0
        return found


def new_queues(url: str) -> Queues:
    """Make two empty queues on a server."""
    client, name = sqs_client(url), f"test-{uuid.uuid4().hex[:12]}"
    made = [client.create_queue(QueueName=each)["QueueUrl"] for each in (name, f"{name}-dead")]
    return Queues(*(SqsQueue(client, each) for each in made))


def event(number: int, hour: int = 5, **more: Any) -> dict[str, Any]:
    """An event as a producer writes it, without an id of its own."""
    moment = START + dt.timedelta(hours=hour, milliseconds=number % 3_600_000)
    return {
        "event_time": rfc3339(moment),
        "host": "www.example.com",
        "method": "GET",
        "path": f"/item/{number}",
        "status": 200,
        "response_time_ms": 1.5,
        "bytes_sent": number,
        "client_ip": "10.0.0.1",
        "user_agent": "test",
        **more,
    }


def body(*events: dict[str, Any]) -> str:
    """Events as JSON lines."""
    return "\n".join(map(json.dumps, events))


def gzipped(text: str) -> str:
    """Text as gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def no_objects(name: ObjectName) -> IngestReport:
    """Nobody may ask for a log file."""
    raise AssertionError(name)


def landing_at(folder: pathlib.Path) -> Landing:
    """A landing zone in a directory."""
    return Landing(DirectoryObjects(folder))


def consumer_of(
    queues: Queues,
    landing: Landing,
    ingest_object: Callable[[ObjectName], IngestReport] = no_objects,
    **more: Any,
) -> Consumer:
    """A consumer whose failed messages come again at once."""
    return Consumer(
        **{
            "queue": queues.queue,
            "landing": landing,
            "ingest_object": ingest_object,
            "bury": lambda message, reason: bury(queues.letters, message, reason, NOW),
            "first_hour": dt.datetime(2000, 1, 2),
            "clock": lambda: NOW,
            "bounds": Bounds(messages=10),
            "retry_seconds": lambda _: 0,
            **more,
        }
    )


def drain_to_the_end(consumer: Consumer, queues: Queues, most: int = 50) -> list[DrainReport]:
    """Drain again and again until nothing is left in the queue."""
    reports = []
    while queues.queue.depth().messages:
        reports.append(consumer.drain(lambda: True))
        assert len(reports) < most, "messages go round for ever"
    return reports


def total(reports: Sequence[DrainReport], name: str) -> int:
    """The sum of a number over reports."""
    return sum(getattr(report, name) for report in reports)


def paths_landed(landing: Landing) -> list[str]:
    """The paths of all landed events, one for each row of each load, sorted."""
    import polars as pl  # noqa: PLC0415

    folder = pathlib.Path(landing.objects.uri)
    return sorted(path for file in folder.glob("dt=*/hour=*/*.parquet") for path in pl.read_parquet(file)["path"])


def deliveries(bodies: dict[str, str], seed: int, most: int = 5) -> list[tuple[str, str]]:
    """Each message one to five times, all in random order."""
    rng = random.Random(seed)  # noqa: S311 - test data
    found = [pair for pair in bodies.items() for _ in range(rng.randint(1, most))]
    rng.shuffle(found)
    return found


def good(count: int) -> dict[str, str]:
    """Messages of one event each."""
    return {f"good-{number}": body(event(number)) for number in range(count)}


def check_poison(queues: Queues, landing: Landing, count: int, share: float, size: int) -> None:
    """Send so many messages, so many of them poison; drain; hold what landed and what died against it."""
    poison = {f"poison-{number}": f"{POISON} {number}" for number in range(max(1, round(count * share)))}
    innocent = good(count - len(poison))
    mixed = deliveries({**innocent, **poison}, seed=size, most=1)
    queues.send(mixed)

    reports = drain_to_the_end(consumer_of(queues, landing, bounds=Bounds(messages=size)), queues, most=count)

    assert queues.dead() == poison
    assert paths_landed(landing) == sorted(f"/item/{number}" for number in range(len(innocent)))
    assert total(reports, "acknowledged") == len(innocent)
    assert total(reports, "dead") == len(poison)
    assert total(reports, "received") == total(reports, "retried") + count
