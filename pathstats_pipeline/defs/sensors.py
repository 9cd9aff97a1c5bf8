"""The sensor of what came late. Sensors stand here; which runs they ask for is decided in archive/late.py.

A sensor is evaluated in the code server, beside the runs: it holds the warehouse for a moment only, gives way to
whoever has it, and never fails. It asks by facts, not by partitions, of which there are 100,000 in 11 years.
"""

import datetime as dt
import itertools
import pathlib
from collections.abc import Sequence
from typing import Final

import dagster as dg

# Not public, though `get_backfills` wants them. Exit: when Dagster exports them.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from pathstats_pipeline.archive.late import Ask, Files, late_work
from pathstats_pipeline.defs.abandoned import give_up
from pathstats_pipeline.defs.jobs import DRAIN_JOB, UNFINISHED, archive_job, daily_job, hourly_job
from pathstats_pipeline.defs.partitions import HOURLY
from pathstats_pipeline.defs.presentation import day_key, hour_key, some_of
from pathstats_pipeline.defs.resources import LandingZone, WarehouseResource
from pathstats_pipeline.events.window import DAY, HOUR, Window, naive_utc
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.storage.warehouse import open_warehouse

INTERVAL_SECONDS: Final = 60
RUNS_PER_TICK: Final = 8
RECENT_DAYS: Final = 7
"""Days before today whose files are looked at in every tick."""
OLDER_DAYS_PER_TICK: Final = 200
"""Of the older days that have files, so many a tick, in turn."""
FACT_TAG: Final = "pathstats/late"
_RUNS_LOOKED_AT: Final = 20
LOCK_SECONDS: Final = 2.0
"""A tick that takes a minute is killed; the next one comes soon."""


@dg.sensor(
    jobs=[hourly_job, daily_job, archive_job],
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_events(
    context: dg.SensorEvaluationContext, warehouse: WarehouseResource, landing_zone: LandingZone
) -> dg.SensorResult | dg.SkipReason:
    """Asks for the runs that late events call for: their hours, then their day, then the day's next generation.

    Looks at the files of the landing zone that the ledger doesn't know, once their hour is over: of the last 7 days,
    and of older days in turn. Asks for `hourly` of those hours; when they are built, for `daily` of days that are
    over, and for `archive` of days that were archived before and have events that no generation covers. At most 8 runs
    a tick.

    Each fact asks once. A run that failed is asked for again when something new comes; else materialise it by hand. It
    skips, and says why, while runs or backfills are under way, whose work it would ask for again; while the warehouse
    is busy or isn't there; and while the landing zone can't be read.
    """
    if under_way := _under_way(context.instance):
        return dg.SkipReason(under_way)
    now = naive_utc(dt.datetime.now(dt.UTC))
    path = pathlib.Path(warehouse.database)
    if not path.exists():
        return dg.SkipReason(f"there is no warehouse at {path} yet")
    try:
        landing = landing_zone.landing()
        looked_at, cursor = days_to_look_at(landing.days(), now.date(), context.cursor)
        landed = {day: landing.loads(day) for day in looked_at}
        with open_warehouse(path, lock_timeout_seconds=LOCK_SECONDS) as store:
            unknown: Files = {
                day: files - store.known_loads(Window.of_day(day)) for day, files in landed.items() if files
            }
            work = late_work(now, store.days(), unknown, store.hours_behind(), looked_at)
            asked = [ask for ask in work if ask.window.start >= HOURLY.start.replace(tzinfo=None)]
    except (WarehouseError, ObjectsError, OSError) as error:
        return dg.SkipReason(" ".join(str(error).split()))
    fresh = list(itertools.islice((ask for ask in asked if not _was_asked(context.instance, ask)), RUNS_PER_TICK))
    if not fresh:
        why = f": was asked for before: {some_of([ask.reason for ask in asked])}" if asked else ""
        return dg.SensorResult(skip_reason=f"nothing new is late{why}", cursor=cursor)
    return dg.SensorResult(run_requests=[_request(ask) for ask in fresh], cursor=cursor)


def days_to_look_at(days: Sequence[dt.date], today: dt.date, cursor: str | None) -> tuple[list[dt.date], str | None]:
    """The recent days among these, and the older ones whose turn it is; and the cursor for the next tick."""
    recent = [day for day in days if day >= today - RECENT_DAYS * DAY]
    older = [day for day in days if day < today - RECENT_DAYS * DAY]
    after = [day for day in older if cursor is None or day_key(day) > cursor]
    turn = list(itertools.islice([*after, *older[: len(older) - len(after)]], OLDER_DAYS_PER_TICK))
    return sorted({*turn, *recent}), day_key(turn[-1]) if turn else cursor


def _under_way(instance: dg.DagsterInstance) -> str | None:
    """What is being done, by whomever: an hour between its two assets looks as if its statistics were behind."""
    give_up(instance)
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)), limit=_RUNS_LOOKED_AT)
    if others := [run for run in runs if run.job_name != DRAIN_JOB]:  # a drain builds nothing
        return f"run {others[0].run_id} is not finished yet"
    requested = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    if backfills := instance.get_backfills(filters=requested, limit=1):
        return f"backfill {backfills[0].backfill_id} is not finished yet"
    return None


def _was_asked(instance: dg.DagsterInstance, ask: Ask) -> bool:
    """Whether a run was asked for by the same fact: it must not take the place of one that wasn't."""
    return bool(instance.get_run_records(dg.RunsFilter(tags={FACT_TAG: ask.run_key}), limit=1))


def _request(ask: Ask) -> dg.RunRequest:
    tags = {FACT_TAG: ask.run_key, "pathstats/reason": ask.reason}
    last = ask.window.end - HOUR
    if ask.job != "hourly":
        return dg.RunRequest(ask.run_key, job_name=ask.job, partition_key=day_key(ask.window.start.date()), tags=tags)
    if ask.window.start == last:
        return dg.RunRequest(ask.run_key, job_name=ask.job, partition_key=hour_key(last), tags=tags)
    ends = {"start": hour_key(ask.window.start), "end": hour_key(last)}
    tags |= {f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}
    return dg.RunRequest(ask.run_key, job_name=ask.job, tags=tags)
