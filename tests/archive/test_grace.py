"""M21: the grace after verification, and holds: by a clock of the tests, through crashes, moves and other hosts."""

import dataclasses
import datetime as dt
import itertools
import pathlib
import shutil

import pytest
from click.testing import CliRunner

from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.cleanup import CleanedDay, CleanupRefusedError, clean_day, plan_cleanup
from pathstats_pipeline.archive.day import Archiver, verified_manifests
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.cli import cli

from .fake_objects import FakeObjects, Faults, KilledError
from .worlds import BATCH_ROWS, DAY, NOW, SMALL, WINDOW, World, world

GRACE = dt.timedelta(days=2, hours=5)
RETENTION = Retention(3, GRACE)
TICK = dt.timedelta(microseconds=1)
DUE = NOW + GRACE
"""The day is verified at NOW."""


def ready(here: World) -> None:
    """A day that is archived, at NOW."""
    here.bring(0, "a", 20)
    here.bring(5, "b", 15)
    here.build_statistics()
    here.archive()


def clean(here: World, now: dt.datetime, retention: Retention = RETENTION) -> CleanedDay:
    """Clean-up by that clock."""
    verdict = plan_cleanup(here.warehouse, here.objects, DAY, now, retention)
    return clean_day(here.warehouse, here.objects, here.landing, verdict, DAY, BATCH_ROWS, lambda: now)


def assert_waits(here: World, now: dt.datetime, why: str = "it may go from 2026-11-27 05:00 on") -> None:
    """Clean-up by that clock deletes nothing, says why, and calls it waiting."""
    verdict = plan_cleanup(here.warehouse, here.objects, DAY, now, RETENTION)
    assert verdict.waiting
    assert verdict.rows == 0
    with pytest.raises(CleanupRefusedError, match=why):
        clean(here, now)


def told(here: World) -> dt.datetime | None:
    """From when on the day may go, as `pathstats status` says."""
    manifests = verified_manifests(here.objects, DAY)
    here.warehouse.record_archives(DAY, manifests, [each.key for each in manifests])
    [day] = here.warehouse.status(NOW).days
    return day.deletable_from(RETENTION)


def test_m21_nothing_goes_before_it_is_due(tmp_path: pathlib.Path) -> None:
    """M21: not a microsecond before; and then it does."""
    with world(tmp_path, FakeObjects()) as here:
        ready(here)
        for before in (GRACE, dt.timedelta(hours=1), TICK):
            assert_waits(here, DUE - before)
        assert told(here) == DUE
        assert here.hot() == here.accepted
        assert clean(here, DUE).deleted_rows == 35
        assert told(here) is None
        here.assert_invariants(cleaned=True)


def test_m21_a_late_generation_is_waited_for(tmp_path: pathlib.Path) -> None:
    """M21: what was verified last counts for the day; a run that verifies nothing anew doesn't begin it again."""
    with world(tmp_path, FakeObjects()) as here:
        ready(here)
        later = NOW + dt.timedelta(days=1)
        archiver = Archiver(here.warehouse, here.objects, SMALL, lambda: later, "0.0-test", Claimant("x"))
        archiver.archive(DAY)
        assert plan_cleanup(here.warehouse, here.objects, DAY, DUE, RETENTION).rows == 35
        here.bring(5, "late", 3)
        here.build_statistics()
        archiver.archive(DAY)
        assert_waits(here, DUE, "it may go from 2026-11-28 05:00 on")
        assert clean(here, later + GRACE).deleted_rows == 38


def test_m21_a_crash_inside_the_delay_changes_nothing(tmp_path: pathlib.Path) -> None:
    """M21: killed at any request of the archive or of clean-up while the day waits: due when it was due."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        known = here.accepted
    for number in itertools.count():
        objects.faults = Faults(number, error=KilledError())
        with world(tmp_path, objects) as here:
            try:
                here.archive()
                assert_waits(here, DUE - TICK)
            except KilledError:
                continue
            break
    assert number >= 4
    objects.faults = Faults()
    with world(tmp_path, objects) as here:
        here.accepted = known
        assert_waits(here, DUE - TICK)
        assert clean(here, DUE).deleted_rows == 35
        here.assert_invariants(cleaned=True)


@pytest.mark.parametrize("how", ["moved", "another host", "records lost"])
def test_m21_the_timer_stands_in_the_manifest(tmp_path: pathlib.Path, how: str) -> None:
    """M21: in another directory, for another host with a warehouse of its own, and without records: the same due."""
    objects = FakeObjects()
    with world(tmp_path / "one", objects) as here:
        ready(here)
        known = here.accepted
        if how == "records lost":
            for table in ("archive_steps", "archives"):
                here.warehouse._run(f"DELETE FROM pathstats.{table}")
    directory = tmp_path / "two"
    if how == "another host":
        with world(directory, objects) as there:
            there.bring(0, "a", 20)
            there.bring(5, "b", 15)
            there.build_statistics()
            assert there.archiver(claimant=Claimant("other:/warehouse.duckdb")).archive(DAY)
    else:
        shutil.move(tmp_path / "one", directory)
    with world(directory, objects) as there:
        there.accepted = known
        assert_waits(there, DUE - TICK)
        assert clean(there, DUE).deleted_rows == 35
        there.assert_invariants(cleaned=True)


def hold(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The command; what it prints."""
    monkeypatch.setenv("PATHSTATS_HOME", str(home))
    answer = CliRunner().invoke(cli, ["hold", str(DAY), *arguments])
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_m21_a_hold_wins_until_it_is_released(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M21: over any retention, in another directory, and over a clean-up that has begun; the release ends it."""
    objects = FakeObjects()
    with world(tmp_path / "one", objects) as here:
        ready(here)
        known = here.accepted
        # A clean-up that died after its first transactions.
        here.warehouse.delete_load(here.warehouse.loads(WINDOW)[0].load, BATCH_ROWS)
    assert "is on hold: an audit" in hold(tmp_path / "one", monkeypatch, "--reason", "an audit")
    shutil.move(tmp_path / "one", tmp_path / "two")
    years = NOW + dt.timedelta(days=4_000)
    with world(tmp_path / "two", objects) as here:
        here.accepted = known
        for retention in (RETENTION, Retention(0), dataclasses.replace(RETENTION, held={})):
            with pytest.raises(CleanupRefusedError, match="2026-11-20 is on hold: an audit"):
                clean(here, years, retention)
        assert here.hot().total() == 15
        here.assert_invariants()
    assert "is released" in hold(tmp_path / "two", monkeypatch, "--release")
    with world(tmp_path / "two", objects) as here:
        here.accepted = known
        assert_waits(here, DUE - TICK)
        assert clean(here, DUE).deleted_rows == 15
        here.assert_invariants(cleaned=True)
