"""A check's verdict on one partition, also in a run over a range of them.

Dagster gives an `AssetCheckResult` of a range run to no partition: the UI would show no verdict for any of them. An
evaluation can be given its partition by name; it must also name the materialisation that it judges, or it counts as
outdated. Exit: when `AssetCheckResult` takes a partition.
"""

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData


def verdict_on(
    context: dg.AssetExecutionContext, partition: str, check: dg.AssetCheckSpec, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    """The result as the verdict on a partition's newest materialisation: yield it after the `MaterializeResult`."""
    of_partition = dg.AssetRecordsFilter(asset_key=check.asset_key, asset_partitions=[partition])
    [judged] = context.instance.fetch_materializations(of_partition, limit=1).records
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=judged.storage_id, run_id=judged.run_id, timestamp=judged.timestamp
        ),
        severity=result.severity,
        description=result.description,
        blocking=check.blocking,
        partition=partition,
    )
