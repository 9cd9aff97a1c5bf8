"""Percentiles read off latency sketches: the numbers that people see. Reads sketches, and changes none.

Two ways to interpolate, by whether a sketch is exact; what either promises stands in `percentiles`.
"""

from collections.abc import Sequence

import numpy as np

from pathstats_pipeline.stats.latency.clusters import Floats, Integers
from pathstats_pipeline.stats.latency.sketches import LatencySketches


def percentiles(sketches: LatencySketches, quantiles: Sequence[float]) -> Floats:
    """Values in ms [group, quantile] at quantiles from 0 to 1; NaN where a group has no samples.

    Exact sketches give what `numpy.quantile` gives for their samples (linear interpolation). In the others a
    centroid stands at the middle rank of its samples, a centroid of one sample and the ends are exact, and between
    them values are interpolated. Monotone in the quantile, within min and max, which are true at 0 and 1.
    Raises ValueError for a quantile outside 0 to 1.
    """
    wanted = np.asarray(quantiles, np.float64)
    if not bool(np.all((wanted >= 0) & (wanted <= 1))):
        raise ValueError(f"quantiles must be 0 to 1, got {list(quantiles)}")
    result = np.full((len(sketches), wanted.size), np.nan)
    filled = np.flatnonzero(sketches.count > 0)
    if filled.size == 0 or wanted.size == 0:
        return result
    ascending = np.argsort(wanted, kind="stable")
    rank = (sketches.count[filled, None] - 1) * wanted[ascending]
    left, right, share = _neighbours(sketches, filled, rank)
    values = np.where(share < 0.5, left + (right - left) * share, right - (right - left) * (1 - share))  # noqa: PLR2004
    values = np.maximum.accumulate(np.clip(values, left, right), axis=1)
    result[filled[:, None], ascending] = values
    return result


def _neighbours(sketches: LatencySketches, filled: Integers, rank: Floats) -> tuple[Floats, Floats, Floats]:
    """Values left and right of each rank [group, quantile], and the share of the way between them."""
    exact = sketches.exact[filled]
    parts = (np.empty(rank.shape), np.empty(rank.shape), np.empty(rank.shape))
    for chosen, find in ((exact, _between_samples), (~exact, _between_centroids)):
        if bool(chosen.any()):
            for part, found in zip(parts, find(sketches, filled[chosen], rank[chosen]), strict=True):
                part[chosen] = found
    return parts


def _between_samples(sketches: LatencySketches, filled: Integers, rank: Floats) -> tuple[Floats, Floats, Floats]:
    begins = (np.cumsum(sketches.count) - sketches.count)[filled, None]
    ends = np.cumsum(sketches.weights)
    lower = np.floor(rank).astype(np.int64)
    upper = np.minimum(lower + 1, sketches.count[filled, None] - 1)
    left = sketches.means[np.searchsorted(ends, begins + lower, side="right")]
    right = sketches.means[np.searchsorted(ends, begins + upper, side="right")]
    return left, right, rank - lower


def _between_centroids(sketches: LatencySketches, filled: Integers, rank: Floats) -> tuple[Floats, Floats, Floats]:
    # Positions are doubled: the middle of an even number of samples lies between two ranks.
    before = np.cumsum(sketches.weights) - sketches.weights
    middle = 2 * before + sketches.weights - 1
    begins = 2 * (np.cumsum(sketches.count) - sketches.count)[filled, None]
    final = 2 * (sketches.count[filled, None] - 1)
    first, end = sketches.offsets[:-1][filled, None], sketches.offsets[1:][filled, None]
    after = np.searchsorted(middle, begins + np.floor(2 * rank).astype(np.int64), side="right")
    has_left, has_right = after > first, after < end
    at_left = np.where(has_left, middle[np.maximum(after - 1, 0)] - begins, 0)
    at_right = np.where(has_right, middle[np.minimum(after, middle.size - 1)] - begins, final)
    left = np.where(has_left, sketches.means[np.maximum(after - 1, 0)], sketches.min[filled, None])
    right = np.where(has_right, sketches.means[np.minimum(after, middle.size - 1)], sketches.max[filled, None])
    gap = at_right - at_left
    return left, right, np.where(gap > 0, (2 * rank - at_left) / np.maximum(gap, 1), 0.0)
