"""Nothing is deleted that was not read back: a store that lies, or damages what it keeps (M2, M18)."""

import pathlib
import random

import pytest
from archive.worlds import DAY, world

from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.archive.verify import VerificationError, inspect
from pathstats_pipeline.storage.objects import ObjectsError

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
from .strict_server import flipped

LIES = [
    (Fault.KEEPS_NOTHING, "does not exist"),
    (Fault.GARBAGE, "damaged within"),
    (Fault.EMPTY, "cut after 0 bytes"),
    (Fault.CUTS_MEMBER, r"holds 20 rows with digest \w+, not 40"),
    (Fault.FLIPS_STORED, "damaged|digest|gzip"),
    (Fault.FRAMED, "aws-chunked framing"),
]


@RULES
@pytest.mark.parametrize(("lie", "words"), LIES, ids=[lie.value for lie, _ in LIES])
def test_m2_a_store_that_keeps_something_else_is_found_out(
    prepared: Prepared,
    tmp_path: pathlib.Path,
    strict: Strict,
    rule: SizeRule,
    lie: Fault,
    words: str,
) -> None:
    """M2: it said 200, and what it gives back is not the day: one line, no manifest, no row deleted."""
    strict.fail(lie, "Complete" if rule is THREE_PARTS else "Put", "events/")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        with pytest.raises(CLEAN_FAILURES, match=words) as caught:
            here.archive(rule)
        assert is_one_line(caught.value)
        assert f"events-{DAY}-g0001-" in str(caught.value)
        with pytest.raises(CLEAN_FAILURES):
            here.clean()
        assert_nothing_lost(here, strict)
        strict.bucket.objects.clear()  # "if it is none of ours, remove it"
        assert_finishes(here, strict, rule)


def test_m2_an_object_that_only_head_finds(prepared: Prepared, tmp_path: pathlib.Path, strict: Strict) -> None:
    """M2: 200 on HEAD and 404 on GET is no object; nothing is committed, and nothing is deleted later either."""
    strict.fail(Fault.HEAD_ONLY, "Get", "events/")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        with pytest.raises(VerificationError, match="does not exist"):
            here.archive()
        assert_nothing_lost(here, strict)
        strict.heal()
        here.archive()
        strict.fail(Fault.HEAD_ONLY, "Get", "events/")
        with pytest.raises(ObjectsError, match="does not exist"):
            here.clean()
        assert here.hot() == here.accepted
        assert_finishes(here, strict, ONE_PUT)


def test_m2_the_object_of_another_day(prepared: Prepared, tmp_path: pathlib.Path, strict: Strict) -> None:
    """M2: what stands at the key is a whole archive, but of other events."""
    with world(tmp_path / "other", strict.objects) as other:
        other.bring(0, "other", 30)
        (manifest,) = other.archive()
    body = strict.kept()[manifest.key]
    strict.bucket.objects.clear()
    with copy_of(prepared, tmp_path / "here", strict) as here:
        (ours,) = here.archive()
        strict.bucket.objects[f"archive/{ours.key}"] = body
        with pytest.raises(VerificationError, match="rows is 30, not 40"):
            here.clean()
        assert here.hot() == here.accepted


def test_m2_each_of_200_flipped_bits_is_caught(prepared: Prepared, tmp_path: pathlib.Path, strict: Strict) -> None:
    """M2: one bit of the object is turned over on the disk, at 200 random places: 200 refusals, not a row deleted."""
    rng = random.Random(2)  # noqa: S311 - test data
    with copy_of(prepared, tmp_path / "here", strict) as here:
        (manifest,) = here.archive()
        body = strict.kept()[manifest.key]
        for _ in range(200):
            damaged = flipped(body, rng.randrange(len(body)), rng.randrange(8))
            strict.bucket.objects[f"archive/{manifest.key}"] = damaged
            with pytest.raises(VerificationError, match=manifest.key) as caught:
                here.clean()
            assert is_one_line(caught.value)
        assert here.hot() == here.accepted
        strict.bucket.objects[f"archive/{manifest.key}"] = body
        assert_finishes(here, strict, ONE_PUT)


@RULES
def test_m18_a_bit_that_flips_on_the_way_is_refused_by_the_server(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M18: our own CRC32 goes with every body: the server refuses a damaged one, and a second try brings the day."""
    strict.fail(Fault.FLIPPED, "UploadPart" if rule is THREE_PARTS else "Put", "events/")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        with pytest.raises(ObjectsError, match="BadDigest"):
            here.archive(rule)
        assert strict.kept("events/") == {}
        assert_nothing_lost(here, strict)
        bodies = [seen for seen in strict.seen if "events/" in seen.key and seen.verb in {"Put", "UploadPart"}]
        assert 0 < len(bodies) <= ATTEMPTS
        assert all("x-amz-checksum-crc32" in seen.headers for seen in bodies)
        assert_finishes(here, strict, rule)


@RULES
def test_m18_a_server_without_checksums_is_found_out_by_reading_back(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M18: a server that checks nothing keeps the damaged body; it is read back before anything rests on it."""
    verb = "UploadPart" if rule is THREE_PARTS else "Put"
    strict.fail(Fault.NO_CHECKSUMS)
    strict.fail(Fault.FLIPPED, verb, "events/")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        with pytest.raises((VerificationError, ObjectsError), match=r"events-.*-g0001-"):
            here.archive(rule)
        assert_nothing_lost(here, strict)


def test_m18_framing_is_named(strict: Strict) -> None:
    """M18: an object that begins as aws-chunked does is called so, whoever reads it."""
    strict.fail(Fault.FRAMED, "Put")
    strict.objects.put(manifest_key(DAY, 1), b"x" * 100)
    with strict.objects.open(manifest_key(DAY, 1)) as stream, pytest.raises(VerificationError, match="aws-chunked"):
        inspect(stream, "x")
