"""How facts are shown in the Dagster UI: metadata values, tables, column schemas, partition keys.

Domain values in, Dagster metadata out; nothing is reckoned here that anybody else needs.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import polars as pl

from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.schema import EVENT_COLUMNS, Column
from pathstats_pipeline.stats.exactness import statement
from pathstats_pipeline.stats.pairs import DamagedSketch
from pathstats_pipeline.stats.rollup import merge_statistics

TOP_PATHS: Final = 10
MAX_PROBLEMS: Final = 3
MAX_DAMAGED: Final = 100


def hour_key(hour: dt.datetime) -> str:
    """The hourly partition key."""
    return f"{hour:%Y-%m-%d-%H:%M}"


def day_key(day: dt.date) -> str:
    """The daily partition key."""
    return day.isoformat()


def some_of(problems: Sequence[str]) -> str:
    """The first few of many problems, in one line that says how many there are."""
    more = len(problems) - MAX_PROBLEMS
    return "; ".join([*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def columns_of(columns: Iterable[Column]) -> dg.TableSchema:
    """Columns as the asset page shows them."""
    return dg.TableSchema(
        [dg.TableColumn(column.name, type=column.sql_type, description=column.meaning) for column in columns]
    )


def event_columns() -> dg.TableSchema:
    """The columns of an event."""
    return columns_of(EVENT_COLUMNS)


def statistics_facts(
    rows: pl.DataFrame, rejected_lines: int, damaged: Sequence[DamagedSketch] = ()
) -> Mapping[str, Any]:
    """Metadata of one hour or day of statistics: totals that make a time series, their exactness, the top paths."""
    if not len(rows):
        return {"dagster/partition_row_count": 0, "requests": 0, "rejected_lines": rejected_lines}
    exactness = statement(rows, rows, rejected_lines, len(damaged))
    [site] = merge_statistics(rows, by=()).to_dicts()
    facts = {
        "dagster/partition_row_count": len(rows),
        "requests": site["requests"],
        "errors_5xx": site["status_5xx"],
        "bytes_sent": site["bytes_sent"],
        "visitors": site["unique_ips"],
        "p95_ms": _rounded(site["response_time_ms_p95"]),
        "rejected_lines": rejected_lines,
        "dropped_times": exactness.dropped,
        "damaged_sketches": len(damaged),
        "damaged": some_of(list(map(str, damaged))) or None,
        "sketches": exactness.pair.choice.value,
        "exactness": dg.MetadataValue.text("\n".join(exactness.lines())),
        "top_paths": top_paths_table(rows),
    }
    return {name: value for name, value in facts.items() if value is not None}


def readability(damaged: Sequence[DamagedSketch]) -> dg.AssetCheckResult:
    """The check's result: a warning, since the other rows are good and all requests are counted."""
    return dg.AssetCheckResult(
        passed=not damaged,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(list(map(str, damaged))) or "every sketch could be read",
        metadata={"damaged_sketches": len(damaged), "rows": [str(each) for each in damaged[:MAX_DAMAGED]]},
    )


def top_paths_table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """The paths with most requests, with their latencies, errors and visitors."""
    top = rows.sort("requests", "path", "method", descending=[True, False, False]).head(TOP_PATHS)
    names = ("method", "path", "requests", "status_5xx", "unique_ips")
    times = ("response_time_ms_p50", "response_time_ms_p95", "response_time_ms_p99")
    records = [
        dg.TableRecord(
            {name: row[name] for name in names}
            | {time.removeprefix("response_time_ms_") + "_ms": _shown(row[time]) for time in times}
        )
        for row in top.iter_rows(named=True)
    ]
    return dg.MetadataValue.table(records)


def _shown(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.1f}"


def archive_facts(manifests: Sequence[Manifest], root: str) -> Mapping[str, Any]:
    """Metadata of an archived day: totals, and where the newest object is."""
    if not manifests:
        return {"dagster/partition_row_count": 0, "generations": 0, "note": "no events, no object"}
    newest = manifests[-1]
    return {
        "dagster/partition_row_count": sum(manifest.rows for manifest in manifests),
        "generations": len(manifests),
        "bytes": sum(manifest.size_bytes for manifest in manifests),
        "raw_bytes": sum(manifest.raw_bytes for manifest in manifests),
        "strategy": newest.strategy.value,
        "dagster/uri": f"{root}/{newest.key}",
        "sha256": newest.sha256,
        "loads": sum(len(manifest.loads) for manifest in manifests),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
