"""The code location: `defs`, and `build_defs` for those who need other resources. Nothing else."""

import warnings
from typing import Any

import dagster as dg

# Backfill policies are beta in Dagster 1.13, partitions of checks a preview; the warnings would greet every start.
# Exit: when they are stable.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from pathstats_pipeline.defs import alarms, archive, events, jobs, purge, queue, resources, sensors, stats  # noqa: E402 - after the filter, see above
from pathstats_pipeline.settings import load_settings  # noqa: E402 - the same


def build_defs(**overrides: Any) -> dg.Definitions:
    """The definitions of the settings in the environment, with some resources replaced by name."""
    return dg.Definitions(
        assets=[
            events.raw_events,
            stats.path_stats_hourly,
            stats.path_stats_daily,
            archive.events_archive,
            archive.archive_metadata,
            archive.events_cleanup,
        ],
        asset_checks=[archive.archive_verified, queue.queue_backlog, queue.consumer_heartbeat],
        jobs=[jobs.hourly_job, jobs.daily_job, jobs.archive_job, jobs.cleanup_job, queue.drain_job, purge.purge_job],
        schedules=[purge.purge_runs_daily],
        sensors=[sensors.due_runs, queue.queue_messages, alarms.alarms],
        resources={**resources.resources_of(load_settings()), **overrides},
        # Steps of a run wait for the one warehouse anyway; a process for each of them would only cost its start.
        executor=dg.in_process_executor,
    )


defs = build_defs()
