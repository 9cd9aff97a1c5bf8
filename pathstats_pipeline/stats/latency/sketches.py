"""What a latency sketch is, and how one is built from samples: response times in milliseconds, float64.

A sketch is a run of (mean, weight) centroids in ascending order. While a group has few distinct values the centroids
are the values themselves and its percentiles are exact; above that they are condensed on the k1 scale (clusters.py).
What makes sketches of samples or of centroids stands here; what reads a number off them stands in reading.py, their
bytes in states.py.
"""

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pathstats_pipeline.stats import ordering
from pathstats_pipeline.stats.latency.clusters import COMPRESSION, Floats, Integers, cluster_some, segment_sums

EXACT_LIMIT: Final = COMPRESSION // 2
"""Up to this many distinct values a group keeps them all, with how often each came: never more than clusters."""


@dataclasses.dataclass(frozen=True, eq=False)
class LatencySketches:
    """The sketches of n groups, as one struct of arrays.

    `offsets` [n + 1] says which of `means` (ms) and `weights` (samples) are whose. Per group: `count` of samples,
    `dropped` (NaN, infinite or negative; not in `count`), `sum`, `min` and `max` in ms (NaN where `count` is 0),
    `exact` (the centroids are the values themselves), `compression` it was condensed with.
    """

    offsets: Integers
    means: Floats
    weights: Integers
    exact: npt.NDArray[np.bool_]
    compression: Integers
    count: Integers
    dropped: Integers
    sum: Floats
    min: Floats
    max: Floats

    def __len__(self) -> int:
        return self.count.size


def build(groups: npt.NDArray[Any], n_groups: int, values: npt.NDArray[Any]) -> LatencySketches:
    """Sketch the values [row] of each group [row] (0 to n_groups - 1): response times in ms. See `build_grouped`."""
    order, offsets = ordering.partition(groups, n_groups)
    return build_grouped(values.copy() if order is None else values[order], offsets)


def build_grouped(values: npt.NDArray[Any], offsets: Integers) -> LatencySketches:
    """Sketch values [row] that stand by group, from the group's offset on: response times in ms. Sorts them in place.

    NaN, infinite and negative values are dropped and counted in `dropped`. The result depends on the multiset of
    values of a group only, never on their order; sums run over sorted values for that reason.
    """
    n_groups = offsets.size - 1
    samples = values.astype(np.float64, copy=False)
    dropped = np.zeros(n_groups, np.int64)
    # NaN is neither.
    if samples.size and not (samples.min() >= 0 and samples.max() < np.inf):
        usable = np.isfinite(samples) & (samples >= 0)
        kept = ordering.offsets_of(usable)[offsets]
        dropped = np.diff(offsets) - np.diff(kept)
        samples, offsets = samples[usable], kept
    # Adding zero turns -0.0 into 0.0: they are equal, and must have the same bytes.
    samples += 0.0
    ordering.sort_segments(samples, offsets)
    starts = ordering.run_starts(samples, offsets)
    weights = np.diff(starts, append=samples.size)
    runs = ordering.regroup(starts, offsets)
    exact = np.ones(n_groups, np.bool_)
    return condense(
        runs, samples[starts], weights, exact, dropped=dropped, total=segment_sums(samples, offsets), bounds=None
    )


def condense(
    offsets: Integers,
    means: Floats,
    weights: Integers,
    exact: npt.NDArray[np.bool_],
    *,
    dropped: Integers,
    total: Floats,
    bounds: tuple[Floats, Floats] | None,
) -> LatencySketches:
    """Sketches of sorted distinct (mean, weight) runs: kept as they are where exact and few, clustered elsewhere.

    `exact` [group] says whose means are values; `dropped` and `total` [group] are taken over as they are. `bounds` are
    the least and the largest sample [group]; without them the first and the last mean are.
    """
    sizes = np.diff(offsets)
    count = segment_sums(weights, offsets)
    empty = count == 0
    low, high = bounds if bounds is not None else _ends(offsets, means)
    exact = (exact & (sizes <= EXACT_LIMIT)) | empty
    if not bool(exact.all()):
        # However few: a heavy centroid must be cut at the borders, or its neighbours would be interpolated into it.
        offsets, means, weights = cluster_some(offsets, means, weights, ~exact)
    return LatencySketches(
        offsets=offsets,
        means=means,
        weights=weights,
        exact=exact,
        compression=np.full(sizes.size, COMPRESSION, np.int64),
        count=count,
        dropped=dropped,
        sum=np.where(empty, np.nan, total),
        min=np.where(empty, np.nan, low),
        max=np.where(empty, np.nan, high),
    )


def _ends(offsets: Integers, means: Floats) -> tuple[Floats, Floats]:
    low = np.full(offsets.size - 1, np.nan)
    high = np.full(offsets.size - 1, np.nan)
    filled = np.diff(offsets) > 0
    low[filled] = means[offsets[:-1][filled]]
    high[filled] = means[offsets[1:][filled] - 1]
    return low, high
