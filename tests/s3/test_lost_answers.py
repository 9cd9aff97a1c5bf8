"""An answer that is lost, in doubt, or wrong: what was written is judged by what stands there (M5, M6)."""

import pathlib

import pytest
from archive.worlds import DAY

from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.archive.verify import VerificationError

from .days import (
    CLEAN_FAILURES,
    ONE_PUT,
    RULES,
    THREE_PARTS,
    Prepared,
    assert_finishes,
    assert_nothing_lost,
    copy_of,
    is_one_line,
)
from .faults import Fault
from .stores import ATTEMPTS, Strict


@pytest.mark.parametrize("key", ["claims/", "events/", "metadata/"])
def test_m5_a_put_whose_answer_is_lost_ends_in_success(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, key: str
) -> None:
    """M5 A: the put is done, its answer is lost, the SDK tries again and meets 412: our own write, and success."""
    strict.fail(Fault.RESET_AFTER, "Put", key, times=1)
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive()
        assert [seen.verb for seen in strict.seen if seen.key.startswith("archive/events/")] == (
            ["Put", "Put", "Get"] if key == "events/" else ["Put", "Get"]
        ), "one more request, and one reading back"
        here.assert_invariants()
        assert len(strict.kept("events/")) == len(strict.kept("metadata/")) == 1
        assert_finishes(here, strict, ONE_PUT)


@pytest.mark.parametrize("verb", ["Create", "UploadPart", "Complete"])
def test_m5_an_upload_whose_answer_is_lost_ends_in_success(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, verb: str
) -> None:
    """M5 A for an upload in parts: one object, and no upload left to pay for, not even one whose id we never heard."""
    strict.fail(Fault.RESET_AFTER, verb, times=1)
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive(THREE_PARTS)
        here.assert_invariants()
        assert len(strict.kept("events/")) == len(strict.kept("metadata/")) == 1
        assert strict.bucket.uploads == {}
        assert_finishes(here, strict, THREE_PARTS)


@RULES
def test_m5_other_bytes_at_the_key_stay_and_are_told(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M5 B: something else stands at the key: nothing is overwritten, committed or deleted; one line says so."""
    with copy_of(prepared, tmp_path / "one", strict) as other:
        (manifest,) = other.archive()
    strict.bucket.objects.clear()
    whole = f"archive/{manifest.key}"
    strict.bucket.objects[whole] = b"of somebody else"
    with copy_of(prepared, tmp_path / "here", strict) as here:
        for _ in range(2):
            with pytest.raises(VerificationError, match=manifest.key) as caught:
                here.archive(rule)
            assert is_one_line(caught.value)
            assert_nothing_lost(here, strict)
        assert strict.bucket.objects[whole] == b"of somebody else"
        assert strict.bucket.uploads == {}


@pytest.mark.parametrize(
    ("fault", "done", "times"),
    [
        (Fault.COMPLETE_ERROR, False, 99),
        (Fault.COMPLETE_ERROR, False, 1),
        (Fault.COMPLETE_EMPTY, True, 99),
        (Fault.COMPLETE_EMPTY_UNDONE, False, 99),
        (Fault.COMPLETE_CUT_XML, True, 99),
        (Fault.RESET_AFTER, True, 99),
        (Fault.RESET_AFTER, True, 1),
        (Fault.COMPLETE_GONE, True, 1),
        (Fault.CONFLICT, False, 99),
        (Fault.CONFLICT, False, 1),
    ],
)
def test_m6_complete_is_judged_by_the_object(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, *, fault: Fault, done: bool, times: int
) -> None:
    """M6: whatever Complete answers, the day is committed where its object stands, and nowhere else.

    An empty 200 is no success by itself; an upload that is gone is one where the object is there.
    """
    strict.fail(fault, "Complete", times=times)
    with copy_of(prepared, tmp_path / "here", strict) as here:
        if done:
            here.archive(THREE_PARTS)
        else:
            try:
                here.archive(THREE_PARTS)
                assert times == 1, "the SDK's second try may bring it"
            except CLEAN_FAILURES as error:
                assert is_one_line(error)  # noqa: PT017 - which way it ends is the SDK's
                assert_nothing_lost(here, strict)
                assert strict.kept("events/") == {}
        assert strict.server.verbs().count("Complete") <= ATTEMPTS
        assert bool(strict.kept("metadata/")) == bool(strict.kept("events/")) == (manifest_key(DAY, 1) in strict.kept())
        here.assert_invariants()
        assert_finishes(here, strict, THREE_PARTS)
