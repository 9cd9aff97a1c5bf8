"""The assets of the archive: publish a day, check it, record it, and delete what is safely away.

One day a run: Dagster keeps a blocking check's verdict for a single partition only. The gate that counts is on the
data, in archive/: every asset here reads manifests and objects on S3 for itself, so that it may be launched alone.
"""

import datetime as dt
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from pathstats_pipeline.archive.balance import Judgement, judge_archive
from pathstats_pipeline.archive.cleanup import clean_day, plan_cleanup
from pathstats_pipeline.archive.day import Archiver, manifests_of, verified_manifests
from pathstats_pipeline.archive.lifecycle import Step, deletable_from
from pathstats_pipeline.archive.manifest import ManifestError
from pathstats_pipeline.archive.sums import archived_sums
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.defs.pages import FRESH_DAILY, archive_lineage, table_of
from pathstats_pipeline.defs.partitions import DAILY, window_of
from pathstats_pipeline.defs.presentation import Pace, archive_facts, day_key, event_columns
from pathstats_pipeline.defs.resources import ArchiveStorage, Clock, LandingZone, Rules, WarehouseResource
from pathstats_pipeline.defs.verdicts import LOOK_SECONDS, result_of
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.local_server import LocalServerError
from pathstats_pipeline.storage.objects import ObjectsError

SOFTWARE_VERSION = importlib.metadata.version("pathstats-pipeline")


def _only_day(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> dt.date:
    """The day of the run; a range of days is refused before anything is touched."""
    first, *others = window_of(context).days()
    if others:
        raise dg.Failure("the archive works one day a run: launch one run for each day", allow_retries=False)
    return first


def _logging(context: dg.AssetExecutionContext) -> Callable[[Step], None]:
    return lambda step: context.log.info("%s: %s", step.do, step.reason)


@dg.asset(
    partitions_def=DAILY,
    deps=["raw_events"],
    group_name="archive",
    kinds={"s3", "duckdb"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "day"},
    freshness_policy=FRESH_DAILY,
    pool="duckdb",
    metadata={"dagster/column_schema": event_columns(), "dagster/column_lineage": archive_lineage()},
)
def events_archive(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    archive_storage: ArchiveStorage,
    rules: Rules,
    clock: Clock,
) -> dg.MaterializeResult[None]:
    """A day's events as gzip JSON lines on S3, with a manifest for each generation.

    **Reads** the loads of the day that no manifest covers.

    **Writes** them to one object (a single put, or a multipart upload when it is estimated at 100 MiB or more), reads
    that object back, and commits it with its manifest.

    **Second run**: writes nothing. Loads that came late become the next generation, with an object of their own. A
    day without events makes no object.

    **Fails** when the day isn't over, when S3 doesn't answer, when another host archives the day, or when what S3
    gives back is not what was read. Then nothing is committed and nothing will be deleted: see to S3, and materialise
    the day again; it goes on where it was.

    **Figures**: of all generations: rows, `bytes`, `raw_bytes`; of the newest: its URI, strategy, `sha256`. Of this
    run: `seconds`, and `rows_per_second` where it archived any.
    """
    started, began = time.perf_counter(), clock.now()
    objects, claimant = archive_storage.objects(), warehouse.claimant(rules.lease)
    with warehouse.open() as store:
        archiver = Archiver(store, objects, rules.size_rule, clock.now, SOFTWARE_VERSION, claimant, _logging(context))
        manifests = archiver.archive(_only_day(context))
    rows = sum(manifest.rows for manifest in manifests if manifest.verified_at >= began)
    pace = Pace(time.perf_counter() - started, rows).of_partition(rows)
    return dg.MaterializeResult(metadata={**archive_facts(manifests, objects.uri), **pace})


@dg.asset_check(asset=events_archive, partitions_def=DAILY, blocking=True)
def archive_verified(context: dg.AssetCheckExecutionContext, archive_storage: ArchiveStorage) -> dg.AssetCheckResult:
    """Every object of the day, read back from S3 to its end, is the one that its manifest describes.

    Compares row count, order-free digest, SHA-256 and sizes. Until it passes, nothing downstream runs. When it fails,
    the events are still in the warehouse: keep them, and find out who touched the bucket.
    """
    try:
        manifests = verified_manifests(archive_storage.objects(), _only_day(context))
    except (VerificationError, ManifestError, ObjectsError) as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    rows = sum(manifest.rows for manifest in manifests)
    return dg.AssetCheckResult(
        passed=True,
        description=f"{len(manifests)} object(s) with {rows} events read back" if manifests else "no events, no object",
        metadata={"generations": len(manifests), "rows": rows},
    )


@dg.asset_check(asset=events_archive, partitions_def=DAILY, pool="duckdb")
def statistics_equal_archive(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource, archive_storage: ArchiveStorage
) -> dg.AssetCheckResult:
    """The day's statistics are those of its archived events: requests, status classes and bytes of every hour.

    Reads every object of the day to its end, and sums its events up anew. Percentiles and visitors are not compared:
    they come from the same sketches. Hours whose events came after the last generation are left out, and counted.

    **When it fails** (an error): the statistics of the hours that it names are wrong. Materialise `path_stats_hourly`
    of them, which reads the archive where events are gone, then `path_stats_daily`, then this check.

    **When it warns**: an hour or the day is behind, S3 can't be read, or the warehouse is busy; it says which.
    """
    day = _only_day(context)
    window = Window.of_day(day)
    try:
        objects = archive_storage.objects()
        archived = archived_sums(objects, manifests_of(objects, day))
        with warehouse.open(LOOK_SECONDS) as store:
            hours, statistics, daily = store.balances(window), store.sums_by_hour(window), store.requests_of_day(day)
    except (VerificationError, ManifestError, ObjectsError, WarehouseError, LocalServerError) as error:
        return result_of(Judgement(passed=False, reason=f"nothing was compared: {' '.join(str(error).split())}"))
    return result_of(judge_archive(hours, statistics, archived, daily))


@dg.asset(
    partitions_def=DAILY,
    deps=[events_archive],
    group_name="archive",
    kinds={"duckdb", "s3"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "day"},
    pool="duckdb",
    metadata=table_of("archive_metadata"),
)
def archive_metadata(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, archive_storage: ArchiveStorage, rules: Rules
) -> dg.MaterializeResult[None]:
    """What is archived of a day, and where, in `pathstats.archives`: one row for each generation.

    **Reads** the manifests on S3 and every object that they name. **Writes** the rows. Its figure `deletable_from` is
    when `events_cleanup` may delete the day's events from the warehouse, unless the day is put on hold.

    **Second run**: replaces the day's rows by the same ones.

    **Fails** when the day has events that were never archived, or when an object is not what its manifest says, also
    when it is launched alone. Materialise `events_archive` of that day first.
    """
    objects, date = archive_storage.objects(), _only_day(context)
    with warehouse.open() as store:
        manifests = verified_manifests(objects, date, store)
        store.record_archives(date, manifests, [f"{objects.uri}/{manifest.key}" for manifest in manifests])
    verified_at = max((manifest.verified_at for manifest in manifests), default=None)
    due = deletable_from(date, rules.retention, verified_at)
    deletable = {"deletable_from": f"{due:%Y-%m-%d %H:%M} UTC"} if due else {}
    return dg.MaterializeResult(metadata={**archive_facts(manifests, objects.uri), **deletable})


def _compacted(context: dg.AssetExecutionContext, warehouse: WarehouseResource, *, deleted: bool) -> dict[str, int]:
    """Space is given back after the deletion, which has succeeded whether or not there is room for that."""
    try:
        compaction = warehouse.compact(deleted=deleted)
    except WarehouseError as error:
        context.log.warning("the file keeps its size: %s", error)
        return {}
    return {"warehouse_bytes_before": compaction.before, "warehouse_bytes": compaction.after}


@dg.asset(
    partitions_def=DAILY,
    deps=[events_archive],
    group_name="archive",
    kinds={"duckdb"},
    owners=["team:pathstats"],
    tags={"pathstats/grain": "day"},
    pool="duckdb",
    output_required=False,
)
def events_cleanup(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    archive_storage: ArchiveStorage,
    landing_zone: LandingZone,
    rules: Rules,
    clock: Clock,
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetObservation]:
    """Archived events of a day that has left the hot window are gone from the warehouse and the landing zone.

    **Reads** the manifests, the ledger of loads and the hourly statistics, and every archived object once more, to its
    end.

    **Deletes** exactly the events of the loads that the manifests name, in small transactions, then their files, and
    gives the space back to the disk.

    **Second run**: finds nothing to delete. After a crash it goes on where it was.

    **Leaves alone**, without materialising, a day within the hot window, one on hold (`pathstats hold DATE`), and one
    that was verified less than the grace ago. An observation of the partition says which.

    **Fails**, deleting nothing, when the day is not archived, an object is not what its manifest says, or the
    statistics don't count the archived events. Materialise those first; the message says which.

    **Figures**: `deleted_rows`, `landing_files_removed`, the size of the warehouse's file before and after
    (`warehouse_bytes`), `seconds`, and `rows_per_second` where rows were deleted.
    """
    started = time.perf_counter()
    objects, date = archive_storage.objects(), _only_day(context)
    with warehouse.open() as store:
        verdict = plan_cleanup(store, objects, date, clock.now(), rules.retention)
        if verdict.waiting:
            left = {"nothing_deleted": "; ".join(verdict.reasons)}
            yield dg.AssetObservation("events_cleanup", partition=day_key(date), metadata=left)
            return
        cleaned = clean_day(store, objects, landing_zone.landing(), verdict, date, rules.cleanup_batch_rows, clock.now)
    seconds = time.perf_counter() - started
    size = _compacted(context, warehouse, deleted=bool(cleaned.deleted_rows))
    yield dg.MaterializeResult(
        metadata={
            **size,
            **Pace(seconds, cleaned.deleted_rows).of_partition(cleaned.deleted_rows),
            "deleted_rows": cleaned.deleted_rows,
            "landing_files_removed": cleaned.landing_files,
            "generations": cleaned.generations,
            "loads": len(verdict.loads),
        }
    )
