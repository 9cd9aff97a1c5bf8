"""The assets of the statistics: an hour's from its events, a day's from its hours' sketches.

Here: windows, reads and writes. The reckoning stands in stats/hourly.py and stats/rollup.py.
"""

import datetime as dt
import pathlib
import time
from collections.abc import Iterator, Mapping

import dagster as dg
import polars as pl

from pathstats_pipeline.archive.balance import Balance, Judgement, judge_hours
from pathstats_pipeline.archive.history import tally_of, windows_by_size
from pathstats_pipeline.defs import checks
from pathstats_pipeline.defs.pages import FRESH_DAILY, FRESH_HOURLY, daily_lineage, hourly_lineage, table_of
from pathstats_pipeline.defs.partitions import DAILY, DAYS_PER_RUN, HOURLY, HOURS_PER_RUN, window_of
from pathstats_pipeline.defs.presentation import (
    Pace,
    day_key,
    hour_key,
    picture_of,
    readability,
    some_of,
    statistics_facts,
)
from pathstats_pipeline.defs.resources import ArchiveStorage, Clock, LandingZone, Rules, WarehouseResource
from pathstats_pipeline.defs.verdicts import Judged, result_of, verdicts_on
from pathstats_pipeline.events.templates import load_rules
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import event_input, path_statistics
from pathstats_pipeline.stats.pairs import DamageList
from pathstats_pipeline.stats.rollup import daily_statistics
from pathstats_pipeline.storage.local_server import LocalServerError
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.storage.warehouse import Warehouse

SKETCHES_READABLE = dg.AssetCheckSpec(
    "sketches_readable",
    asset="path_stats_daily",
    partitions_def=DAILY,
    description="Every sketch of the day's hours could be read. When it warns, materialise the hours that it names "
    "again, then the day: until then the day counts their requests, but not their response times or visitors.",
)
HOURS_COMPLETE = dg.AssetCheckSpec(
    "hours_complete",
    asset="path_stats_daily",
    partitions_def=DAILY,
    description="When the day was built, all 24 of its hours were loaded and counted: the landing zone had no file "
    "that the ledger doesn't know, and every hour counted what was stored for it. An hour that nothing came for is "
    "complete.\n\n"
    "**When it warns**: the sensor `due_runs` sees to it, once for each fact. If it still warns after that, "
    "materialise `raw_events` and `path_stats_hourly` of the hours that it names, then the day: their runs say why.",
)


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN),
    deps=["raw_events"],
    group_name="statistics",
    kinds={"duckdb", "polars"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "hour"},
    freshness_policy=FRESH_HOURLY,
    pool="duckdb",
    metadata={**table_of("path_stats_hourly"), "dagster/column_lineage": hourly_lineage()},
)
def path_stats_hourly(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    archive_storage: ArchiveStorage,
    rules: Rules,
    clock: Clock,
) -> Iterator[Judged]:
    """Statistics of an hour by path template and method, in `pathstats.path_stats_hourly`.

    **Reads** the hour's events from the warehouse or, once they were cleaned up, from the archive.

    **Writes** a row for each path template and method. Requests sum up to the events of the hour, always: what is
    beyond the cap of templates is in the row `__other__`. What the numbers are worth stands in `exactness`.

    **Second run**: replaces the hour's rows by the same numbers; `revision` goes up by one.

    **Fails** when events of the hour were cleaned up and their archive can't be read: see that S3 answers, and
    materialise the hour again.

    **Figures**: of the whole site in that hour: `requests`, errors, `bytes_sent`, `visitors`, percentiles in ms, shares
    of rejected lines and of duplicates; `top_paths`. Of this run: `seconds` (the hour's part, by its events),
    `rows_per_second`.
    """
    window, now = window_of(context), clock.now()
    path_rules = load_rules(pathlib.Path(rules.path_rules)) if rules.path_rules else ()
    balances: dict[dt.datetime, Balance] = {}
    with warehouse.open() as store:
        for span in windows_by_size(window, store.loads(window)):
            started = time.perf_counter()
            events = tally_of(store, span, event_input(rules.sketch_choice), archive_storage.objects)
            rows = path_statistics(
                events, rules=path_rules, max_templates=rules.max_templates, sketches=rules.sketch_choice
            )
            store.replace_hourly(span, rows, now)
            of_span = store.balances(span)
            pace = Pace(time.perf_counter() - started, int(rows["requests"].sum()), len(of_span))
            for hour, balance in of_span.items():
                facts = statistics_facts(rows.filter(hour=hour), balance, pace.of_partition(balance.counted))
                context.add_asset_metadata(facts, partition_key=hour_key(hour))
            balances |= of_span
    yield dg.MaterializeResult()
    judged = checks.requests_of({hour_key(hour): balance for hour, balance in balances.items()})
    yield from verdicts_on(context, "path_stats_hourly", {"requests_sum_to_events": judged})


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
    deps=[path_stats_hourly],
    check_specs=[SKETCHES_READABLE, HOURS_COMPLETE],
    group_name="statistics",
    kinds={"duckdb", "polars"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "day"},
    freshness_policy=FRESH_DAILY,
    pool="duckdb",
    metadata={**table_of("path_stats_daily"), "dagster/column_lineage": daily_lineage()},
)
def path_stats_daily(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, landing_zone: LandingZone, clock: Clock
) -> Iterator[Judged]:
    """Statistics of a day by path template and method, in `pathstats.path_stats_daily`.

    **Reads** the hourly statistics of the day and merges their sketches in one pass; percentiles come from the merged
    sketch, never from the hours' percentiles. For the check `hours_complete` it lists the day in the landing zone.

    **Writes** a row for each path template and method.

    **Second run**: replaces the day's rows; `revision` goes up by one. Run it again when an hour of the day was built
    again.

    **Fails** when hours of one day were built with different `PATHSTATS_SKETCHES`, which can't be merged: the message
    names a row of each; materialise the hours again. It does not fail when a sketch of an hour is damaged: the row
    counts its requests without it, the check `sketches_readable` warns and names the row, and so does the log.

    **Figures**: as those of the hours, of the whole day; `rows_per_second` are rows of hours that were merged.
    `picture` is the day by hour: response times, and requests.
    """
    window, now = window_of(context), clock.now()
    with warehouse.open() as store:
        started = time.perf_counter()
        hours = store.hourly(window)
        damage = DamageList(hours)
        rows = daily_statistics(hours, on_damaged=damage)
        store.replace_daily(window, rows, now)
        pace = Pace(time.perf_counter() - started, len(hours), len(list(window.days())))
        balances = {day: store.balances(Window.of_day(day)) for day in window.days()}
        complete = {day: _completeness(store, landing_zone, day, of_day) for day, of_day in balances.items()}
    for day, of_day in balances.items():
        hours_of_day = hours.filter(pl.col("hour").dt.date() == day)
        total, merged = sum(of_day.values(), Balance()), pace.of_partition(len(hours_of_day))
        facts = statistics_facts(rows.filter(day=day), total, merged, damage.of_day(day))
        context.add_asset_metadata({**facts, "picture": picture_of(hours_of_day)}, partition_key=day_key(day))
    if damage.sketches:
        context.log.warning("damaged sketches: %s", some_of(list(map(str, damage.sketches))))
    yield dg.MaterializeResult()
    # The steps' outputs of the checks, which an AssetCheckResult would bring along.
    for check in (SKETCHES_READABLE, HOURS_COMPLETE):
        yield dg.Output(None, output_name=check.get_python_identifier())
    judged = {
        SKETCHES_READABLE.name: {day_key(day): readability(damage.of_day(day)) for day in complete},
        HOURS_COMPLETE.name: {day_key(day): result_of(judgement) for day, judgement in complete.items()},
    }
    yield from verdicts_on(context, "path_stats_daily", judged)


def _completeness(
    store: Warehouse, landing_zone: LandingZone, day: dt.date, hours: Mapping[dt.datetime, Balance]
) -> Judgement:
    """Whether a day is complete; the statistics don't need the landing zone, and don't fail with it."""
    try:
        unknown = landing_zone.landing().loads(day) - store.known_loads(Window.of_day(day))
    except (LocalServerError, ObjectsError, OSError) as error:
        return Judgement(passed=False, reason=f"the landing zone can't be listed: {' '.join(str(error).split())}")
    return judge_hours(hours, {load.hour for load, _ in unknown})
