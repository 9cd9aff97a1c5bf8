"""Messages that can't be read: how they are put among the dead letters, and how they come back when asked to.

A dead letter is the message as it was, its bytes in its body; why it died, after how many deliveries, when, and the
identity that it had, are its attributes. That identity goes back with it, so that its events keep their ids.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from pathstats_pipeline.events.window import rfc3339
from pathstats_pipeline.intake.messages import IDENTITY, Message

_REASON_CHARACTERS: Final = 500
_HIDDEN_SECONDS: Final = 60


class LetterQueue(Protocol):
    """What is asked of the two queues."""

    def send(self, body: str, attributes: Mapping[str, str] | None = None) -> None:
        """Put a message on the queue, durably; raises QueueError."""

    def receive(self, most: int, *, hidden_seconds: int, wait_seconds: int = 0) -> list[Message]:
        """At most so many messages, hidden from others for a while; raises QueueError."""

    def delete(self, messages: Sequence[Message]) -> int:
        """Take messages off the queue; how many it would not let go."""


def bury(letters: LetterQueue, message: Message, reason: str, now: dt.datetime) -> None:
    """Put a copy of a message among the dead letters; raises QueueError. Deleting the message is the caller's."""
    attributes = {
        IDENTITY: message.identity,
        "pathstats_reason": reason[:_REASON_CHARACTERS].encode(errors="replace").decode(),
        "pathstats_attempts": str(message.receives),
        "pathstats_sent_at": rfc3339(message.sent_at),
        "pathstats_buried_at": rfc3339(now),
    }
    letters.send(message.body, attributes)


def redrive(letters: LetterQueue, queue: LetterQueue, most: int) -> int:
    """Send dead letters back to the queue, at most so many; how many went. Raises QueueError.

    A letter is on the queue before it is off the dead letters: what dies in between sends it twice, and its events are
    absorbed by their ids.
    """
    gone = 0
    while gone < most and (found := letters.receive(most - gone, hidden_seconds=_HIDDEN_SECONDS, wait_seconds=1)):
        for message in found:
            queue.send(message.body, {IDENTITY: message.identity})
        letters.delete(found)
        gone += len(found)
    return gone
