"""The asset of the events: from the landing zone into the warehouse, hour by hour of the landing zone's folders.

Here: `raw_events`; its checks are in checks.py. How a file is read stands in intake/loading.py, how a load is stored in
storage/loads.py.
"""

import time
from collections.abc import Iterator

import dagster as dg

from pathstats_pipeline.defs import checks
from pathstats_pipeline.defs.capacity import HOT_STORE_SIZE, judge_hot_store
from pathstats_pipeline.defs.pages import FRESH_HOURLY, table_of
from pathstats_pipeline.defs.partitions import HOURLY, HOURS_PER_RUN, window_of
from pathstats_pipeline.defs.presentation import Pace, balance_facts, hour_key, some_of
from pathstats_pipeline.defs.resources import ArchiveStorage, Clock, LandingZone, Rules, WarehouseResource
from pathstats_pipeline.defs.verdicts import Judged, verdict_on_asset, verdicts_on
from pathstats_pipeline.intake.loading import load_hours


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN),
    group_name="events",
    kinds={"duckdb", "polars", "parquet"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "hour"},
    freshness_policy=FRESH_HOURLY,
    pool="duckdb",
    metadata=table_of("raw_events"),
)
def raw_events(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    landing_zone: LandingZone,
    archive_storage: ArchiveStorage,
    rules: Rules,
    clock: Clock,
) -> Iterator[Judged]:
    """Accepted events of an hour, in `pathstats.traffic_events`; lines that are none, in `rejected_events`.

    **Reads** the hour's folder of the landing zone. Each file there is one load; it is appended whole or not at all,
    and an event whose id the hour holds already is counted as a duplicate. Where events of the hour were cleaned up,
    their ids are looked up in the archive.

    **Writes** the events, the rejected lines, and a row of the ledger `pathstats.loads` for each load.

    **Second run**: appends loads that came since, and nothing else.

    **Fails** when a file can't be read (all others are loaded first). It stays where it is: repair or remove it, and
    materialise the hour again. A file for an hour that was cleaned up also waits there until the archive can be read.

    **Figures**: of the hour: rows, `loads`, `duplicates`, `rejected_lines` and their shares. Of this run: `…_now`,
    `bytes_now` of the files that it read, `seconds` (the hour's part, by its lines), `rows_per_second`.
    """
    window, now = window_of(context), clock.now()
    started = time.perf_counter()
    with warehouse.open() as store:
        loaded = load_hours(store, landing_zone.landing(), window, now, archive_storage.objects)
        seconds = time.perf_counter() - started
        loads, balances = store.loads(window), store.balances(window)
    pace = Pace(seconds, sum(load.received for load in loaded.appended), len(balances))
    for hour, balance in balances.items():
        appended = [load for load in loaded.appended if load.load.hour == hour]
        facts = {
            "dagster/partition_row_count": balance.stored,
            "loads": sum(load.load.hour == hour for load in loads),
            "duplicates": balance.duplicates,
            **balance_facts(balance),
            "appended_now": sum(load.rows for load in appended),
            "rejected_now": sum(load.rejected for load in appended),
            "bytes_now": loaded.size_bytes.get(hour, 0),
            **pace.of_partition(sum(load.received for load in appended)),
        }
        context.add_asset_metadata(facts, partition_key=hour_key(hour))
    if loaded.unreadable:
        raise dg.Failure(some_of(loaded.unreadable), allow_retries=False)
    yield dg.MaterializeResult()
    size = judge_hot_store(context.instance, warehouse.space(), rules.hot_store_limit_gb, now.date())
    yield verdict_on_asset(context, HOT_STORE_SIZE, size)
    hours = {hour_key(hour): balance for hour, balance in balances.items()}
    rejected = checks.rejected_of(hours, rules.max_rejected_share)
    yield from verdicts_on(context, "raw_events", {"rejected_share": rejected})
