"""The assets of the statistics: an hour's from its events, a day's from its hours' sketches.

Here: windows, reads and writes. The reckoning stands in stats/hourly.py and stats/rollup.py.
"""

import pathlib
from collections.abc import Iterator

import dagster as dg

from pathstats_pipeline.archive.history import tally_of, windows_by_size
from pathstats_pipeline.defs.partitions import DAILY, DAYS_PER_RUN, HOURLY, HOURS_PER_RUN, window_of
from pathstats_pipeline.defs.presentation import columns_of, day_key, hour_key, readability, some_of, statistics_facts
from pathstats_pipeline.defs.resources import ArchiveStorage, Clock, Rules, WarehouseResource
from pathstats_pipeline.defs.verdicts import verdict_on
from pathstats_pipeline.events.templates import load_rules
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import DAILY_COLUMNS, HOURLY_COLUMNS, event_input, path_statistics
from pathstats_pipeline.stats.pairs import DamageList
from pathstats_pipeline.stats.rollup import daily_statistics

SKETCHES_READABLE = dg.AssetCheckSpec(
    "sketches_readable",
    asset="path_stats_daily",
    partitions_def=DAILY,
    description="Every sketch of the day's hours could be read. When it warns, materialise the hours that it names "
    "again, then the day: until then the day counts their requests, but not their response times or visitors.",
)


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN),
    deps=["raw_events"],
    group_name="statistics",
    kinds={"duckdb", "polars"},
    owners=["team:pathstats"],
    pool="duckdb",
    metadata={"dagster/table_name": "pathstats.path_stats_hourly", "dagster/column_schema": columns_of(HOURLY_COLUMNS)},
)
def path_stats_hourly(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    archive_storage: ArchiveStorage,
    rules: Rules,
    clock: Clock,
) -> dg.MaterializeResult[None]:
    """Statistics of an hour by path template and method, in `pathstats.path_stats_hourly`.

    Reads the hour's events from the warehouse or, once they were cleaned up, from the archive. Requests sum up to the
    events of the hour, always: what is beyond the cap of templates is in the row `__other__`. What the numbers are
    worth stands in the metadata `exactness`.

    **Second run**: replaces the hour's rows by the same numbers; `revision` goes up by one.

    **Fails** when events of the hour were cleaned up and their archive can't be read: see that S3 answers, and
    materialise the hour again.
    """
    window, now = window_of(context), clock.now()
    path_rules = load_rules(pathlib.Path(rules.path_rules)) if rules.path_rules else ()
    with warehouse.open() as store:
        for span in windows_by_size(window, store.loads(window)):
            events = tally_of(store, span, event_input(rules.sketch_choice), archive_storage.objects)
            rows = path_statistics(
                events, rules=path_rules, max_templates=rules.max_templates, sketches=rules.sketch_choice
            )
            store.replace_hourly(span, rows, now)
            for hour in span.hours():
                facts = statistics_facts(rows.filter(hour=hour), store.rejected_lines(Window.of_hour(hour)))
                context.add_asset_metadata(facts, partition_key=hour_key(hour))
    return dg.MaterializeResult()


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
    deps=[path_stats_hourly],
    check_specs=[SKETCHES_READABLE],
    group_name="statistics",
    kinds={"duckdb", "polars"},
    owners=["team:pathstats"],
    pool="duckdb",
    metadata={"dagster/table_name": "pathstats.path_stats_daily", "dagster/column_schema": columns_of(DAILY_COLUMNS)},
)
def path_stats_daily(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, clock: Clock
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation | dg.Output[None]]:
    """Statistics of a day by path template and method, in `pathstats.path_stats_daily`.

    Reads the hourly statistics of the day and merges their sketches in one pass; percentiles come from the merged
    sketch, never from the hours' percentiles.

    **Second run**: replaces the day's rows; `revision` goes up by one. Run it again when an hour of the day was built
    again.

    **Fails** when hours of one day were built with different `PATHSTATS_SKETCHES`, which can't be merged: the message
    names a row of each; materialise the hours again. It does not fail when a sketch of an hour is damaged: the row
    counts its requests without it, the check `sketches_readable` warns and names the row, and so does the log.
    """
    window, now = window_of(context), clock.now()
    with warehouse.open() as store:
        hours = store.hourly(window)
        damage = DamageList(hours)
        rows = daily_statistics(hours, on_damaged=damage)
        store.replace_daily(window, rows, now)
        for day in window.days():
            damaged = damage.of_day(day)
            facts = statistics_facts(rows.filter(day=day), store.rejected_lines(Window.of_day(day)), damaged)
            context.add_asset_metadata(facts, partition_key=day_key(day))
    if damage.sketches:
        context.log.warning("damaged sketches: %s", some_of(list(map(str, damage.sketches))))
    yield dg.MaterializeResult()
    # The check's step output, which an AssetCheckResult would bring along.
    yield dg.Output(None, output_name=SKETCHES_READABLE.get_python_identifier())
    for day in window.days():
        yield verdict_on(context, day_key(day), SKETCHES_READABLE, readability(damage.of_day(day)))
