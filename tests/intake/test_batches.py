"""The rules of batches: refusing exactly above a tenth (M12), isolating poison (M13), backing off (M14)."""

import collections
import dataclasses
import random
from fractions import Fraction
from typing import Any

import pytest

from pathstats_pipeline.intake.batches import (
    MOST_ATTEMPTS,
    batches,
    company,
    is_dead,
    refuses,
    visibility_seconds,
)

MESSAGES = 2_000


def test_m12_a_batch_is_refused_above_a_tenth_and_not_at_it() -> None:
    """M12: every batch up to 30 messages, with every number of failures, by exact fractions."""
    for total in range(31):
        for failed in range(total + 1):
            expected = bool(total) and Fraction(failed, total) > Fraction(1, 10)
            assert refuses(failed, total) is expected, (failed, total)


@pytest.mark.parametrize(
    ("failed", "total", "expected"),
    [
        (0, 0, False),
        (1, 10, False),
        (2, 10, True),
        (1, 9, True),
        (3, 30, False),
        (10**30, 10**31, False),
        (10**30 + 1, 10**31, True),
    ],
)
def test_m12_the_edge_is_exact(failed: int, total: int, expected: bool) -> None:  # noqa: FBT001
    """M12: where a float would say 3 > 0.1 * 30 or lose the last message, integers don't."""
    assert refuses(failed, total) is expected


@pytest.mark.parametrize(("failed", "total"), [(1, 0), (-1, 5), (6, 5), (0, -1)])
def test_m12_numbers_that_cannot_be(failed: int, total: int) -> None:
    """M12: a miscount is an error, and not a verdict."""
    with pytest.raises(ValueError, match="can't have failed"):
        refuses(failed, total)


@dataclasses.dataclass
class Outcome:
    """What became of all messages: stored once, in the dead-letter queue, or still about."""

    stored: set[str] = dataclasses.field(default_factory=set)
    dead: set[str] = dataclasses.field(default_factory=set)
    rounds: int = 0


def messages(share: float) -> tuple[list[str], set[str]]:
    """The messages, shuffled, and which of them can never become events."""
    rng = random.Random(f"poison {share}")  # noqa: S311 - test data
    everything = [f"m{number}" for number in range(MESSAGES)]
    return everything, set(rng.sample(everything, round(share * MESSAGES)))


def fair(everything: list[str], poison: set[str], size: int) -> Outcome:
    """The queue with our rules: redelivered in any order, until nothing is left."""
    rng = random.Random(f"fair {size}")  # noqa: S311 - test data
    outcome, left = Outcome(), everything[:]
    while left:
        # What is left was in every round: refused, or failed.
        refusals = dict.fromkeys(left, outcome.rounds)
        outcome.rounds += 1
        rng.shuffle(left)
        for batch in batches(refusals, left, size):
            failed = poison.intersection(batch)
            outcome.dead |= failed if is_dead(outcome.rounds) else set()
            if not refuses(len(failed), len(batch)):
                outcome.stored |= set(batch) - poison
        left = [message for message in left if message not in outcome.stored | outcome.dead]
        assert outcome.rounds < 100, "a message goes round for ever"
    return outcome


def plain(everything: list[str], poison: set[str], size: int) -> Outcome:
    """The plain rule: whoever is in a refused batch has failed, and goes to the dead letters after five times."""
    rng = random.Random(f"plain {size}")  # noqa: S311 - test data
    outcome, left = Outcome(), everything[:]
    attempts = collections.Counter[str]()
    while left:
        outcome.rounds += 1
        rng.shuffle(left)
        for start in range(0, len(left), size):
            batch = left[start : start + size]
            failed = poison.intersection(batch)
            if refuses(len(failed), len(batch)):
                failed = set(batch)
            attempts.update(failed)
            outcome.dead |= {message for message in failed if is_dead(attempts[message])}
            outcome.stored |= set(batch) - failed
        left = [message for message in left if message not in outcome.stored | outcome.dead]
    return outcome


@pytest.mark.parametrize("size", [1, 5, 9, 10, 20])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 1.0])
def test_m13_the_dead_letters_are_the_poison_and_nothing_else(share: float, size: int) -> None:
    """M13: whatever the share of poison and the size of a batch, all good messages are stored, each once, soon."""
    everything, poison = messages(share)
    outcome = fair(everything, poison, size)
    assert outcome.stored == set(everything) - poison
    assert outcome.dead == poison
    assert outcome.rounds <= size.bit_length() + MOST_ATTEMPTS


@pytest.mark.parametrize(("share", "size"), [(0.01, 9), (0.1, 9), (0.1, 10), (0.3, 5), (0.3, 20)])
def test_m13_the_plain_rule_buries_good_messages(share: float, size: int) -> None:
    """M13, the control: charged for their company, good messages go to the dead letters."""
    everything, poison = messages(share)
    outcome = plain(everything, poison, size)
    assert outcome.dead - poison
    assert outcome.stored < set(everything) - poison


def test_a_message_is_given_up_at_its_fifth_delivery() -> None:
    """And not before."""
    assert [is_dead(attempts) for attempts in range(7)] == [attempts >= 5 for attempts in range(7)]


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1, 1, 1]), (5, [5, 2, 1, 1]), (9, [9, 4, 2, 1, 1]), (10, [10, 5, 2, 1]), (20, [20, 10])]
)
def test_m13_a_refused_batch_is_split(largest: int, sizes: list[int]) -> None:
    """M13: half the company after each refusal, alone in the end; whatever the count says."""
    assert [company(refusals, largest) for refusals in range(len(sizes))] == sizes
    assert company(10**7, largest) == 1
    assert company(-1, largest) == largest


def test_m13_messages_of_one_history_stand_together() -> None:
    """M13: every message is in one batch, none in a larger one than it may be; the never refused are apart."""
    refusals = {"a": 1, "b": 3, "c": 1, "d": 1}
    assert list(batches(refusals, "abcdefghi", 4)) == [["e", "f", "g", "h"], ["i"], ["a", "c"], ["d"], ["b"]]
    assert list(batches({}, "", 4)) == []
    with pytest.raises(ValueError, match="at least one message"):
        list(batches({}, "a", 0))


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [
        *enumerate([60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (1_100, 3_600),
        (10**7, 3_600),
        (10**100, 3_600),
        (-1, 60),
        (-(10**7), 60),
    ],
)
def test_m14_the_delay_doubles_up_to_an_hour(attempts: int, seconds: int) -> None:
    """M14: exact, and no power overflows."""
    assert visibility_seconds(attempts) == seconds


@pytest.mark.parametrize("attempts", [None, "3", 2.0, float("nan"), True])
def test_m14_attempts_that_are_no_number(attempts: Any) -> None:
    """M14: a count that is missing isn't a first attempt."""
    with pytest.raises(TypeError, match="a whole number"):
        visibility_seconds(attempts)


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.5, 1.0])
def test_m14_jitter_stays_in_bounds_and_repeats(jitter: float) -> None:
    """M14: never later than without, never earlier than its share, never at once; the same for the same seed."""
    for attempts in (*range(8), 10**7, -3):
        whole = visibility_seconds(attempts)
        delays = [visibility_seconds(attempts, jitter=jitter, seed=seed) for seed in range(300)]
        assert max(1, round(whole * (1 - jitter))) <= min(delays) <= max(delays) <= whole
        assert (len(set(delays)) > 1) is bool(jitter)
        assert delays == [visibility_seconds(attempts, jitter=jitter, seed=seed) for seed in range(300)]


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_m14_a_share_that_cannot_be(jitter: float) -> None:
    """M14: said, not clipped."""
    with pytest.raises(ValueError, match="share from 0 to 1"):
        visibility_seconds(1, jitter=jitter)
