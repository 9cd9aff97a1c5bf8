"""What the command line prints: facts as tables, JSON or CSV on stdout; progress and notes for people on stderr.

Nothing is read or written here but the terminal.
"""

import collections
import datetime as dt
import json
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Final, TypeVar

import polars as pl
import rich.console
import rich.progress
import rich.table
from rich.markup import escape

from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.window import Window, rfc3339, runs_of_days
from pathstats_pipeline.intake.ingest import IngestReport
from pathstats_pipeline.stats.rollup import merge_statistics

Item = TypeVar("Item")

RANKINGS: Final = ("requests", "p95", "errors", "visitors")
_RANKED_BY: Final = {
    "requests": pl.col("requests"),
    "p95": pl.col("response_time_ms_p95"),
    "errors": pl.col("status_5xx") + pl.col("status_4xx"),
    "visitors": pl.col("unique_ips"),
}
_TOP_COLUMNS: Final = (
    "path",
    "method",
    "requests",
    "status_4xx",
    "status_5xx",
    "bytes_sent",
    "response_time_ms_count",
    "response_time_ms_p50",
    "response_time_ms_p95",
    "response_time_ms_p99",
    "response_time_ms_max",
    "unique_ips",
)
_MAX_REASONS: Final = 12
_MAX_RUNS: Final = 5

PIPE_WIDTH: Final = 200
"""Columns where nobody looks on: in a pipe or a file, tables are not squeezed to 80."""

_out = rich.console.Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
_err = rich.console.Console(stderr=True)


def note(text: str) -> None:
    """A line for people, on stderr."""
    _err.print(escape(text), highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """A line of the answer, on stdout."""
    _out.print(escape(text), highlight=False, soft_wrap=True)


def progress(items: Iterable[Item], what: str, unit: str = "") -> Iterator[Item]:
    """The items, with a progress bar on a terminal and nothing elsewhere."""
    total = len(items) if isinstance(items, Sized) else None
    return iter(
        rich.progress.track(
            items,
            description=what + (f" ({unit})" if unit else ""),
            total=total,
            console=_err,
            disable=not _err.is_terminal,
        )
    )


def ingested(reports: Sequence[IngestReport]) -> None:
    """What became of the lines of each file, the reasons for rejection, and what to do next."""
    names = ["lines", "accepted", "duplicate", "rejected", "unfinished"]
    if not any(each.unfinished for each in reports):
        names.pop()
    table = rich.table.Table("file", "format", *map(_right, names))
    for each in reports:
        counts = (each.lines, each.accepted, each.before, each.rejected, each.unfinished)[: len(names)]
        table.add_row(escape(str(each.path)), each.format_name, *(f"{count:,}" for count in counts))
    _out.print(table)
    reasons = sum((each.reasons for each in reports), collections.Counter[str]())
    for reason, count in reasons.most_common(_MAX_REASONS):
        say(f"rejected {count:,}: {reason}")
    if any(each.unfinished for each in reports):
        say("unfinished: a last line without its line end is left for the next time; --finished takes it now")
    runs = runs_of_days(hour.date() for each in reports if each.loads for hour in each.hours)
    for run in runs[:_MAX_RUNS]:
        say(f"next: pathstats build --from {run.start:%Y-%m-%d} --to {run.end:%Y-%m-%d}")
    if len(runs) > _MAX_RUNS:
        say(f"      and {len(runs) - _MAX_RUNS} more runs of days, until {runs[-1].end:%Y-%m-%d}")


def archived(date: dt.date, manifests: Sequence[Manifest], root: str) -> None:
    """Where a day's archive is."""
    if not manifests:
        say(f"{date}: no events, nothing to archive")
    for manifest in manifests:
        say(
            f"{date} g{manifest.generation:04d}: {manifest.rows:,} events, {manifest.size_bytes:,} bytes "
            f"({manifest.strategy.value}) at {root}/{manifest.key}"
        )


def top(rows: pl.DataFrame, window: Window, rejected: int, *, by: str, limit: int, form: str) -> None:
    """The top paths of a window, from its hourly rows, in one pass over their sketches."""
    ranked = top_paths(rows, by=by, limit=limit)
    if form == "json":
        records = ranked.to_dicts()
        answer = {"from": rfc3339(window.start), "to": rfc3339(window.end), **_exactness(rows, rejected)}
        json.dump({**answer, "paths": records}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif form == "csv":
        sys.stdout.write(ranked.write_csv())
    else:
        _out.print(_top_table(ranked, f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, by {by}"))
        facts = _exactness(rows, rejected)
        say(
            f"{facts['requests']:,} requests, {facts['response_time_samples']:,} with a response time; "
            f"{rejected:,} rejected lines ({facts['rejected_share']:.2%})"
        )


def top_paths(rows: pl.DataFrame, *, by: str, limit: int) -> pl.DataFrame:
    """Rows of statistics merged by path and method, the first `limit` of a ranking; ties by path and method."""
    merged = merge_statistics(rows, by=("path", "method"))
    rank = merged.with_columns(_RANKED_BY[by].fill_null(-1).alias("rank"))
    return rank.sort("rank", "path", "method", descending=[True, False, False]).head(limit).select(_TOP_COLUMNS)


def _exactness(rows: pl.DataFrame, rejected: int) -> dict[str, Any]:
    requests, samples = (int(rows[name].sum() or 0) for name in ("requests", "response_time_ms_count"))
    share = rejected / (requests + rejected) if requests + rejected else 0.0
    return {"requests": requests, "response_time_samples": samples, "rejected_lines": rejected, "rejected_share": share}


def _top_table(ranked: pl.DataFrame, title: str) -> rich.table.Table:
    names = ("requests", "4xx", "5xx", "p50 ms", "p95 ms", "p99 ms", "visitors")
    table = rich.table.Table("path", "method", *(_right(name) for name in names), title=title)
    for row in ranked.iter_rows(named=True):
        counts = (f"{row[name]:,}" for name in ("requests", "status_4xx", "status_5xx"))
        times = (_milliseconds(row[f"response_time_ms_{name}"]) for name in ("p50", "p95", "p99"))
        table.add_row(escape(row["path"]), row["method"], *counts, *times, f"{row['unique_ips']:,}")
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _right(name: str) -> rich.table.Column:
    return rich.table.Column(name, justify="right")
