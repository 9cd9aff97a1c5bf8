"""What Dagster's instance says of itself, for the exporter of metrics: last ticks, failed and unfinished runs.

Only opens an instance that is there. Nothing of the code location is imported, so no setting has to be right.
"""

import datetime as dt
import os
import pathlib
from collections.abc import Iterator

import dagster as dg

from pathstats_pipeline.alarms.metrics import Sample
from pathstats_pipeline.defs.jobs import UNFINISHED

_DAY = dt.timedelta(days=1)


class NoInstanceError(RuntimeError):
    """There is no instance of Dagster yet; one line."""


def instance_facts(home: pathlib.Path, now: dt.datetime) -> list[Sample]:
    """The samples of the instance at `DAGSTER_HOME`, or below `home`; raises NoInstanceError where there is none."""
    folder = pathlib.Path(os.environ.get("DAGSTER_HOME") or home / "dagster").absolute()
    if not folder.is_dir():
        raise NoInstanceError(f"there is no Dagster at {folder} yet")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return list(facts_of(instance, now))


def facts_of(instance: dg.DagsterInstance, now: dt.datetime) -> Iterator[Sample]:
    """The samples of an instance."""
    since = (now - _DAY).replace(tzinfo=dt.UTC)
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    yield Sample("pathstats_runs_failed", instance.get_runs_count(failed))
    yield Sample("pathstats_runs_unfinished", instance.get_runs_count(dg.RunsFilter(statuses=list(UNFINISHED))))
    last: dict[str, float] = {}
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            last[state.instigator_name] = max(tick.timestamp, last.get(state.instigator_name, 0.0))
    for name, timestamp in last.items():
        yield Sample("pathstats_automation_last_tick_timestamp_seconds", timestamp, name)
