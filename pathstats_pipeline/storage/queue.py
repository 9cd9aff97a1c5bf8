"""A queue on SQS: receive, delete, hide, send, count. The only place that knows the calls of SQS.

Every verb takes any number of messages and makes calls of ten of them, several at once. What can't be asked of the
queue at all is a QueueError; what it refuses of single messages is told, for they come again by themselves.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.exceptions

from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake.messages import IDENTITY, Message, QueueError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

CALL_MESSAGES: Final = 10
"""The most that SQS takes or gives in one call."""
CALLS_AT_ONCE: Final = 8
LONGEST_HIDDEN_SECONDS: Final = 43_200
_FAILURES: Final = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
_ATTRIBUTES: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclasses.dataclass(frozen=True)
class Depth:
    """About how many messages wait, are being worked on or hidden after a failure, and are delayed."""

    waiting: int
    hidden: int
    delayed: int

    @property
    def messages(self) -> int:
        """All that are in the queue."""
        return self.waiting + self.hidden + self.delayed


@dataclasses.dataclass(frozen=True)
class SqsQueue:
    """One queue, by its URL. Safe to use from several threads, as its client is."""

    client: "SQSClient"
    url: str

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    def receive(self, most: int, *, hidden_seconds: int, wait_seconds: int = 0) -> list[Message]:
        """At most so many messages, hidden from others for a while; an empty list says that none came in time."""
        calls = [min(CALL_MESSAGES, most - start) for start in range(0, most, CALL_MESSAGES)][:CALLS_AT_ONCE]

        def call(count: int) -> list[Message]:
            answer = self.client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=count,
                VisibilityTimeout=hidden_seconds,
                WaitTimeSeconds=wait_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=["All"],
            )
            return [_message(each) for each in answer.get("Messages", [])]

        with self._errors("receive from"):
            return [message for found in _at_once(call, calls) for message in found]

    def delete(self, messages: Sequence[Message]) -> int:
        """Take messages off the queue; how many it would not let go: those come again."""

        def call(group: Sequence[Message]) -> int:
            entries: Any = [{"Id": str(at), "ReceiptHandle": each.receipt} for at, each in enumerate(group)]
            return len(self.client.delete_message_batch(QueueUrl=self.url, Entries=entries).get("Failed", []))

        return self._by_group(call, messages)

    def hide(self, seconds: Mapping[Message, int]) -> int:
        """Keep messages hidden for so long from now on; for how many it failed: those come when they come."""

        def call(group: Sequence[Message]) -> int:
            entries: Any = [
                {
                    "Id": str(at),
                    "ReceiptHandle": each.receipt,
                    "VisibilityTimeout": min(seconds[each], LONGEST_HIDDEN_SECONDS),
                }
                for at, each in enumerate(group)
            ]
            answer = self.client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
            return len(answer.get("Failed", []))

        return self._by_group(call, list(seconds))

    def send(self, body: str, attributes: Mapping[str, str] | None = None) -> None:
        """Put a message on the queue; durable on return."""
        named: Any = {name: {"DataType": "String", "StringValue": value} for name, value in (attributes or {}).items()}
        with self._errors("send to"):
            self.client.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=named)

    def depth(self) -> Depth:
        """How many messages there are; SQS says it approximately."""
        with self._errors("ask for the depth of"):
            names: Any = list(_ATTRIBUTES)
            found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
            waiting, hidden, delayed = (int(found.get(name, 0)) for name in _ATTRIBUTES)
            return Depth(waiting, hidden, delayed)

    def _by_group(self, call: Callable[[Sequence[Message]], int], messages: Sequence[Message]) -> int:
        """The sum over calls of ten. A call that fails has failed for all of its messages, and for no others."""

        def safely(group: Sequence[Message]) -> int:
            try:
                return call(group)
            except _FAILURES:
                return len(group)

        return sum(
            _at_once(
                safely, [messages[start : start + CALL_MESSAGES] for start in range(0, len(messages), CALL_MESSAGES)]
            )
        )

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise QueueError(f"cannot {verb} queue {self.url}: {' '.join(str(error).split())}") from error


def _at_once(call: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
    if len(items) < 2:  # noqa: PLR2004 - a single call needs no threads
        return [call(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(min(len(items), CALLS_AT_ONCE)) as pool:
        return list(pool.map(call, items))


def _message(given: Any) -> Message:
    attributes = given.get("MessageAttributes", {})
    system = given.get("Attributes", {})
    sent = int(system.get("SentTimestamp", 0)) / 1000
    return Message(
        identity=attributes.get(IDENTITY, {}).get("StringValue") or given["MessageId"],
        receipt=given["ReceiptHandle"],
        body=given["Body"],
        receives=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=naive_utc(dt.datetime.fromtimestamp(sent, dt.UTC)),
    )
