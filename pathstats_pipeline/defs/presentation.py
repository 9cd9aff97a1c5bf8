"""How facts are shown in the Dagster UI: metadata values, tables, column schemas, partition keys.

Domain values in, Dagster metadata out; nothing is reckoned here that anybody else needs.
"""

import base64
import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import polars as pl

from pathstats_pipeline.archive.balance import Balance
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.schema import EVENT_COLUMNS, Column
from pathstats_pipeline.stats.exactness import statement
from pathstats_pipeline.stats.pairs import DamagedSketch
from pathstats_pipeline.stats.picture import day_picture
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
    """The columns of an archived event."""
    return columns_of(EVENT_COLUMNS)


@dataclasses.dataclass(frozen=True)
class Pace:
    """What a run took: its time, and the rows that it read in it, of all partitions that it covered."""

    seconds: float
    rows: int
    partitions: int = 1

    def of_partition(self, rows: int) -> Mapping[str, float]:
        """A partition's part of the time, by its rows, and the pace of the whole run, where rows were read at all."""
        part = rows / self.rows if self.rows else 1 / self.partitions
        per_second = {"rows_per_second": round(self.rows / self.seconds)} if self.rows and self.seconds else {}
        return {"seconds": round(self.seconds * part, 3), **per_second}


def balance_facts(balance: Balance) -> Mapping[str, Any]:
    """What became of the lines of a partition."""
    return {
        "rejected_lines": balance.rejected,
        "rejected_share": round(balance.rejected_share, 6),
        "duplicate_share": round(balance.duplicate_share, 6),
    }


def statistics_facts(
    rows: pl.DataFrame, balance: Balance, pace: Mapping[str, float], damaged: Sequence[DamagedSketch] = ()
) -> Mapping[str, Any]:
    """Metadata of an hour or day of statistics: figures that make time series, their exactness, the top paths."""
    if not len(rows):
        return {"dagster/partition_row_count": 0, "requests": 0, **balance_facts(balance), **pace}
    exactness = statement(rows, rows, balance.rejected, len(damaged))
    [site] = merge_statistics(rows, by=()).to_dicts()
    facts = {
        "dagster/partition_row_count": len(rows),
        "requests": site["requests"],
        "errors_4xx": site["status_4xx"],
        "errors_5xx": site["status_5xx"],
        "bytes_sent": site["bytes_sent"],
        "visitors": site["unique_ips"],
        **{f"{name}_ms": _rounded(site[f"response_time_ms_{name}"]) for name in ("p50", "p95", "p99")},
        **balance_facts(balance),
        **pace,
        "dropped_times": exactness.dropped,
        "damaged_sketches": len(damaged),
        "damaged": some_of(list(map(str, damaged))) or None,
        "sketches": exactness.pair.choice.value,
        "exactness": dg.MetadataValue.text("\n".join(exactness.lines())),
        "top_paths": top_paths_table(rows),
    }
    return {name: value for name, value in facts.items() if value is not None}


def picture_of(hours: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """The picture of a day from the hourly statistics of it, within the text: the page asks no other server for it.

    What can't be read is left out: the check `sketches_readable` names it.
    """
    site = merge_statistics(hours, by=["hour"], on_damaged=lambda *_: None)
    png = base64.b64encode(day_picture(site)).decode()
    return dg.MetadataValue.md(f"![response times and requests by hour](data:image/png;base64,{png})")


def readability(damaged: Sequence[DamagedSketch]) -> dg.AssetCheckResult:
    """The check's result: a warning, since the other rows are good and all requests are counted."""
    return dg.AssetCheckResult(
        passed=not damaged,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(list(map(str, damaged))) or "every sketch could be read",
        metadata={"damaged_sketches": len(damaged), "rows": [str(each) for each in damaged[:MAX_DAMAGED]]},
    )


def top_paths_table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """The paths with most requests, with their errors, latencies and visitors."""
    top = rows.sort("requests", "path", "method", descending=[True, False, False]).head(TOP_PATHS)
    records = [
        dg.TableRecord(
            {
                "path": row["path"],
                "method": row["method"],
                "requests": row["requests"],
                "errors_4xx": row["status_4xx"],
                "errors_5xx": row["status_5xx"],
                **{f"{name}_ms": _shown(row[f"response_time_ms_{name}"]) for name in ("p50", "p95", "p99")},
                "visitors": row["unique_ips"],
            }
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
