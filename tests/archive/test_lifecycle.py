"""What to do next with a day, as tables: generations, refusals, the hot window, the gate of the statistics."""

import dataclasses
import datetime as dt
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.lifecycle import (
    ArchiveRefusedError,
    Retention,
    Verdict,
    deletable_from,
    judge_cleanup,
    next_generation,
    reasons_to_wait,
)
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.archive.verify import ObjectFacts
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.window import Window

from .worlds import DAY, NOW, RETENTION, WINDOW, hour_of, manifest_of

TODAY = NOW.date()


def facts(hour: int, load_id: str, rows: int = 10, deleted_rows: int = 0) -> LoadFacts:
    """A load that brought so many events, each with a digest of its own."""
    digest = Digest(rows, zlib.crc32(load_id.encode()) + hour if rows else 0).hex
    first, last = (hour_of(hour), hour_of(hour) + dt.timedelta(minutes=59)) if rows else (None, None)
    return LoadFacts(Load(hour_of(hour), load_id), rows, 0, 0, digest, first, last, deleted_rows)


def covering(generation: int, *loads: LoadFacts) -> Manifest:
    """The manifest that covers exactly these loads."""
    digest = sum((Digest.parse(load.rows, load.digest) for load in loads), Digest())
    return manifest_of(ObjectFacts(1, 1, "0" * 64, digest), *(load.load for load in loads), generation=generation)


def judge(
    loads: list[LoadFacts],
    manifests: list[Manifest],
    requests: dict[int, int],
    today: dt.date = TODAY,
    retention: Retention = RETENTION,
) -> Verdict:
    """The verdict, with the hour of a day for the start of that hour."""
    by_hour = {hour_of(hour): count for hour, count in requests.items()}
    now = Window.of_day(today).start
    return judge_cleanup(DAY, now, retention, loads=loads, manifests=manifests, requests_by_hour=by_hour)


def following(loads: list[LoadFacts], manifests: list[Manifest], now: dt.datetime = NOW):  # type: ignore[no-untyped-def]  # noqa: ANN201 - Generation | None
    """The next generation."""
    number = max((manifest.generation for manifest in manifests), default=0) + 1
    return next_generation(DAY, now, loads, manifests, SizeRule(), number)


A, B, LATE, EMPTY = facts(0, "a"), facts(5, "b", 7), facts(5, "late", 3), facts(6, "empty", 0)


def test_the_first_generation_holds_all_loads() -> None:
    """Every load of the day is in g0001, whose digest is the sum of theirs, with the day's first and last time."""
    generation = following([B, A], [])
    assert generation.number == 1
    assert generation.loads == (A.load, B.load)
    assert generation.digest.rows == 17
    assert (generation.first_event_time, generation.last_event_time) == (A.first_event_time, B.last_event_time)
    assert generation.strategy is Strategy.SINGLE_PUT
    assert f"-g0001-{generation.digest.hex[:8]}." in generation.key


def test_late_loads_are_the_next_generation() -> None:
    """Only what no manifest covers is archived next, under the next number."""
    generation = following([A, B, LATE], [covering(1, A, B)])
    assert (generation.number, generation.loads) == (2, (LATE.load,))
    assert following([A, B, LATE], [covering(4, A), covering(2, B)]).number == 5


@pytest.mark.parametrize("loads", [[], [EMPTY], [A, B, EMPTY], [A, B]])
def test_nothing_new_is_no_generation(loads: list[LoadFacts]) -> None:
    """No events, or only such as are covered, make no generation: neither an empty nor a smaller one."""
    assert following(loads, [covering(1, A, B)] if A in loads else []) is None


def test_a_second_run_after_clean_up_is_no_generation() -> None:
    """Loads that were deleted and are covered are not archived again."""
    gone = dataclasses.replace(A, deleted_rows=10)
    assert following([gone], [covering(1, A)]) is None


def test_deleted_events_without_a_manifest_are_refused() -> None:
    """When manifests are missing after a clean-up, nothing is archived in their place."""
    with pytest.raises(ArchiveRefusedError, match="no manifest covers them"):
        following([dataclasses.replace(A, deleted_rows=1), B], [])


@pytest.mark.parametrize("ahead", [dt.timedelta(microseconds=1), dt.timedelta(hours=5), dt.timedelta(days=9)])
def test_a_day_that_is_not_over_is_refused(ahead: dt.timedelta) -> None:
    """Until the last microsecond of a UTC day is past, it isn't archived; then it is."""
    with pytest.raises(ArchiveRefusedError, match="is not over"):
        following([A], [], now=WINDOW.end - ahead)
    assert following([A], [], now=WINDOW.end) is not None


def test_archived_loads_with_statistics_may_go() -> None:
    """A day that is archived, counted and old enough is deleted load by load."""
    verdict = judge([A, B], [covering(1, A, B)], {0: 10, 5: 7})
    assert (verdict.loads, verdict.reasons, verdict.waiting) == ((A, B), (), False)
    assert verdict.rows == 17


@pytest.mark.parametrize(("age", "hot"), [(-1, True), (0, True), (2, True), (3, False), (4, False)])
def test_the_hot_window_is_left_alone(age: int, hot: bool) -> None:  # noqa: FBT001
    """Days younger than the window stay, whatever is archived of them; so do days in the future."""
    manifest = dataclasses.replace(covering(1, A), verified_at=WINDOW.start)
    verdict = judge([A], [manifest], {0: 10}, today=DAY + dt.timedelta(days=age))
    assert verdict.waiting is hot
    assert bool(verdict.loads) is not hot
    assert bool(verdict.reasons) is hot


def test_late_loads_stay() -> None:
    """A load that no manifest covers isn't in the verdict, and doesn't keep the others."""
    for counted in (7, 10):
        assert judge([A, B, LATE], [covering(1, A, B)], {0: 10, 5: counted}).loads == (A, B)


@pytest.mark.parametrize(
    ("loads", "manifests", "requests", "reason"),
    [
        ([A, B], [], {0: 10, 5: 7}, "it is not archived"),
        ([dataclasses.replace(A, deleted_rows=5)], [], {0: 10}, "it is not archived"),
        ([A, B], [covering(1, A, B)], {0: 10}, "statistics of 05:00 count 0 requests of 7"),
        ([A, B], [covering(1, A, B)], {0: 9, 5: 7}, "statistics of 00:00 count 9 requests of 10"),
        ([A, B], [covering(1, A, B)], {0: 10, 5: 8}, "statistics of 05:00 count 8 requests of 7"),
        ([A], [covering(1, A, B)], {0: 10}, "g0001 covers other events"),
        ([dataclasses.replace(A, digest="0" * 32), B], [covering(1, A, B)], {0: 10, 5: 7}, "covers other events"),
        ([dataclasses.replace(A, rows=11), B], [covering(1, A, B)], {0: 11, 5: 7}, "covers other events"),
        ([], [covering(1, A)], {}, "g0001 covers other events"),
    ],
)
def test_doubt_keeps_the_day(
    loads: list[LoadFacts], manifests: list[Manifest], requests: dict[int, int], reason: str
) -> None:
    """Not archived, not counted, counted wrongly, or other events than the manifest's: nothing may be deleted."""
    verdict = judge(loads, manifests, requests)
    assert verdict.loads == ()
    assert verdict.rows == 0
    assert any(reason in text for text in verdict.reasons)


def test_a_day_without_events_has_nothing_to_delete() -> None:
    """No loads, or empty ones, are no reason to complain."""
    assert judge([], [], {}) == Verdict(())
    assert judge([EMPTY], [], {}) == Verdict(())


def test_the_same_id_in_two_hours_is_two_loads() -> None:
    """A manifest that covers `x` of one hour doesn't cover `x` of another."""
    one, other = facts(1, "x"), facts(2, "x")
    assert following([one, other], [covering(1, one)]).loads == (other.load,)
    assert judge([one, other], [covering(1, one)], {1: 10}).loads == (one,)


MOMENTS = st.datetimes(WINDOW.start, WINDOW.start + dt.timedelta(days=9))


@given(now=MOMENTS, hot=st.integers(0, 6), grace=st.integers(0, 72), verified=st.none() | MOMENTS, held=st.booleans())
def test_what_status_promises_is_what_clean_up_waits_for(
    *, now: dt.datetime, hot: int, grace: int, verified: dt.datetime | None, held: bool
) -> None:
    """To the microsecond: not before, and from then on for no reason but a hold."""
    retention = Retention(hot, dt.timedelta(hours=grace), {DAY: "an audit"} if held else {})
    due = deletable_from(DAY, retention, verified)
    assert bool(reasons_to_wait(DAY, now, retention, verified)) == (due is None or now < due)
    if due is not None:
        assert reasons_to_wait(DAY, due, retention, verified) == []
        assert reasons_to_wait(DAY, due - dt.timedelta(microseconds=1), retention, verified) != []
