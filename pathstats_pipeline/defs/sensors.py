"""The sensor of automation. It gathers facts and asks for runs; which are due is decided in automation/due.py.

A sensor is evaluated in the code server, beside the runs: it holds the warehouse for a moment only, gives way to
whoever has it, and never fails. It looks at single partitions of the last 30 days only, of which there may be 100,000.
"""

import datetime as dt
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import dagster as dg

# Not public, though `get_status_by_partition` gives it. Exit: when Dagster exports it.
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from pathstats_pipeline.automation import late
from pathstats_pipeline.automation.due import (
    Ask,
    Facts,
    Pace,
    Progress,
    catch_up_since,
    due_work,
)
from pathstats_pipeline.automation.late import Tried
from pathstats_pipeline.defs.jobs import archive_job, cleanup_job, daily_job, hourly_job
from pathstats_pipeline.defs.partitions import DAILY, FIRST_HOUR, HOURLY
from pathstats_pipeline.defs.presentation import day_key, hour_key
from pathstats_pipeline.defs.resources import Automation, Clock, LandingZone, Rules, WarehouseResource
from pathstats_pipeline.defs.under_way import under_way
from pathstats_pipeline.events.window import DAY, HOUR, Window, naive_utc
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.storage.warehouse import open_warehouse

RUNS_PER_TICK: Final = 8
RECENT_DAYS: Final = 7
"""Days before today whose files are looked at in every tick."""
OLDER_DAYS_PER_TICK: Final = 200
"""Of the older days that have files, so many a tick, in turn."""
FACT_TAG: Final = "pathstats/due"
LOCK_SECONDS: Final = 2.0
"""A tick that takes a minute is killed; the next one comes soon."""
_FAILURES_COUNTED: Final = 10
T = TypeVar("T", dt.date, dt.datetime)


@dg.sensor(
    jobs=[hourly_job, daily_job, archive_job, cleanup_job],
    minimum_interval_seconds=load_settings().automation_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def due_runs(
    context: dg.SensorEvaluationContext,
    warehouse: WarehouseResource,
    landing_zone: LandingZone,
    rules: Rules,
    automation: Automation,
    clock: Clock,
) -> dg.SensorResult | dg.SkipReason:
    """Asks for the runs that are due: `hourly`, then `daily`, `archive` and, days later, `cleanup`.

    An hour is due while it fills and files come, when it is over, and when files come late; a day when all of its hours
    are built. Every partition since the first file came, or of the last 30 days, is materialised once, also one without
    events; older ones when there is something to do. At most 8 runs a tick; what is under way is left out.

    Each fact asks once. A run that failed is asked for again after 10 minutes, 1, 6 and then every 24 hours, and when
    something new comes; one that was cancelled only when something new comes.

    When it asks for nothing, its tick says what is late all the same: partition, reason, last run and next try, a line
    each.

    It skips, and says why, when `PATHSTATS_AUTOMATION` is off, while the warehouse is busy, and while the landing zone
    can't be read. Switch it off here to keep Dagster from doing anything by itself.
    """
    if not automation.is_on:
        return dg.SkipReason("PATHSTATS_AUTOMATION is off")
    now = clock.now()
    busy = under_way(context.instance)
    try:
        landing = landing_zone.landing()
        looked_at, cursor = days_to_look_at(landing.days(), now.date(), context.cursor)
        path = pathlib.Path(warehouse.database)
        if not looked_at and not path.exists():
            return dg.SkipReason(f"nothing has landed at {landing_zone.uri} yet")
        facts = _facts(context.instance, landing, path, looked_at, now)
    except (WarehouseError, ObjectsError, OSError) as error:
        return dg.SkipReason(" ".join(str(error).split()))
    pace = Pace(automation.close_after, automation.archive_after, rules.retention)
    asked = [ask for ask in due_work(facts, pace, busy) if ask.window.start >= FIRST_HOUR]
    fresh, waiting = _sorted_out(context.instance, asked, now)
    if fresh:
        return dg.SensorResult(run_requests=[_request(ask, len(tried.failures)) for ask, tried in fresh], cursor=cursor)
    why = f"nothing new is due; {len(busy)} run(s) or backfill(s) under way" if busy else "nothing new is due"
    why += f"; late and asked for before: {len(waiting)}" if waiting else ""
    return dg.SensorResult(skip_reason="\n".join([why, *late.lines(waiting)]), cursor=cursor)


def days_to_look_at(days: Sequence[dt.date], today: dt.date, cursor: str | None) -> tuple[list[dt.date], str | None]:
    """The recent days among these, and the older ones whose turn it is; and the cursor for the next tick."""
    recent = [day for day in days if day >= today - RECENT_DAYS * DAY]
    older = [day for day in days if day < today - RECENT_DAYS * DAY]
    after = [day for day in older if cursor is None or day_key(day) > cursor]
    turn = list(itertools.islice([*after, *older[: len(older) - len(after)]], OLDER_DAYS_PER_TICK))
    return sorted({*turn, *recent}), day_key(turn[-1]) if turn else cursor


def _facts(
    instance: dg.DagsterInstance, landing: Landing, path: pathlib.Path, looked_at: Sequence[dt.date], now: dt.datetime
) -> Facts:
    """What is known; the landing zone is listed before the warehouse is held."""
    landed = {day: loads for day in looked_at if (loads := landing.loads(day))}
    with open_warehouse(path, lock_timeout_seconds=LOCK_SECONDS) as store:
        days, behind, unknown = store.days(), store.hours_behind(), store.unloaded(landed)
    since = catch_up_since(FIRST_HOUR, [*looked_at, *(day.date for day in days)], now)
    return Facts(now, days, unknown, behind, _progress(instance, since, now))


def _progress(instance: dg.DagsterInstance, since: dt.datetime, now: dt.datetime) -> Progress:
    """What Dagster has materialised since a moment, as the UI's partition pages show it."""
    window = Window(since, max(since, now))
    hours = {hour_key(hour): hour for hour in window.hours()}
    days = {day_key(day): day for day in window.days() if Window.of_day(day).end <= now}

    def done(asset: str, days_or_hours: Mapping[str, T], status: AssetPartitionStatus) -> frozenset[T]:
        partitions = HOURLY if asset == "path_stats_hourly" else DAILY
        statuses = instance.get_status_by_partition(dg.AssetKey(asset), list(days_or_hours), partitions) or {}
        return frozenset(days_or_hours[key] for key, found in statuses.items() if found is status)

    built, failed = AssetPartitionStatus.MATERIALIZED, AssetPartitionStatus.FAILED
    return Progress(
        since,
        hours=done("path_stats_hourly", hours, built),
        failed=done("path_stats_hourly", hours, failed),
        rolled_up=done("path_stats_daily", days, built),
        archived=done("archive_metadata", days, built),
        cleaned=done("events_cleanup", days, built),
    )


def _sorted_out(
    instance: dg.DagsterInstance, asked: Sequence[Ask], now: dt.datetime
) -> tuple[list[tuple[Ask, Tried]], list[tuple[Ask, Tried]]]:
    """What to ask for now, the first few of it, and what was asked for before and isn't yet to be again."""
    fresh: list[tuple[Ask, Tried]] = []
    waiting: list[tuple[Ask, Tried]] = []
    for ask in asked:
        tried = _tried(instance, ask)
        (fresh if tried.may_be_asked(now) else waiting).append((ask, tried))
        if len(fresh) == RUNS_PER_TICK:
            break
    return fresh, waiting


def _tried(instance: dg.DagsterInstance, ask: Ask) -> Tried:
    """The runs that were asked for by the same fact."""
    records = instance.get_run_records(dg.RunsFilter(tags={FACT_TAG: ask.run_key}), limit=_FAILURES_COUNTED)
    failures = [record for record in records if record.dagster_run.status is dg.DagsterRunStatus.FAILURE]
    others = [record.dagster_run for record in records if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE]
    newest = others[0] if others else (failures[0].dagster_run if failures else None)
    return Tried(
        [_ended_at(record) for record in failures],
        newest.run_id if newest else "",
        others[0].status.value.lower() if others else None,
    )


def _ended_at(record: dg.RunRecord) -> dt.datetime:
    return naive_utc(dt.datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), dt.UTC))


def _request(ask: Ask, attempt: int) -> dg.RunRequest:
    tags = {FACT_TAG: ask.run_key, "pathstats/reason": ask.reason}
    key, last = f"{ask.run_key}#{attempt}", ask.window.end - HOUR
    if ask.job != hourly_job.name:
        return dg.RunRequest(key, job_name=ask.job, partition_key=day_key(ask.window.start.date()), tags=tags)
    if ask.window.start == last:
        return dg.RunRequest(key, job_name=ask.job, partition_key=hour_key(last), tags=tags)
    ends = {"start": hour_key(ask.window.start), "end": hour_key(last)}
    tags |= {f"dagster/asset_partition_range_{end}": edge for end, edge in ends.items()}
    return dg.RunRequest(key, job_name=ask.job, tags=tags)
