"""Roll-ups: rows of statistics to rows of a coarser key, by merging their sketches. Never an average of percentiles.

Days from hours, a range of hours for a ranking, a whole site in one row: all are `merge_statistics` by other keys.
No events here (hourly.py), no table and no clock.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events import templates
from pathstats_pipeline.stats import framing, hourly, pairs

OnDamaged = Callable[[framing.Kind, Sequence[framing.Damaged]], None]
"""Told of the states that can't be read: their kind, their rows in the input, the reasons."""

_SUMMED: Final = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent")
_TIMES: Final = ("hour", "day")
_ROW: Final = "__row__"
_GROUP: Final = "__group__"
_CHUNK_BYTES: Final = 64 * 1024 * 1024
_SLICE_ROWS: Final = 2_048


def _raise(kind: framing.Kind, damaged: Sequence[framing.Damaged]) -> None:
    raise framing.DamagedStatesError(kind, damaged)


def merge_statistics(
    rows: pl.DataFrame,
    by: Sequence[str],
    *,
    max_templates: int | None = None,
    on_damaged: OnDamaged = _raise,
) -> pl.DataFrame:
    """Merge rows of statistics that agree in the columns `by`: these, then `hourly.MEASURES`.

    Counts are summed; percentiles, response times and visitors come from the sketches, all of a key merged in one pass.
    The order of rows doesn't change a byte. An empty `by` makes one row of all. With `max_templates`, the templates
    beyond the cap are counted in `__other__`, as in `hourly.path_statistics`. Rows come by hour or day (if in `by`),
    then most requests first, then the other keys. Raises DamagedStatesError at a state that can't be read; with
    `on_damaged` it is told instead: the row's requests, statuses and bytes count, the sketch and what is read off it
    don't. Raises pairs.MixedSketchesError where states of two kinds would be merged. Merge hours rather than merged
    days where both exist: one pass is more accurate than two.
    """
    by = list(by)
    measures = [column.name for column in hourly.MEASURES]
    if rows.is_empty():
        return rows.select(*by, *measures)
    parts = pairs.split_by_pair(rows.with_row_index(_ROW), by)
    if max_templates is not None and "path" in by:
        within = [key for key in by if key not in ("path", "method")]
        parts = [(pair, templates.cap(part, within, max_templates)) for pair, part in parts]
    times = [key for key in by if key in _TIMES]
    others = [key for key in by if key not in _TIMES]
    descending = [*(False for _ in times), True, *(False for _ in others)]
    return (
        pl.concat([_merge_part(part, by, pair, on_damaged) for pair, part in parts])
        .sort(*times, "requests", *others, descending=descending)
        .select(*by, *(pl.col(column.name).cast(column.dtype) for column in hourly.MEASURES))
    )


def _merge_part(rows: pl.DataFrame, by: list[str], pair: pairs.Pair, on_damaged: OnDamaged) -> pl.DataFrame:
    """Keys, sums and measures of rows that hold one pair of sketches."""
    keys = rows.select(by).unique().sort(by) if by else pl.DataFrame({_GROUP: [0]}).select()
    n_groups = keys.height if by else 1
    rows = _number(rows, by, keys).sort(_GROUP, maintain_order=True)
    counts = rows.group_by(_GROUP).agg(pl.col(_SUMMED).sum()).sort(_GROUP).select(_SUMMED)
    sketches = pl.concat([_merge_chunk(chunk, pair, on_damaged) for chunk in _chunks(rows, n_groups)])
    return pl.concat([keys, counts, sketches] if by else [counts, sketches], how="horizontal")


def daily_statistics(
    rows: pl.DataFrame, *, max_templates: int | None = None, on_damaged: OnDamaged = _raise
) -> pl.DataFrame:
    """Rows of `hourly.DAILY_SCHEMA` from hourly rows of one or many days. See `merge_statistics`."""
    dated = rows.with_columns(day=pl.col("hour").dt.date())
    merged = merge_statistics(dated, ("day", "path", "method"), max_templates=max_templates, on_damaged=on_damaged)
    return merged.select(pl.col(name).cast(dtype) for name, dtype in hourly.DAILY_SCHEMA.items())


def _number(rows: pl.DataFrame, by: list[str], keys: pl.DataFrame) -> pl.DataFrame:
    if not by:
        return rows.with_columns(pl.lit(0, pl.UInt32).alias(_GROUP))
    return rows.join(keys.with_row_index(_GROUP), on=by, how="left", maintain_order="left")


def _chunks(rows: pl.DataFrame, n_groups: int) -> Iterator[pl.DataFrame]:
    """Rows, sorted by group, in pieces of whole groups: a bound on the sketches that are decoded at one time."""
    sizes = rows.select(
        pl.sum_horizontal(pl.col(name).bin.size().fill_null(0) for name in pairs.SKETCH_COLUMNS)
    ).to_series()
    ends = np.searchsorted(rows[_GROUP].to_numpy(), np.arange(n_groups), side="right")
    filled = np.cumsum(sizes.to_numpy())[ends - 1]
    begin, spent = 0, 0
    for end, total in zip(ends.tolist(), filled.tolist(), strict=True):
        if total - spent >= _CHUNK_BYTES or end == rows.height:
            yield rows[begin:end]
            begin, spent = end, total


def _merge_chunk(rows: pl.DataFrame, pair: pairs.Pair, on_damaged: OnDamaged) -> pl.DataFrame:
    numbers = rows[_GROUP].to_numpy().astype(np.int64)
    groups = numbers - numbers[0]
    n_groups = int(groups[-1]) + 1
    latencies, damaged = pair.latency.decode_readable(rows[pairs.LATENCY])
    _report(pair.latency.KIND, rows, damaged, on_damaged)
    merged = pair.latency.merge(latencies, groups, n_groups)
    return hourly.sketch_measures(merged, _merge_visitors(rows, groups, n_groups, pair, on_damaged), pair)


def _merge_visitors(
    rows: pl.DataFrame, groups: npt.NDArray[Any], n_groups: int, pair: pairs.Pair, on_damaged: OnDamaged
) -> Any:
    """Visitors of a chunk, slice by slice: their merge may go in rounds, and decoded registers are large."""
    kernel, merged = pair.visitors, None
    for first in range(0, rows.height, _SLICE_ROWS):
        part = rows[first : first + _SLICE_ROWS]
        sketches, damaged = kernel.decode_readable(part[pairs.VISITORS])
        _report(kernel.KIND, part, damaged, on_damaged)
        of_part = groups[first : first + _SLICE_ROWS]
        if merged is not None:
            sketches = kernel.concatenate([merged, sketches])
            of_part = np.concatenate([np.arange(n_groups), of_part])
        merged = kernel.merge(sketches, of_part, n_groups)
    if merged is None:
        raise AssertionError("a chunk has rows")
    return merged


def _report(kind: framing.Kind, rows: pl.DataFrame, damaged: Sequence[framing.Damaged], on_damaged: OnDamaged) -> None:
    if damaged:
        origin = rows[_ROW]
        on_damaged(kind, [framing.Damaged(int(origin[each.row]), each.reason) for each in damaged])
