"""Checks' verdicts on partitions, also in a run over a range of them, and from steps that aren't the check's own.

Dagster gives an `AssetCheckResult` of a range run to no partition: the UI would show no verdict for any of them. An
evaluation can be given its partition by name; it must also name the materialisation that it judges, or it counts as
outdated. Exit: when `AssetCheckResult` takes a partition.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from pathstats_pipeline.archive.balance import Judgement

Judged = dg.MaterializeResult[None] | dg.AssetCheckResult | dg.AssetCheckEvaluation | dg.Output[None]
"""What an asset with checks of its own yields."""


LOOK_SECONDS: Final = 60.0
"""A check that only looks doesn't wait longer for the warehouse."""


def result_of(judgement: Judgement) -> dg.AssetCheckResult:
    """A judgement as a check's result; its figures make time series."""
    severity = dg.AssetCheckSeverity.ERROR if judgement.is_error else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=judgement.passed,
        severity=severity,
        description=judgement.reason,
        metadata=dict(judgement.figures),
    )


def verdicts_on(
    context: dg.AssetExecutionContext, asset: str, results: Mapping[str, Mapping[str, dg.AssetCheckResult]]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Verdicts of an asset's checks on its partitions: yield them after the `MaterializeResult`.

    `results` are by check, then by partition. None of the checks is a blocking one.
    """
    key = dg.AssetKey(asset)
    partitions = sorted({partition for by_partition in results.values() for partition in by_partition})
    judged = _newest_materializations(context.instance, key, partitions)
    for check, by_partition in results.items():
        for partition, result in by_partition.items():
            yield _evaluation(dg.AssetCheckKey(key, check), result, judged[partition], partition)


def verdict_on_asset(
    context: dg.AssetExecutionContext, check: dg.AssetCheckKey, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    """The verdict of a check on the asset as a whole: yield it after the `MaterializeResult`."""
    [record] = context.instance.fetch_materializations(check.asset_key, limit=1).records
    return _evaluation(check, result, _target(record))


def _evaluation(
    check: dg.AssetCheckKey,
    result: dg.AssetCheckResult,
    judged: AssetCheckEvaluationTargetMaterializationData,
    partition: str | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=judged,
        severity=result.severity,
        description=result.description,
        partition=partition,
    )


def _target(record: dg.EventLogRecord) -> AssetCheckEvaluationTargetMaterializationData:
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
    )


def _newest_materializations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: Sequence[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """By partition. One query finds those of this run, which are the newest; another for each that it didn't find."""
    found: dict[str, AssetCheckEvaluationTargetMaterializationData] = {}
    for asked in (partitions, *([partition] for partition in partitions)):
        if missing := [partition for partition in asked if partition not in found]:
            of_partitions = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=missing)
            for record in instance.fetch_materializations(of_partitions, limit=len(missing)).records:
                found.setdefault(str(record.partition_key), _target(record))
    return found
