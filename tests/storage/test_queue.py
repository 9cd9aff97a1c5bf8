"""The verbs of a queue on a real SQS server: any number of messages, what is refused of single ones, and no server."""

import dataclasses
import datetime as dt
import uuid

import pytest
from queueing import NOWHERE, client_of, new_queue

from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake.messages import IDENTITY, Message, QueueError
from pathstats_pipeline.storage.connect import queues
from pathstats_pipeline.storage.queue import CALL_MESSAGES, CALLS_AT_ONCE, LONGEST_HIDDEN_SECONDS, Depth, SqsQueue


@pytest.fixture
def queue(other_s3_server: str) -> SqsQueue:
    """An empty queue on the server of the session, which speaks SQS, too."""
    return new_queue(other_s3_server)


def receive_all(queue: SqsQueue, count: int, hidden_seconds: int = 60) -> list[Message]:
    """Receive until so many have come, in calls that each ask for all that are missing."""
    found: list[Message] = []
    while len(found) < count:
        fresh = queue.receive(count - len(found), hidden_seconds=hidden_seconds, wait_seconds=1)
        assert fresh, f"{len(found)} of {count} came"
        found += fresh
    return found


def test_a_message_is_received_as_it_was_sent(queue: SqsQueue) -> None:
    """Its body to the byte, when it was sent, which delivery it is; its identity is SQS's own where none was given."""
    before = naive_utc(dt.datetime.now(dt.UTC)) - dt.timedelta(seconds=1)
    body = '{"a": "\u00e9\u2028"}\r\n\t{"b": 1}\n'
    queue.send(body)

    [message] = queue.receive(10, hidden_seconds=0, wait_seconds=1)
    [again] = queue.receive(10, hidden_seconds=60, wait_seconds=1)

    assert message.body == again.body == body
    assert (message.receives, again.receives) == (1, 2)
    assert message.identity == again.identity
    assert message.receipt != again.receipt
    assert str(uuid.UUID(message.identity)) == message.identity
    assert before <= message.sent_at == again.sent_at <= naive_utc(dt.datetime.now(dt.UTC))
    assert queue.receive(10, hidden_seconds=60) == []
    assert queue.name == queue.url.rpartition("/")[2]


def test_the_identity_that_a_message_brings_is_its_own(queue: SqsQueue) -> None:
    """A redriven message keeps the identity of its first life, whatever other attributes it has."""
    queue.send("x", {IDENTITY: "first life", "pathstats_reason": "é"})
    [message] = queue.receive(1, hidden_seconds=60, wait_seconds=1)
    assert message.identity == "first life"


def test_any_number_is_received_and_deleted(queue: SqsQueue) -> None:
    """57 messages are 57 bodies, each once, though a call of SQS takes and gives ten; deleted, none is left."""
    for number in range(57):
        queue.send(str(number))
    assert queue.depth() == Depth(57, 0, 0)

    some = queue.receive(25, hidden_seconds=60, wait_seconds=1)
    assert 0 < len(some) <= 25
    messages = some + receive_all(queue, 57 - len(some))

    assert sorted(int(message.body) for message in messages) == list(range(57))
    assert queue.depth() == Depth(0, 57, 0)
    assert queue.depth().messages == 57
    assert queue.delete(messages) == 0
    assert queue.depth().messages == 0
    assert queue.delete([]) == 0
    assert queue.hide({}) == 0


def test_no_more_is_received_than_was_asked_for_or_fits_the_calls(queue: SqsQueue) -> None:
    """Of 90 messages 3 come where 3 are asked for, and never more than 8 calls bring at once."""
    for number in range(90):
        queue.send(str(number))
    assert len(queue.receive(3, hidden_seconds=60, wait_seconds=1)) == 3
    assert 0 < len(queue.receive(1_000_000, hidden_seconds=60, wait_seconds=1)) <= CALL_MESSAGES * CALLS_AT_ONCE


def test_what_is_refused_of_single_messages_is_counted_and_the_others_are_done(queue: SqsQueue) -> None:
    """Of 23, two receipts are none: two fail to be hidden and to be deleted, and 21 are, whichever call they are in."""
    for number in range(23):
        queue.send(str(number))
    right = receive_all(queue, 23)
    forged = {4, 17}
    mixed = [
        dataclasses.replace(message, receipt="forged") if at in forged else message for at, message in enumerate(right)
    ]

    assert queue.hide(dict.fromkeys(mixed, 120)) == 2
    assert queue.delete(mixed) == 2

    assert queue.depth() == Depth(0, 2, 0)
    assert queue.delete([right[at] for at in sorted(forged)]) == 0
    assert queue.depth().messages == 0


def test_a_message_is_hidden_for_as_long_as_is_said(queue: SqsQueue) -> None:
    """0 shows it at once; more than SQS's longest is the longest, and no error."""
    queue.send("x")
    [message] = queue.receive(1, hidden_seconds=600, wait_seconds=1)
    assert queue.depth() == Depth(0, 1, 0)

    assert queue.hide({message: 0}) == 0
    [message] = queue.receive(1, hidden_seconds=600, wait_seconds=1)
    assert queue.hide({message: LONGEST_HIDDEN_SECONDS * 10}) == 0

    assert queue.depth() == Depth(0, 1, 0)
    assert message.receives == 2


def test_a_message_that_is_too_large_is_refused_in_one_line(queue: SqsQueue) -> None:
    """SQS takes 1 MiB, the server here 256 KiB: so much comes back whole, and a byte more is a QueueError."""
    queue.send("x" * (1 << 18))
    [message] = queue.receive(1, hidden_seconds=60, wait_seconds=1)
    assert len(message.body) == 1 << 18
    with pytest.raises(QueueError, match=r"^cannot send to queue \S+: [^\n]+$"):
        queue.send("x" * ((1 << 18) + 1))


@pytest.mark.parametrize("there", [True, False])
def test_what_cannot_be_asked_is_one_line_that_names_the_queue_and_the_verb(
    other_s3_server: str, *, there: bool
) -> None:
    """No such queue, or no server: receiving, sending and counting raise; deleting and hiding count all as failed."""
    server = other_s3_server if there else NOWHERE
    queue = SqsQueue(client_of(server), f"{server}/000000000000/nosuch")
    messages = [Message(str(at), f"receipt {at}", "x", 1, dt.datetime(2026, 1, 1)) for at in range(12)]

    with pytest.raises(QueueError, match=r"^cannot receive from queue \S+/nosuch: [^\n]+$"):
        queue.receive(100, hidden_seconds=60)
    with pytest.raises(QueueError, match=r"^cannot send to queue \S+/nosuch: [^\n]+$"):
        queue.send("x")
    with pytest.raises(QueueError, match=r"^cannot ask for the depth of queue \S+/nosuch: [^\n]+$"):
        queue.depth()
    assert queue.delete(messages) == 12
    assert queue.hide(dict.fromkeys(messages, 60)) == 12


def test_a_client_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without a region there is no client: that is said of the queue, like all that it can't do."""
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    with pytest.raises(QueueError, match=r"^cannot ask for queue https://\S+/q: [^\n]*region[^\n]*$"):
        queues("https://sqs.example/1/q", None, None)
