"""M4: what is archived and deleted is never written again, whatever was forgotten; an empty read shadows nothing."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest
from archive.fake_objects import FakeObjects
from archive.worlds import DAY, WINDOW, World, world

from pathstats_pipeline.archive.cleanup import CleanedDay, CleanupRefusedError
from pathstats_pipeline.archive.lifecycle import State
from pathstats_pipeline.archive.strategy import SizeRule

from .days import ONE_PUT, RULES, Prepared, copy_of, is_one_line
from .stores import Strict


def etags(strict: Strict) -> dict[str, str]:
    """Every object with the ETag that the server gives for it."""
    client, bucket = strict.objects.client, strict.objects.bucket
    return {key: client.head_object(Bucket=bucket, Key=key)["ETag"] for key in sorted(strict.bucket.objects)}


def assert_only_read(here: World, strict: Strict, rule: SizeRule, *, runs: int = 3) -> None:
    """So many more runs of the archive send nothing that could change a thing, and nothing is changed."""
    before = etags(strict)
    for _ in range(runs):
        strict.seen.clear()
        assert [manifest.generation for manifest in here.archive(rule)] == [1]
        assert set(strict.server.verbs()) <= {"Get", "Head", "List"}
    assert etags(strict) == before
    assert strict.bucket.uploads == {}


@RULES
def test_m4_a_run_after_clean_up_only_reads(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M4: runs 2 to 4 of archive and clean-up: GET, HEAD, LIST; every ETag stays; no row comes or goes."""
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive(rule)
        here.clean()
        steps = here.warehouse.archive_steps(DAY)
        for _ in range(3):
            assert_only_read(here, strict, rule, runs=1)
            assert here.clean() == CleanedDay(0, 0, 1)
            assert set(strict.server.verbs()) <= {"Get", "Head", "List"}
        assert here.warehouse.archive_steps(DAY).equals(steps)
        here.assert_invariants(cleaned=True)


@contextlib.contextmanager
def without_tables(
    day: contextlib.AbstractContextManager[World], rule: SizeRule, *tables: str, cleaned: bool
) -> Iterator[World]:
    """A day that is archived, recorded, and cleaned up or not, and then loses what stands in these tables."""
    with day as here:
        here.warehouse.record_archives(DAY, here.archive(rule), ["s3://x"])
        if cleaned:
            here.clean()
        for table in tables:
            here.warehouse._run(f"DELETE FROM pathstats.{table}")
        yield here


@RULES
@pytest.mark.parametrize("cleaned", [False, True])
def test_m4_records_that_were_lost_are_made_again(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule, *, cleaned: bool
) -> None:
    """M4: without `archive_steps` and `archives`, what stands on S3 is confirmed, and nothing is sent."""
    day = copy_of(prepared, tmp_path / "here", strict)
    with without_tables(day, rule, "archive_steps", "archives", cleaned=cleaned) as here:
        assert_only_read(here, strict, rule)
        assert [record.state for record in here.warehouse.generation_records(DAY)] == [State.MANIFESTED]
        here.clean()
        here.assert_invariants(cleaned=True)


@RULES
@pytest.mark.parametrize("cleaned", [False, True])
def test_m4_a_ledger_that_was_lost_shadows_nothing(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule, *, cleaned: bool
) -> None:
    """M4: no load is known any more: no empty generation; nothing is deleted either, nobody knows what was brought."""
    day = copy_of(prepared, tmp_path / "here", strict)
    with without_tables(day, rule, "loads", cleaned=cleaned) as here:
        hot = here.hot()
        assert_only_read(here, strict, rule)
        with pytest.raises(CleanupRefusedError, match="g0001 covers other events than its loads brought") as caught:
            here.clean()
        assert is_one_line(caught.value)
        # What lies in the landing zone is loaded once more: the ids are known, and none of it is archived again.
        here.load()
        assert here.hot() == hot
        assert_only_read(here, strict, rule)
        assert here.archived() == here.accepted


@RULES
def test_m4_a_new_warehouse_finds_its_archive(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M4: with nothing but the landing zone and S3 left, the day is loaded, confirmed, and cleaned up; none is sent."""
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive(rule)
        with world(tmp_path / "new", strict.objects) as new:
            new.accepted, new.landing = here.accepted, here.landing
            assert_only_read(new, strict, rule)
            assert len(new.load().appended) == 2
            assert_only_read(new, strict, rule)
            new.build_statistics()
            assert new.clean().deleted_rows == new.accepted.total()
            new.assert_invariants(cleaned=True)


def test_m4_an_empty_warehouse_leaves_no_trace(prepared: Prepared, tmp_path: pathlib.Path, strict: Strict) -> None:
    """M4: a warehouse that never saw the day neither archives nor deletes anything of it."""
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive()
        here.clean()
    with world(tmp_path / "empty", strict.objects) as empty:
        assert_only_read(empty, strict, ONE_PUT)
        with pytest.raises(CleanupRefusedError, match="covers other events"):
            empty.clean()
        assert empty.warehouse.loads(WINDOW) == []
    with world(tmp_path / "elsewhere", FakeObjects()) as elsewhere:
        assert elsewhere.archive() == []
