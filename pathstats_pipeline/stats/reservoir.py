"""Reservoir sketches, the fallback for latency/: at most 1,000 samples of each group, and the true ends and sum.

A sample's tag is a hash of its event's id, which knows nothing of its time; a group keeps the samples with the
smallest tags (bottom-k sampling). So the sample is uniform, without replacement, the same in any order, and merging
is the same rule again. No frame columns, no hours in this room; bytes are framed by framing.py. A change of a
constant or of the tag here changes the bytes of states: see docs/sketches.md first.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401 - registers the nchash namespace

from pathstats_pipeline.stats import framing, ordering

CAPACITY: Final = 1_000
"""Samples that a group keeps at most."""

RANK_ERROR_PP: Final = {"p50": 4.7, "p95": 2.1, "p99": 0.94}
"""Rank error in percentage points that a percentile of a full reservoir keeps with 99.7 % confidence.

Three standard deviations of a binomial share: 300 * sqrt(q (1 - q) / CAPACITY). Smaller for cells of few thousands.
"""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Tags = npt.NDArray[np.uint64]

_EXACT_FLAG: Final = 1
_SAMPLE_BYTES: Final = 16


def _body_bytes(headers: npt.NDArray[np.void]) -> Integers:
    return _SAMPLE_BYTES * headers["samples"].astype(np.int64)


KIND: Final = framing.Kind(
    name="reservoir",
    magic=b"PSRS",
    version=1,
    header=np.dtype(
        [
            ("magic", "S4"),
            ("version", "u1"),
            ("flags", "u1"),
            ("capacity", "<u2"),
            ("count", "<u8"),
            ("dropped", "<u8"),
            ("sum", "<f8"),
            ("min", "<f8"),
            ("max", "<f8"),
            ("samples", "<u4"),
        ]
    ),
    flags=(0, _EXACT_FLAG),
    body_bytes=_body_bytes,
    parameter=("capacity", CAPACITY),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Reservoirs:
    """The reservoirs of n groups, as one struct of arrays.

    `offsets` [n + 1] says which of `values` (ms, ascending within a group) and their `tags` are whose. Per group:
    `count` of all samples, kept or not, `dropped` (NaN, infinite or negative; not in `count`), and `sum`, `min` and
    `max` of all samples in ms (NaN where `count` is 0).
    """

    offsets: Integers
    values: Floats
    tags: Tags
    count: Integers
    dropped: Integers
    sum: Floats
    min: Floats
    max: Floats

    def __len__(self) -> int:
        return self.count.size


def tag_events(event_ids: pl.Series) -> Tags:
    """xxh3_64 (seed 0) of the UTF-8 bytes of each event's id [row]. Raises ValueError where an id is NULL."""
    if event_ids.null_count():
        raise ValueError(f"{event_ids.null_count()} event(s) have no event_id to sample by")
    tags = event_ids.to_frame("id").select(pl.col("id").nchash.xxh3_64()).to_series()  # type: ignore[attr-defined]
    return tags.to_numpy().astype(np.uint64)


def build(groups: npt.NDArray[Any], n_groups: int, values: npt.NDArray[Any], tags: Tags) -> Reservoirs:
    """Sample the values [row], tagged [row], of each group [row] (0 to n_groups - 1): response times in ms.

    NaN, infinite and negative values are dropped and counted in `dropped`. The result depends on the set of
    (tag, value) pairs of a group only, never on their order.
    """
    usable = np.isfinite(values) & (values >= 0)
    dropped = np.bincount(groups[~usable], minlength=n_groups).astype(np.int64)
    groups, tags = groups[usable], tags[usable]
    # Adding zero turns -0.0 into 0.0: they are equal, and must have the same bytes.
    values = values[usable].astype(np.float64, copy=False) + 0.0
    ordered, offsets = ordering.sort_within(values, groups, n_groups)
    filled = np.diff(offsets) > 0
    low, high = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    low[filled], high[filled] = ordered[offsets[:-1][filled]], ordered[offsets[1:][filled] - 1]
    return Reservoirs(
        *_keep(groups, n_groups, values, tags),
        count=np.diff(offsets),
        dropped=dropped,
        sum=_sums(ordered, offsets),
        min=low,
        max=high,
    )


def merge(sketches: Reservoirs, groups: npt.NDArray[Any], n_groups: int) -> Reservoirs:
    """Merge reservoir i into output group `groups[i]`; a group may have any number of them.

    The samples, counts and ends are those of all events at once, whatever the order, the split and the number of
    rounds: the smallest 1,000 tags of a whole are among the smallest 1,000 of its parts. Only the last bits of `sum`
    depend on the split.
    """
    filled = sketches.count > 0
    of_filled = groups[filled]
    sums, offsets = ordering.sort_within(sketches.sum[filled], of_filled, n_groups)
    count, dropped = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int64)
    np.add.at(count, groups, sketches.count)
    np.add.at(dropped, groups, sketches.dropped)
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, of_filled, sketches.min[filled])
    np.maximum.at(high, of_filled, sketches.max[filled])
    of_sample = np.repeat(groups, np.diff(sketches.offsets))
    return Reservoirs(
        *_keep(of_sample, n_groups, sketches.values, sketches.tags),
        count=count,
        dropped=dropped,
        sum=_sums(sums, offsets),
        min=np.where(count > 0, low, np.nan),
        max=np.where(count > 0, high, np.nan),
    )


def merge_all(parts: Iterable[Reservoirs]) -> Reservoirs:
    """Merge all reservoirs of all parts into one: to the byte what `merge` gives for them at once.

    For a group too large to be held at once: parts are taken one by one, and what stays is one reservoir and the sum
    of each that was merged.
    """
    merged = _nothing()
    sums = []
    for part in parts:
        sums.append(part.sum[part.count > 0])
        both = _concatenate(merged, part)
        merged = merge(both, np.zeros(len(both), np.int64), 1)
    # Sums are added in ascending order, all of them, or the way the parts were cut would show in the last bits.
    ordered = np.sort(np.concatenate([np.empty(0), *sums]))
    return dataclasses.replace(merged, sum=_sums(ordered, np.array([0, ordered.size])))


def _nothing() -> Reservoirs:
    """One empty reservoir."""
    no_groups = np.empty(0, np.int64)
    return build(no_groups, 1, np.empty(0), np.empty(0, np.uint64))


def _concatenate(one: Reservoirs, other: Reservoirs) -> Reservoirs:
    """The reservoirs of both, one after the other."""
    names = [field.name for field in dataclasses.fields(Reservoirs) if field.name != "offsets"]
    columns = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return Reservoirs(offsets=np.concatenate([one.offsets, one.offsets[-1] + other.offsets[1:]]), **columns)


def _keep(groups: npt.NDArray[Any], n_groups: int, values: Floats, tags: Tags) -> tuple[Integers, Floats, Tags]:
    """The CAPACITY smallest tags of each group: offsets [n_groups + 1], values ascending within a group, tags."""
    sizes = np.bincount(groups, minlength=n_groups).astype(np.int64)
    order = np.lexsort((values, tags, groups))
    position = np.arange(order.size) - np.repeat(ordering.offsets_of(sizes)[:-1], sizes)
    kept = order[position < CAPACITY]
    kept = kept[np.lexsort((tags[kept], values[kept], groups[kept]))]
    return ordering.offsets_of(np.minimum(sizes, CAPACITY)), values[kept], tags[kept]


def _sums(values: Floats, offsets: Integers) -> Floats:
    sums = np.full(offsets.size - 1, np.nan)
    filled = np.diff(offsets) > 0
    if values.size:
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled])
    return sums


def percentiles(sketches: Reservoirs, quantiles: Sequence[float]) -> Floats:
    """Values in ms [group, quantile] at quantiles from 0 to 1; NaN where a group has no samples.

    What `numpy.quantile` gives for the kept samples: exact while all are kept, else within `RANK_ERROR_PP`. Monotone
    in the quantile, within min and max, which are true at 0 and 1. Raises ValueError for a quantile outside 0 to 1.
    """
    wanted = np.asarray(quantiles, np.float64)
    if not bool(np.all((wanted >= 0) & (wanted <= 1))):
        raise ValueError(f"quantiles must be 0 to 1, got {list(quantiles)}")
    result = np.full((len(sketches), wanted.size), np.nan)
    sizes = np.diff(sketches.offsets)
    filled = np.flatnonzero(sizes > 0)
    begins, last = sketches.offsets[filled, None], sizes[filled, None] - 1
    rank = last * wanted
    lower = np.floor(rank).astype(np.int64)
    left = sketches.values[begins + lower]
    right = sketches.values[begins + np.minimum(lower + 1, last)]
    share = rank - lower
    near_left = left + (right - left) * share
    near_right = right - (right - left) * (1 - share)
    found = np.clip(np.where(share < 0.5, near_left, near_right), left, right)  # noqa: PLR2004 - as numpy.quantile
    found = np.where(wanted == 0, sketches.min[filled, None], found)
    result[filled] = np.where(wanted == 1, sketches.max[filled, None], found)
    return result


def encode(sketches: Reservoirs) -> pl.Series:
    """States as a Binary series [group]; NULL for a group that has neither samples nor dropped ones.

    Equal reservoirs have equal bytes. The layout is in docs/sketches.md.
    """
    present = (sketches.count > 0) | (sketches.dropped > 0)
    kept = np.flatnonzero(present)
    sizes = np.diff(sketches.offsets)[kept]
    headers = KIND.new_headers(kept.size)
    headers["flags"] = (sizes == sketches.count[kept]) * _EXACT_FLAG
    headers["samples"] = sizes
    for name in ("count", "dropped", "sum", "min", "max"):
        headers[name] = getattr(sketches, name)[kept]
    buffer, offsets = framing.allocate(KIND, headers)
    begins = offsets[:-1] + KIND.header.itemsize
    framing.put(buffer, begins, 8 * sizes, sketches.values.astype("<f8"))
    framing.put(buffer, begins + 8 * sizes, 8 * sizes, sketches.tags.astype("<u8"))
    return framing.seal(buffer, offsets, present)


def decode_readable(states: pl.Series) -> tuple[Reservoirs, tuple[framing.Damaged, ...]]:
    """Reservoirs [row] of a Binary series, empty where NULL or damaged, and the damaged rows with their reasons."""
    frames = framing.open_states(states, KIND)
    headers = frames.headers
    sizes = headers["samples"].astype(np.int64)
    values = framing.take(frames.buffer, frames.bodies, 8 * sizes).view("<f8").astype(np.float64)
    tags = framing.take(frames.buffer, frames.bodies + 8 * sizes, 8 * sizes).view("<u8").astype(np.uint64)
    sketches = Reservoirs(
        offsets=ordering.offsets_of(frames.by_row(sizes, 0)),
        values=values,
        tags=tags,
        count=frames.by_row(headers["count"], 0),
        dropped=frames.by_row(headers["dropped"], 0),
        sum=frames.by_row(headers["sum"], np.nan),
        min=frames.by_row(headers["min"], np.nan),
        max=frames.by_row(headers["max"], np.nan),
    )
    return sketches, frames.damaged
