"""Old runs: Dagster keeps them and their logs for ever, so a job deletes those that nothing depends on.

Deleting a run deletes its materialisations, and with the newest one of a partition the partition would look as if it
had never been built: automation would ask for it again, and the UI would be wrong. So such runs stay at any age.
"""

import datetime as dt
from typing import Final

import dagster as dg

from pathstats_pipeline.defs.jobs import PURGE_JOB
from pathstats_pipeline.defs.resources import Clock, Housekeeping

LOOKED_BACK: Final = dt.timedelta(days=30)
"""Runs are looked at for so long after their time; what was kept until then isn't looked at any more."""
RUNS_LOOKED_AT: Final = 20_000
_ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dg.op
def purge_old_runs(context: dg.OpExecutionContext, housekeeping: Housekeeping, clock: Clock) -> None:
    """Delete runs that ended over PATHSTATS_KEEP_RUNS_DAYS ago, but those that built what still stands.

    **Second run**: finds nothing more. **Fails** when Dagster's storage can't be asked; what was deleted by then is.
    """
    deleted, kept = purge(context.instance, clock.now() - dt.timedelta(days=housekeeping.keep_runs_days))
    context.add_output_metadata({"deleted_runs": deleted, "kept_runs": kept})


@dg.job(name=PURGE_JOB, description="Delete old runs that nothing depends on.", tags={"dagster/priority": "-1"})
def purge_job() -> None:
    """One step."""
    purge_old_runs()


@dg.schedule(job=purge_job, cron_schedule="40 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def purge_runs_daily() -> dg.RunRequest:
    """Each night, when little else runs; a night without a daemon is made up for by the next."""
    return dg.RunRequest()


def purge(instance: dg.DagsterInstance, before: dt.datetime) -> tuple[int, int]:
    """Delete the runs that ended before a moment and that nothing depends on; how many those are, and how many stay."""
    ended = dg.RunsFilter(
        statuses=list(_ENDED),
        updated_after=(before - LOOKED_BACK).replace(tzinfo=dt.UTC),
        updated_before=before.replace(tzinfo=dt.UTC),
    )
    deleted = kept = 0
    for run_id in instance.get_run_ids(ended, limit=RUNS_LOOKED_AT):
        if _is_needed(instance, run_id):
            kept += 1
        else:
            instance.delete_run(run_id)
            deleted += 1
    return deleted, kept


def _is_needed(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a materialisation of the run is the newest of its asset or partition."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.dagster_event
        if event is None or event.asset_key is None:
            continue
        of_partition = dg.AssetRecordsFilter(
            asset_key=event.asset_key, asset_partitions=[event.partition] if event.partition else None
        )
        newest = instance.fetch_materializations(of_partition, limit=1).records
        if not newest or newest[0].run_id == run_id:
            return True
    return False
