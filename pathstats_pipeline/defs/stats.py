"""The assets of the statistics: an hour's from its events, a day's from its hours' sketches.

Here: windows, reads and writes. The reckoning stands in stats/hourly.py and stats/rollup.py.
"""

import datetime as dt
import pathlib

import dagster as dg

from pathstats_pipeline.archive.history import events_of, windows_by_size
from pathstats_pipeline.defs.partitions import DAILY, DAYS_PER_RUN, HOURLY, HOURS_PER_RUN, window_of
from pathstats_pipeline.defs.presentation import columns_of, day_key, hour_key, statistics_facts
from pathstats_pipeline.defs.resources import ArchiveStorage, Rules, WarehouseResource
from pathstats_pipeline.events.templates import load_rules
from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.stats.hourly import DAILY_COLUMNS, EVENT_INPUT, HOURLY_COLUMNS, path_statistics
from pathstats_pipeline.stats.rollup import daily_statistics


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
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, archive_storage: ArchiveStorage, rules: Rules
) -> dg.MaterializeResult[None]:
    """Statistics of an hour by path template and method, in `pathstats.path_stats_hourly`.

    Reads the hour's events from the warehouse or, once they were cleaned up, from the archive. Requests sum up to the
    events of the hour, always: what is beyond the cap of templates is in the row `__other__`.

    **Second run**: replaces the hour's rows by the same numbers; `revision` goes up by one.

    **Fails** when events of the hour were cleaned up and their archive can't be read: see that S3 answers, and
    materialise the hour again.
    """
    window, now = window_of(context), naive_utc(dt.datetime.now(dt.UTC))
    path_rules = load_rules(pathlib.Path(rules.path_rules)) if rules.path_rules else ()
    with warehouse.open() as store:
        for span in windows_by_size(window, store.loads(window)):
            events = events_of(store, span, EVENT_INPUT, archive_storage.objects)
            rows = path_statistics(events, rules=path_rules, max_templates=rules.max_templates)
            store.replace_hourly(span, rows, now)
            for hour in span.hours():
                facts = statistics_facts(rows.filter(hour=hour))
                context.add_asset_metadata(facts, partition_key=hour_key(hour))
    return dg.MaterializeResult()


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
    deps=[path_stats_hourly],
    group_name="statistics",
    kinds={"duckdb", "polars"},
    owners=["team:pathstats"],
    pool="duckdb",
    metadata={"dagster/table_name": "pathstats.path_stats_daily", "dagster/column_schema": columns_of(DAILY_COLUMNS)},
)
def path_stats_daily(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Statistics of a day by path template and method, in `pathstats.path_stats_daily`.

    Reads the hourly statistics of the day and merges their sketches in one pass; percentiles come from the merged
    sketch, never from the hours' percentiles.

    **Second run**: replaces the day's rows; `revision` goes up by one. Run it again when an hour of the day was built
    again.

    **Fails** when a sketch of an hour is damaged: the message names the row; materialise that hour again.
    """
    window, now = window_of(context), naive_utc(dt.datetime.now(dt.UTC))
    with warehouse.open() as store:
        rows = daily_statistics(store.hourly(window))
        store.replace_daily(window, rows, now)
    for day in window.days():
        context.add_asset_metadata(statistics_facts(rows.filter(day=day)), partition_key=day_key(day))
    return dg.MaterializeResult()
