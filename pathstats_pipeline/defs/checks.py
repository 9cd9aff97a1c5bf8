"""Checks of hours that the step that builds the hour tells along, and that can also be executed alone.

A run of the job `hourly` executes no checks, since those of the queue judge no hour: its steps yield the verdicts of
these themselves, one for each hour (verdicts.py). Executed alone, or in a run that the UI launched, a check looks
again; over a range it gives one verdict, the worst. What is an alarm is decided in
archive/balance.py and archive/growth.py.
"""

from collections.abc import Callable, Iterable, Mapping

import dagster as dg

from pathstats_pipeline.archive.balance import Balance, Judgement, judge_rejected, judge_requests
from pathstats_pipeline.defs.capacity import judge_hot_store
from pathstats_pipeline.defs.partitions import HOURLY, window_of
from pathstats_pipeline.defs.resources import Clock, Rules, WarehouseResource
from pathstats_pipeline.defs.verdicts import LOOK_SECONDS, result_of
from pathstats_pipeline.events.window import Window, naive_utc
from pathstats_pipeline.storage.duck import WarehouseError


@dg.asset_check(asset="raw_events", partitions_def=HOURLY, pool="duckdb")
def rejected_share(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource, rules: Rules
) -> dg.AssetCheckResult:
    """At most PATHSTATS_MAX_REJECTED_SHARE of the hour's lines were rejected; fewer than 10 are no alarm.

    **When it warns**: `SELECT reason, count(*) FROM pathstats.rejected_events GROUP BY ALL` says why. Has a server's
    log format changed? Nothing is lost, the lines are there with their bytes: ingest the file under the right
    `--format` or `--map`.
    """
    return _worst(context, warehouse, lambda balance: judge_rejected(balance, rules.max_rejected_share))


@dg.asset_check(asset="path_stats_hourly", partitions_def=HOURLY, pool="duckdb")
def requests_sum_to_events(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """The requests of the hour's rows are the events that were stored for it, read back from table and ledger.

    And each of those events is in the warehouse, or was archived and deleted.

    **When it fails**: materialise the hour again. If it still fails, somebody has changed the tables by hand:
    `pathstats status` says on which day, and `pathstats verify DATE` whether the archive is whole.
    """
    return _worst(context, warehouse, judge_requests)


@dg.asset_check(asset="raw_events")
def hot_store_size(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource, rules: Rules, clock: Clock
) -> dg.AssetCheckResult:
    """The warehouse's file has room for 7 days at its growth: a warning below 7 days, an error below 2.

    Room is what its disk has and, where it is set, what is left of PATHSTATS_HOT_STORE_LIMIT_GB. Growth is the median
    step of its daily peaks, and known after 4 days. Each run of `raw_events` judges it.

    **When it fails**: see that days are archived and cleaned up (`pathstats status`: `unarchived`, `late`, holds),
    lower PATHSTATS_HOT_DAYS, or give the disk more room. A full disk fails the runs that load, and loses nothing.
    """
    return judge_hot_store(context.instance, warehouse.space(), rules.hot_store_limit_gb, clock.now().date())


def rejected_of(hours: Mapping[str, Balance], most: float) -> dict[str, dg.AssetCheckResult]:
    """The verdicts of `rejected_share` on hours that were just loaded."""
    return {hour: result_of(judge_rejected(balance, most)) for hour, balance in hours.items()}


def requests_of(hours: Mapping[str, Balance]) -> dict[str, dg.AssetCheckResult]:
    """The verdicts of `requests_sum_to_events` on hours that were just built."""
    return {hour: result_of(judge_requests(balance)) for hour, balance in hours.items()}


def _worst(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource, judge: Callable[[Balance], Judgement]
) -> dg.AssetCheckResult:
    try:
        with warehouse.open(LOOK_SECONDS) as store:
            balances = store.balances(_window_of(context))
    except WarehouseError as error:
        return result_of(Judgement(passed=False, reason=f"nothing was looked at: {error}"))
    return result_of(_first_bad(map(judge, balances.values())))


def _window_of(context: dg.AssetCheckExecutionContext) -> Window:
    """The hours of the run; of a run of checks alone, Dagster knows the partition, but not its time."""
    op = context.op_execution_context
    if not op.has_partition_key:
        return window_of(context)
    span = HOURLY.time_window_for_partition_key(op.partition_key)
    return Window(naive_utc(span.start), naive_utc(span.end))


def _first_bad(judgements: Iterable[Judgement]) -> Judgement:
    first, *others = judgements
    return next((each for each in (first, *others) if not each.passed), first)
