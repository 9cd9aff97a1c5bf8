"""What is under way: the windows of time that unfinished runs and backfills are at.

An hour between its two assets looks as if its statistics were behind, and a backfill's partitions as if nobody had
asked for them: whoever asks for runs leaves these windows out.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Final

import dagster as dg

# Not public, though `get_backfills` wants and gives them. Exit: when Dagster exports them.
from dagster._core.definitions.partitions.subset import PartitionsSubset, TimeWindowPartitionsSubset
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from pathstats_pipeline.defs.abandoned import give_up
from pathstats_pipeline.defs.jobs import DRAIN_JOB, PURGE_JOB, UNFINISHED
from pathstats_pipeline.defs.partitions import window_of_key
from pathstats_pipeline.events.window import Window, naive_utc

_OF_NO_TIME: Final = {DRAIN_JOB, PURGE_JOB}
"""Jobs that touch neither hours nor days."""
_RUNS_LOOKED_AT: Final = 500
_BACKFILLS_LOOKED_AT: Final = 50
_RETRIED_WITHIN: Final = dt.timedelta(minutes=1)
"""Dagster looks for failures every 5 seconds, and once: it loses sight of one that it sees before the run's status is
written, and promises a retry that never comes. Automation asks for what that run left behind."""
_ALL_TIME: Final = Window(Window.of_day(dt.date.min).start, Window.of_day(dt.date(9999, 12, 30)).end)
_PARTITION, _RANGE_START, _RANGE_END = (
    f"dagster/{name}" for name in ("partition", "asset_partition_range_start", "asset_partition_range_end")
)


def under_way(instance: dg.DagsterInstance) -> list[Window]:
    """The windows of all runs and backfills that aren't finished; runs whose process died are given up first."""
    give_up(instance)
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)), limit=_RUNS_LOOKED_AT)
    going = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    runs = [*runs, *_to_be_retried(instance)]
    backfills = instance.get_backfills(filters=going, limit=_BACKFILLS_LOOKED_AT)
    of_backfills = [window for backfill in backfills for window in _windows_of(backfill)]
    return [*of_backfills, *(_window_of(run) for run in runs if run.job_name not in _OF_NO_TIME)]


def _to_be_retried(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs whose process died, and which Dagster is going to run once more (`run_retries`)."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=dt.datetime.now(dt.UTC) - _RETRIED_WITHIN,
    )
    found = instance.get_runs(filters, limit=_RUNS_LOOKED_AT)
    return [run for run in found if AUTO_RETRY_RUN_ID_TAG not in run.tags]


def _window_of(run: dg.DagsterRun) -> Window:
    """The hours or days of a run; of one that says none, all time."""
    first = run.tags.get(_PARTITION) or run.tags.get(_RANGE_START)
    last = run.tags.get(_PARTITION) or run.tags.get(_RANGE_END)
    if not first or not last:
        return _ALL_TIME
    return Window(window_of_key(first).start, window_of_key(last).end)


def _windows_of(backfill: PartitionBackfill) -> Iterator[Window]:
    """The spans of a backfill's partitions, of those that are done already, too."""
    if backfill.asset_backfill_data is None:
        yield from map(window_of_key, backfill.partition_names or ())
        return
    for subset in backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key.values():
        yield from _spans_of(subset)


def _spans_of(subset: PartitionsSubset) -> Iterator[Window]:
    if isinstance(subset, TimeWindowPartitionsSubset):
        for span in subset.included_time_windows:
            yield Window(naive_utc(span.start), naive_utc(span.end))
    else:
        yield from map(window_of_key, subset.get_partition_keys())
