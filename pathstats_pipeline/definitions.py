"""The code location: `defs`, and `build_defs` for those who need other resources. Nothing else."""

import warnings
from typing import Any

import dagster as dg

# Backfill policies and code references are beta in Dagster 1.13, partitions of checks a preview; the warnings would
# greet every start. Exit: when they are stable.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from pathstats_pipeline.defs import (  # noqa: E402 - after the filter, see above
    alarms,
    archive,
    checks,
    events,
    jobs,
    pages,
    purge,
    queue,
    resources,
    sensors,
    stats,
)
from pathstats_pipeline.settings import load_settings  # noqa: E402 - the same


def build_defs(**overrides: Any) -> dg.Definitions:
    """The definitions of the settings in the environment, with some resources replaced by name."""
    settings = load_settings()
    assets = [
        events.raw_events,
        stats.path_stats_hourly,
        stats.path_stats_daily,
        archive.events_archive,
        archive.archive_metadata,
        archive.events_cleanup,
    ]
    return dg.Definitions(
        assets=pages.with_places(assets, settings),
        asset_checks=[
            archive.archive_verified,
            archive.statistics_equal_archive,
            checks.rejected_share,
            checks.requests_sum_to_events,
            checks.hot_store_size,
            queue.queue_backlog,
            queue.consumer_heartbeat,
        ],
        jobs=[jobs.hourly_job, jobs.daily_job, jobs.archive_job, jobs.cleanup_job, queue.drain_job, purge.purge_job],
        schedules=[purge.purge_runs_daily],
        sensors=[sensors.due_runs, queue.queue_messages, alarms.alarms],
        resources={**resources.resources_of(settings), **overrides},
        # Steps of a run wait for the one warehouse anyway; a process for each of them would only cost its start.
        executor=dg.in_process_executor,
    )


defs = build_defs()
