"""A run whose process died: its hours wait for Dagster's retry, and not for one that never comes."""

import datetime as dt
import pathlib
import time
import types
from typing import Any, cast

import dagster as dg
import pytest

# Not public: what retries runs in the daemon.
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from pathstats_pipeline.defs import under_way as module
from pathstats_pipeline.defs.under_way import under_way
from pathstats_pipeline.events.window import Window

HOUR = "2026-02-28-05:00"
RETRIES = {"run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}}


@pytest.fixture
def instance(tmp_path: pathlib.Path) -> dg.DagsterInstance:
    """A real instance in a directory, with the retries of the project's `dagster.yaml`."""
    (tmp_path / "instance").mkdir()
    return dg.DagsterInstance.local_temp(str(tmp_path / "instance"), overrides=RETRIES)


def _retries(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the runs that the daemon would retry now."""
    found: list[str] = []

    def consume(_context: object, records: list[dg.RunRecord], _logger: object) -> Any:
        found.extend(record.dagster_run.run_id for record in records if _is_promised(record.dagster_run))
        return iter(())

    monkeypatch.setattr(EventLogConsumerDaemon, "handle_updated_runs_fns", [consume])
    context: Any = types.SimpleNamespace(instance=instance)
    list(EventLogConsumerDaemon().run_iteration(context))
    return found


def _is_promised(run: dg.DagsterRun) -> bool:
    return run.tags.get("dagster/will_retry") == "true"


def _run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    @dg.job
    def hourly() -> None:
        pass

    return instance.create_run_for_job(hourly, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": HOUR})


def test_hours_wait_for_a_retry_and_no_longer_than_it_takes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon may look at a failure before its run has it: it is promised a retry then, and never gets one."""
    assert _retries(instance, monkeypatch) == []
    seen_in_time, seen_too_early = _run(instance), _run(instance)
    instance.report_run_failed(seen_in_time, "the process that ran it died")
    assert _retries(instance, monkeypatch) == [seen_in_time.run_id]
    instance.add_run_tags(seen_in_time.run_id, {"dagster/auto_retry_run_id": "another"})

    handle = instance.run_storage.handle_run_event

    def late(*args: Any, **named: Any) -> None:
        assert _retries(instance, monkeypatch) == []
        handle(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(type(instance.run_storage), "handle_run_event", lambda _self, *args: late(*args))
        instance.report_run_failed(seen_too_early, "the process that ran it died")
    assert _is_promised(cast("dg.DagsterRun", instance.get_run_by_id(seen_too_early.run_id)))
    assert _retries(instance, monkeypatch) == []

    assert under_way(instance) == [Window.of_hour(dt.datetime.fromisoformat("2026-02-28T05:00"))]
    assert dt.timedelta(seconds=30) <= module._RETRIED_WITHIN <= dt.timedelta(minutes=2)
    monkeypatch.setattr(module, "_RETRIED_WITHIN", dt.timedelta(seconds=0.1))
    time.sleep(0.3)
    assert under_way(instance) == []
