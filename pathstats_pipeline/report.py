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
from pathstats_pipeline.intake.logfiles import printable
from pathstats_pipeline.intake.paths import RawPaths
from pathstats_pipeline.intake.watching import PassReport
from pathstats_pipeline.stats.candidates import (
    EVENTS_MEASURED,
    EVENTS_TIMED,
    QUANTILES,
    SIZE_LIMIT_BYTES,
    TIME_LIMIT_MS,
    Finding,
)
from pathstats_pipeline.stats.exactness import Exactness, of_rows, statement
from pathstats_pipeline.stats.pairs import DamagedSketch, DamageList
from pathstats_pipeline.stats.rollup import merge_statistics
from pathstats_pipeline.storage.probe import Conformance, Verdict

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
_VERDICTS: Final = {
    Verdict.TRUSTED: "the archive may be here; what is checked by nobody else is read back",
    Verdict.CHECKED: "it ignores the condition on writes: with a look before each, one host may archive there",
    Verdict.REFUSED: "the archive must not be here",
}
_RARE_COUNTS: Final = ("header", "unfinished")
"""Columns that are shown only where a file has such lines."""

_MAX_REASONS: Final = 12
_MAX_RUNS: Final = 5
_MAX_DAMAGED: Final = 5

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\n")}

PIPE_WIDTH: Final = 200
"""Columns where nobody looks on: in a pipe or a file, tables are not squeezed to 80."""

_out = rich.console.Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
_err = rich.console.Console(stderr=True)


def visible(text: str) -> str:
    """The same text with control characters spelt out: a terminal would obey those that came in a log line."""
    return text.translate(_CONTROLS)


def plain(text: str) -> str:
    """A text as a console of rich shows it letter by letter."""
    return escape(visible(text))


def note(text: str) -> None:
    """A line for people, on stderr."""
    _err.print(plain(text), highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """A line of the answer, on stdout."""
    _out.print(plain(text), highlight=False, soft_wrap=True)


def show(table: rich.table.Table) -> None:
    """A table of the answer, on stdout."""
    _out.print(table)


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
    columns = {
        "lines": [each.lines for each in reports],
        "accepted": [each.accepted for each in reports],
        "duplicate": [each.before for each in reports],
        "rejected": [each.rejected for each in reports],
        "header": [each.headers for each in reports],
        "unfinished": [each.unfinished for each in reports],
    }
    shown = {name: counts for name, counts in columns.items() if name not in _RARE_COUNTS or any(counts)}
    table = rich.table.Table("file", "format", *map(right, shown))
    for each, counts in zip(reports, zip(*shown.values(), strict=True), strict=True):
        table.add_row(plain(each.name), each.format_name, *(f"{count:,}" for count in counts))
    if reports:
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


def watched(done: PassReport, at: dt.datetime) -> None:
    """One line for a pass that did something, and one for each problem that is new."""
    if done.files:
        unfinished = f", {done.unfinished:,} unfinished" if done.unfinished else ""
        hours = f", hours {min(done.hours):%Y-%m-%dT%H} to {max(done.hours):%Y-%m-%dT%H}" if done.hours else ""
        say(
            f"{at:%Y-%m-%dT%H:%M:%SZ} {done.files:,} file(s): {done.lines:,} new line(s), {done.accepted:,} accepted, "
            f"{done.rejected:,} rejected{unfinished}{hours}"
        )
    for problem in done.told:
        note(f"pathstats: {printable(problem)}")


def archived(date: dt.date, manifests: Sequence[Manifest], root: str) -> None:
    """Where a day's archive is."""
    if not manifests:
        say(f"{date}: no events, nothing to archive")
    for manifest in manifests:
        say(
            f"{date} g{manifest.generation:04d}: {manifest.rows:,} events, {manifest.size_bytes:,} bytes "
            f"({manifest.strategy.value}) at {root}/{manifest.key}"
        )


def probed(found: Conformance) -> None:
    """What a store honours, and the verdict."""
    table = rich.table.Table(found.uri, "", "seen")
    for each in found.findings:
        table.add_row(plain(each.question), "yes" if each.honoured else "NO", plain(each.seen))
    _out.print(table)
    say(f"{found.verdict}: {_VERDICTS[found.verdict]}")


def top(rows: pl.DataFrame, window: Window, rejected: int, *, by: str, limit: int, form: str) -> None:
    """The top paths of a window, from its hourly rows, in one pass over their sketches, and how exact they are.

    Damaged sketches are told on stderr and left out. CSV is the rows alone.
    """
    damage = DamageList(rows)
    merged = merge_statistics(rows, by=("path", "method"), on_damaged=damage)
    _note_damaged(damage.sketches)
    ranked = _ranked(merged, by=by, limit=limit)
    shown = ranked.select(_TOP_COLUMNS)
    if form == "csv":
        sys.stdout.write(shown.write_csv())
        return
    exactness = statement(merged, ranked, rejected, len(damage.sketches))
    if form == "json":
        answer = {"from": rfc3339(window.start), "to": rfc3339(window.end), **_exactness_facts(exactness)}
        answer["damaged_sketches"] = [str(each) for each in damage.sketches[:_MAX_DAMAGED]]
        answer["paths"] = shown.hstack(of_rows(ranked)).hstack([damage.counts(ranked)]).to_dicts()
        json.dump(answer, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _out.print(_top_table(shown, f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, by {by}"))
        for line in exactness.lines():
            say(line)


def folded(templates: pl.DataFrame, counted: RawPaths, *, limit: int) -> None:
    """What folds to what, most frequent first, and how many paths become how many templates."""
    table = rich.table.Table("template", right("requests"), right("paths"), "most frequent path")
    for template, requests, paths, example in templates.head(limit).iter_rows():
        table.add_row(plain(template), f"{requests:,}", f"{paths:,}", plain(example or ""))
    _out.print(table)
    if templates.height > limit:
        say(f"and {templates.height - limit:,} more template(s): --limit")
    rejected = f"; {counted.rejected_lines:,} line(s) rejected" if counted.rejected_lines else ""
    say(
        f"{counted.requests:,} request(s) ({counted.format_name}): {counted.counts.height:,} distinct raw path(s) "
        f"become {templates.height:,} template(s){rejected}"
    )


def candidates(findings: Sequence[Finding]) -> None:
    """What the library check measured, ours first; absent libraries are listed as absent."""
    names = ("100 events ms", "state KiB", "instance KiB", "error")
    table = rich.table.Table("candidate", "sketches", "version", "BLOB", *(right(name) for name in names), "verdict")
    for each in findings:
        if each.version is None:
            table.add_row(each.name, each.role, "absent", *[""] * 6)
            continue
        blob, sizes = "yes" if each.round_trip else "no", (each.state_bytes, each.instance_bytes)
        shown = (f"{each.time_ms:.2f}", *(f"{size / 1024:,.1f}" for size in sizes), _error(each))
        table.add_row(each.name, each.role, each.version, blob, *shown, "; ".join(each.failures) or "passed")
    _out.print(table)
    say(
        f"limits: {TIME_LIMIT_MS:.0f} ms for {EVENTS_TIMED} events, {SIZE_LIMIT_BYTES:,} bytes; errors at "
        f"{EVENTS_MEASURED:,} events: rank in percentage points at {'/'.join(QUANTILES)}, or of the count; the bounds "
        "of ours in brackets. Instance: what Python sees of it; libraries in C++ and Rust hide theirs"
    )


def _error(finding: Finding) -> str:
    if finding.role == "visitors":
        limit = f" ({finding.limits[0]:.2%})" if finding.limits else ""
        return f"{finding.errors[0]:.2%}{limit}"
    limits = f" ({'/'.join(f'{limit:g}' for limit in finding.limits)})" if finding.limits else ""
    return "/".join(f"{error:.2f}" for error in finding.errors) + limits


def _ranked(merged: pl.DataFrame, *, by: str, limit: int) -> pl.DataFrame:
    """The first `limit` rows of a ranking; ties by requests, path and method."""
    rank = merged.with_columns(_RANKED_BY[by].fill_null(-1).alias("rank"))
    return rank.sort("rank", "requests", "path", "method", descending=[True, True, False, False]).head(limit)


def _note_damaged(damaged: Sequence[DamagedSketch]) -> None:
    for each in damaged[:_MAX_DAMAGED]:
        note(f"damaged, left out: {each}")
    if damaged:
        more = f" ({len(damaged) - _MAX_DAMAGED:,} more are)" if len(damaged) > _MAX_DAMAGED else ""
        note(f"build the hours of damaged sketches again: pathstats build --from T --to T{more}")


def _exactness_facts(exactness: Exactness) -> dict[str, Any]:
    """The statement of exactness as JSON."""
    return {
        "requests": exactness.requests,
        "response_time_samples": exactness.samples,
        "dropped_times": exactness.dropped,
        "rejected_lines": exactness.rejected_lines,
        "rejected_share": exactness.rejected_share,
        "sketches": exactness.pair.choice.value,
        "approximation": exactness.pair.how,
        "rows_with_times": exactness.timed_rows,
        "rows_with_exact_percentiles": exactness.exact_percentiles,
        "rank_error_percentage_points": dict(exactness.rank_error_pp),
        "rows_with_visitors": exactness.visited_rows,
        "rows_with_exact_visitors": exactness.exact_visitors,
        "visitors_relative_error": exactness.visitors_error,
        "damaged_sketch_count": exactness.damaged,
    }


def _top_table(ranked: pl.DataFrame, title: str) -> rich.table.Table:
    names = ("requests", "4xx", "5xx", "p50 ms", "p95 ms", "p99 ms", "visitors")
    table = rich.table.Table("path", "method", *(right(name) for name in names), title=title)
    for row in ranked.iter_rows(named=True):
        counts = (f"{row[name]:,}" for name in ("requests", "status_4xx", "status_5xx"))
        times = (_milliseconds(row[f"response_time_ms_{name}"]) for name in ("p50", "p95", "p99"))
        table.add_row(plain(row["path"]), plain(row["method"]), *counts, *times, f"{row['unique_ips']:,}")
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def right(name: str) -> rich.table.Column:
    """A column of numbers."""
    return rich.table.Column(name, justify="right")
