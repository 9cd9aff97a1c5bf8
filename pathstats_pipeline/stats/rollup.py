"""Roll-ups: rows of statistics to rows of a coarser key, by merging their sketches. Never an average of percentiles.

Days from hours, a range of hours for a ranking, a whole site in one row: all are `merge_statistics` by other keys.
No events here (hourly.py), no table and no clock.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events import templates
from pathstats_pipeline.stats import framing, hourly, ordering, pairs

OnDamaged = Callable[[framing.Kind, Sequence[framing.Damaged]], None]
"""Told of the states that can't be read: their kind, their rows in the input, the reasons."""

_SUMMED: Final = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent")
_TIMES: Final = ("hour", "day")
_ROW: Final = "__row__"
_GROUP: Final = "__group__"
_CHUNK_BYTES: Final = 8 * 1024 * 1024
"""States that are decoded at one time. Decoded and sorted they take some ten times as much."""

_ROW_BYTES: Final = 64
"""A row has a place in a dozen arrays even where it has no states."""

Integers = npt.NDArray[np.int64]


def merge_statistics(
    rows: pl.DataFrame,
    by: Sequence[str],
    *,
    max_templates: int | None = None,
    on_damaged: OnDamaged = framing.refuse,
) -> pl.DataFrame:
    """Merge rows of statistics that agree in the columns `by`: these, then `hourly.MEASURES`.

    Counts are summed; percentiles, response times and visitors come from the sketches, all of a key merged in one pass.
    The order of rows doesn't change a byte. An empty `by` makes one row of all. With `max_templates`, the templates
    beyond the cap are counted in `__other__`, as in `hourly.path_statistics`. Rows come by hour or day (if in `by`),
    then most requests first, then the other keys. Raises DamagedStatesError at a state that can't be read; with
    `on_damaged` it is told instead: the row's requests, statuses and bytes count, the sketch and what is read off it
    don't. Raises pairs.MixedSketchesError where states of two kinds would be merged. Merge hours rather than merged
    days where both exist: one pass is more accurate than two.

    Besides the rows and the result this holds some 40 bytes a row, _CHUNK_BYTES of states decoded, and, while one key
    alone has more states than that, at most 16 bytes for each of its centroids.
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
    groups = _number(rows, by, keys)
    counts = rows.select(_SUMMED).with_columns(groups).group_by(_GROUP).agg(pl.col(_SUMMED).sum()).sort(_GROUP)
    grouped = _Grouped.of(rows, groups.to_numpy(), n_groups)
    measures = pl.concat([_merge_groups(grouped, *each, pair, on_damaged) for each in _pieces(grouped.group_bytes)])
    return pl.concat(
        [keys, counts.select(_SUMMED), measures] if by else [counts.select(_SUMMED), measures], how="horizontal"
    )


def daily_statistics(
    rows: pl.DataFrame, *, max_templates: int | None = None, on_damaged: OnDamaged = framing.refuse
) -> pl.DataFrame:
    """Rows of `hourly.DAILY_SCHEMA` from hourly rows of one or many days. See `merge_statistics`."""
    dated = rows.with_columns(day=pl.col("hour").dt.date())
    merged = merge_statistics(dated, ("day", "path", "method"), max_templates=max_templates, on_damaged=on_damaged)
    return merged.select(pl.col(name).cast(dtype) for name, dtype in hourly.DAILY_SCHEMA.items())


def _number(rows: pl.DataFrame, by: list[str], keys: pl.DataFrame) -> pl.Series:
    """The number of each row's key."""
    if not by:
        return pl.zeros(rows.height, pl.UInt32, eager=True).alias(_GROUP)
    return rows.select(by).join(keys.with_row_index(_GROUP), on=by, how="left", maintain_order="left")[_GROUP]


@dataclasses.dataclass(frozen=True, eq=False)
class _Grouped:
    """Rows in the order of their groups. Only their numbers are sorted: a month of rows isn't copied.

    Place p is row `order[p]`, or row p where `order` is None. Group g has the places from `offsets[g]` to
    `offsets[g + 1]`, and `bytes_before` [place + 1] counts the bytes of states before each place.
    """

    rows: pl.DataFrame
    order: Integers | None
    offsets: Integers
    bytes_before: Integers

    @classmethod
    def of(cls, rows: pl.DataFrame, groups: npt.NDArray[Any], n_groups: int) -> "_Grouped":
        """Rows by their groups [row]."""
        order, offsets = ordering.partition(groups, n_groups)
        states = pl.sum_horizontal(pl.col(name).bin.size().fill_null(0) for name in pairs.SKETCH_COLUMNS)
        sizes = rows.select(states + _ROW_BYTES).to_series().to_numpy()
        return cls(rows, order, offsets, ordering.offsets_of(sizes if order is None else sizes[order]))

    @property
    def group_bytes(self) -> Integers:
        """Bytes of states before each group [group + 1]."""
        return self.bytes_before[self.offsets]

    def take(self, name: str, begin: int, end: int) -> pl.Series:
        """A column's values at these places."""
        return self.rows[name][begin:end] if self.order is None else self.rows[name].gather(self.order[begin:end])


def _pieces(bytes_before: Integers) -> Iterator[tuple[int, int]]:
    """Borders of pieces of at most _CHUNK_BYTES each, or of one item where that alone has more."""
    first, n_items = 0, bytes_before.size - 1
    while first < n_items:
        fitting = int(np.searchsorted(bytes_before, bytes_before[first] + _CHUNK_BYTES, side="right")) - 1
        last = max(fitting, first + 1)
        yield first, last
        first = last


def _merge_groups(grouped: _Grouped, first: int, last: int, pair: pairs.Pair, on_damaged: OnDamaged) -> pl.DataFrame:
    """Measures of the groups from `first` to before `last`: some small ones at once, or one of any size in pieces."""
    begin, end = int(grouped.offsets[first]), int(grouped.offsets[last])

    def decoded(kernel: pairs.LatencyKernel | pairs.VisitorKernel, column: str) -> Iterator[Any]:
        for low, high in _pieces(grouped.bytes_before[begin : end + 1]):
            sketches, damaged = kernel.decode_readable(grouped.take(column, begin + low, begin + high))
            if damaged:
                origin = grouped.take(_ROW, begin + low, begin + high)
                on_damaged(kernel.KIND, [framing.Damaged(int(origin[each.row]), each.reason) for each in damaged])
            yield sketches

    latencies, clients = decoded(pair.latency, pairs.LATENCY), decoded(pair.visitors, pairs.VISITORS)
    if last - first == 1:
        return hourly.sketch_measures(pair.latency.merge_all(latencies), _merge_visitors(clients, pair.visitors), pair)
    groups = np.repeat(np.arange(last - first), np.diff(grouped.offsets[first : last + 1]))
    [times], [sets] = latencies, clients
    return hourly.sketch_measures(
        pair.latency.merge(times, groups, last - first), pair.visitors.merge(sets, groups, last - first), pair
    )


def _merge_visitors(parts: Iterator[Any], kernel: pairs.VisitorKernel) -> Any:
    """All visitors in one sketch. Their merge may go in rounds, so one sketch and one part are held."""
    merged = None
    for part in parts:
        both = part if merged is None else kernel.concatenate([merged, part])
        merged = kernel.merge(both, np.zeros(len(both), np.int64), 1)
    return merged
