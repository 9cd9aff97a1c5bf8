"""The asset of the events: from the landing zone into the warehouse, hour by hour of the landing zone's folders.

Here: `raw_events`. How a file is read stands in intake/loading.py, how a load is stored in storage/loads.py.
"""

import dagster as dg

from pathstats_pipeline.defs.partitions import HOURLY, HOURS_PER_RUN, window_of
from pathstats_pipeline.defs.presentation import event_columns, hour_key, some_of
from pathstats_pipeline.defs.resources import ArchiveStorage, Clock, LandingZone, WarehouseResource
from pathstats_pipeline.intake.loading import load_hours


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN),
    group_name="events",
    kinds={"duckdb", "polars", "parquet"},
    owners=["team:pathstats"],
    pool="duckdb",
    metadata={"dagster/table_name": "pathstats.traffic_events", "dagster/column_schema": event_columns()},
)
def raw_events(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    landing_zone: LandingZone,
    archive_storage: ArchiveStorage,
    clock: Clock,
) -> dg.MaterializeResult[None]:
    """Accepted events of an hour, in `pathstats.traffic_events`; lines that are none, in `rejected_events`.

    Reads the hour's folder of the landing zone. Each file there is one load; it is appended whole or not at all, and
    an event whose id the hour holds already is counted as a duplicate. Where events of the hour were cleaned up, their
    ids are looked up in the archive.

    **Second run**: appends loads that came since, and nothing else.

    **Fails** when a file can't be read (all others are loaded first). It stays where it is: repair or remove it, and
    materialise the hour again. A file for an hour that was cleaned up also waits there until the archive can be read.
    """
    window, now = window_of(context), clock.now()
    with warehouse.open() as store:
        loaded = load_hours(store, landing_zone.landing(), window, now, archive_storage.objects)
        loads = store.loads(window)
    for hour in window.hours():
        facts = [load for load in loads if load.load.hour == hour]
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": sum(load.rows for load in facts),
                "loads": len(facts),
                "duplicates": sum(load.duplicates for load in facts),
                "appended_now": sum(load.rows for load in loaded.appended if load.load.hour == hour),
                "rejected_now": sum(load.rejected for load in loaded.appended if load.load.hour == hour),
            },
            partition_key=hour_key(hour),
        )
    if loaded.unreadable:
        raise dg.Failure(some_of(loaded.unreadable), allow_retries=False)
    return dg.MaterializeResult()
