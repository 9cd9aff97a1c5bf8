"""Batches of messages from a queue: when a batch is refused, how it is tried again, and when. Decisions only; pure.

A batch is refused when more than a tenth of it can't become events. Taken plainly, that rule starves the good ones
among small batches, and sends them to the dead-letter queue with the others. So a message is given up only for its own
failure, and one of a refused batch is tried in smaller company the next time, in the end alone.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

FIRST_DELAY_SECONDS: Final = 60
MOST_DELAY_SECONDS: Final = 3_600
_DOUBLINGS: Final = 6
"""After so many, the delay is the longest one; no larger power is ever reckoned."""
MOST_ATTEMPTS: Final = 5
"""Deliveries; a message that fails then goes to the dead-letter queue."""


def visibility_seconds(attempts: int, *, jitter: float = 0.0, seed: int | str = 0) -> int:
    """How long a message stays hidden after so many failed attempts: 60 s, doubled each time, an hour at most.

    `jitter` is the share of the delay that may be taken off it, so that messages that failed together don't come back
    together; the same seed takes the same off. Fewer than no attempts are none. Raises TypeError for what is no whole
    number, and ValueError for a share outside 0 to 1.
    """
    if type(attempts) is not int:
        raise TypeError(f"attempts are a whole number, not {attempts!r}")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is a share from 0 to 1, not {jitter!r}")
    doublings = min(max(attempts, 0), _DOUBLINGS)
    delay = min(FIRST_DELAY_SECONDS << doublings, MOST_DELAY_SECONDS)
    off = random.Random(f"{seed}/{attempts}").random() * jitter  # noqa: S311 - nobody is kept out by it
    return max(1, round(delay * (1 - off)))


def refuses(failed: int, total: int) -> bool:
    """Whether a batch is refused as a whole: more than a tenth of it failed. An empty batch is not."""
    if not 0 <= failed <= total:
        raise ValueError(f"{failed} of {total} messages can't have failed")
    return 10 * failed > total


def is_dead(attempts: int) -> bool:
    """Whether a message that has failed, after so many deliveries, goes to the dead-letter queue."""
    return attempts >= MOST_ATTEMPTS


def company(refusals: int, largest: int) -> int:
    """In how large a batch a message may be tried that was in so many refused ones: halved each time."""
    return max(1, largest >> min(max(refusals, 0), largest.bit_length()))


def batches(refusals: Mapping[str, int], messages: Iterable[str], largest: int) -> Iterator[list[str]]:
    """The messages in batches, none larger than the company that each of its messages may be tried in.

    Those that were refused as often stand together, in their order, so that the never refused don't join the suspects.
    """
    if largest < 1:
        raise ValueError(f"a batch holds at least one message, not {largest}")
    by_size: dict[int, list[str]] = {}
    for message in messages:
        by_size.setdefault(company(refusals.get(message, 0), largest), []).append(message)
    for size, together in sorted(by_size.items(), reverse=True):
        for start in range(0, len(together), size):
            yield together[start : start + size]
