"""Old runs go, and nothing looks as if it had never been built."""

import datetime as dt
import pathlib
from collections.abc import Iterator

import dagster as dg
import pytest
from clocks import SetClock
from instances import BACKENDS, instance_on

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.defs.purge import LOOKED_BACK, purge
from pathstats_pipeline.defs.under_way import under_way

HOURS = dg.HourlyPartitionsDefinition("2026-11-20-00:00", timezone="UTC")
BOTH = ("2026-11-20-00:00", "2026-11-20-01:00")


@dg.asset(partitions_def=HOURS, backfill_policy=dg.BackfillPolicy.single_run())
def built() -> None:
    """Hours."""


@dg.op
def works() -> None:
    """Materialises nothing."""


@dg.op
def breaks() -> None:
    """Neither."""
    raise ValueError


@dg.job
def drains() -> None:
    """As `drain`."""
    works()


@dg.job
def failing() -> None:
    """Whatever failed."""
    breaks()


@pytest.fixture(params=BACKENDS)
def instance(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A real instance, as of `make dev` and as of deploy/."""
    with instance_on(request.param, tmp_path / "dagster", monkeypatch) as found:
        yield found


def build(instance: dg.DagsterInstance, first: str, last: str) -> str:
    """A range of hours in one run."""
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.materialize([built], instance=instance, tags=tags).run_id


def run_ids(instance: dg.DagsterInstance) -> set[str]:
    """The runs that are there."""
    return set(instance.get_run_ids())


def after(**span: float) -> dt.datetime:
    """A moment, from now on."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(**span)


def test_drains_failures_and_what_was_built_again_go_and_no_partition_is_forgotten(
    instance: dg.DagsterInstance,
) -> None:
    """A range of which one hour was built by nobody else stays whole; a second purge finds nothing."""
    first = build(instance, BOTH[0], BOTH[0])
    both = build(instance, *BOTH)
    again = build(instance, BOTH[0], BOTH[0])
    drains.execute_in_process(instance=instance)
    failing.execute_in_process(instance=instance, raise_on_error=False)
    key = dg.AssetKey("built")
    statuses = instance.get_status_by_partition(key, list(BOTH), HOURS)

    assert purge(instance, after(hours=-1)) == (0, 0)
    assert len(run_ids(instance)) == 5
    assert purge(instance, after(minutes=1)) == (3, 2)
    assert run_ids(instance) == {both, again}
    assert first not in run_ids(instance)
    assert instance.get_materialized_partitions(key) == set(BOTH)
    assert instance.get_status_by_partition(key, list(BOTH), HOURS) == statuses
    assert purge(instance, after(minutes=1)) == (0, 2)
    assert purge(instance, after(days=1) + LOOKED_BACK) == (0, 0)


def test_automation_does_not_wait_for_a_purge(instance: dg.DagsterInstance) -> None:
    """Its run is at no hour and no day."""
    run = instance.create_run_for_job(build_defs().resolve_job_def("purge_runs"))
    assert not run.is_finished
    assert under_way(instance) == []


def test_the_job_keeps_what_is_younger_than_the_setting(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock, 31 days and not sooner."""
    monkeypatch.setenv("PATHSTATS_KEEP_RUNS_DAYS", "31")
    drains.execute_in_process(instance=instance)
    for days, left in ((30, 2), (32, 1)):
        defs = build_defs(clock=SetClock(at=after(days=days).isoformat()))
        assert defs.resolve_job_def("purge_runs").execute_in_process(instance=instance).success
        assert len(run_ids(instance)) == left, days
