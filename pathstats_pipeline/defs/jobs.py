"""Jobs: an hour's assets, a day's statistics, a day's archive, its clean-up alone.

Hours and days can't share a job, since their partitions differ; nor can days that go in ranges (statistics) and days
that go one by one (archive).
"""

import dagster as dg

HOURLY_ASSETS = ("raw_events", "path_stats_hourly")
DAILY_ASSETS = ("path_stats_daily",)
DRAIN_JOB = "drain"
"""The job of queue.py."""
PURGE_JOB = "purge_runs"
"""The job of purge.py."""
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
"""Statuses of runs whose work is still to come."""
ARCHIVE_ASSETS = ("events_archive", "archive_metadata", "events_cleanup")

hourly_job = dg.define_asset_job(
    "hourly",
    # The checks of raw_events judge the queue, not an hour; the sensor of queue.py has them.
    selection=dg.AssetSelection.assets(*HOURLY_ASSETS).without_checks(),
    description="Load an hour's events and build its statistics.",
)
daily_job = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.assets(*DAILY_ASSETS),
    description="Merge a day's hourly statistics.",
)
archive_job = dg.define_asset_job(
    "archive",
    selection=dg.AssetSelection.assets(*ARCHIVE_ASSETS),
    description="Archive a day's events, verify and record them, and clean up what has left the hot window.",
)
cleanup_job = dg.define_asset_job(
    "cleanup",
    selection=dg.AssetSelection.assets("events_cleanup"),
    description="Delete a day's archived events and their files, once its archive was read back.",
)
