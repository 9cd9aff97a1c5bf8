"""Runs of (mean, weight) centroids: joined where means are equal, and clustered on the k1 scale. Arrays alone.

Here: the scale with its borders, and how centroids are cut at them. No sketches, which have ends and sums as well
(sketches.py), and no parts to be merged (merging.py). Centroids come in ascending order by group; `offsets` [group + 1]
says which are whose, as everywhere in stats/. A change of a constant or of a border changes the bytes of states: see
docs/sketches.md first.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pathstats_pipeline.stats import ordering

COMPRESSION: Final = 1000
"""delta of the k1 scale: a condensed state has at most COMPRESSION / 2 centroids. Measured in docs/sketches.md."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK_GROUPS: Final = 4_096
_FIXED_POINT_BITS: Final = 32


def join(offsets: Integers, means: Floats, weights: Integers) -> tuple[Integers, Floats, Integers]:
    """Sorted centroids with equal means of a group made one, so that the order among them can't matter."""
    starts = ordering.run_starts(means, offsets)
    weights = np.add.reduceat(weights, starts) if starts.size else weights
    return ordering.regroup(starts, offsets), means[starts], weights


def segment_sums(values: npt.NDArray[Any], offsets: Integers) -> npt.NDArray[Any]:
    """Sums [group] of values that stand by group; 0 for a group without any."""
    sums = np.zeros(offsets.size - 1, values.dtype)
    filled = np.diff(offsets) > 0
    if values.size:
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled])
    return sums


def cluster_some(
    offsets: Integers, means: Floats, weights: Integers, chosen: npt.NDArray[np.bool_]
) -> tuple[Integers, Floats, Integers]:
    """Cluster the chosen groups, keep the others, and put them together again in the order of groups."""
    sizes = np.diff(offsets)
    affected = np.repeat(chosen, sizes)
    some_sizes, some_means, some_weights = _cluster(
        ordering.offsets_of(sizes[chosen]), means[affected], weights[affected]
    )
    new_sizes = sizes.copy()
    new_sizes[chosen] = some_sizes
    placed = np.repeat(chosen, new_sizes)
    out_means = np.empty(placed.size, np.float64)
    out_weights = np.empty(placed.size, np.int64)
    out_means[placed], out_weights[placed] = some_means, some_weights
    out_means[~placed], out_weights[~placed] = means[~affected], weights[~affected]
    return ordering.offsets_of(new_sizes), out_means, out_weights


def _cluster(offsets: Integers, means: Floats, weights: Integers) -> tuple[Integers, Floats, Integers]:
    """Centroids between rank borders of the k1 scale: sizes [group], means, weights.

    A run that crosses a border is cut there, so a value that makes up half of all samples stays that value in each
    of the clusters that it fills.
    """
    sizes, borders = _rank_borders(segment_sums(weights, offsets))
    return sizes, *_cut(means, weights, borders)


def cluster_blocks(blocks: Iterable[tuple[Floats, Integers]], count: int) -> Iterator[tuple[Floats, Integers]]:
    """Clusters of one group of `count` samples, whose ascending centroids come in blocks."""
    _, borders = _rank_borders(np.array([count]))
    ends_of_clusters = np.append(borders[1:], count)
    first, rank = 0, 0
    held_means, held_weights = np.empty(0), np.empty(0, np.int64)
    for more_means, more_weights in blocks:
        means, weights = np.append(held_means, more_means), np.append(held_weights, more_weights)
        last = int(np.searchsorted(ends_of_clusters, rank + weights.sum(), side="right"))
        if last > first:
            # A centroid that crosses the last border is cut there; what is behind it waits for the next block.
            ends, length = np.cumsum(weights), ends_of_clusters[last - 1] - rank
            at = int(np.searchsorted(ends, length))
            rest = ends[at] - length
            whole = weights[: at + 1].copy()
            whole[at] -= rest
            yield _cut(means[: at + 1], whole, borders[first:last] - rank)
            behind = at if rest else at + 1
            means, weights = means[behind:], weights[behind:].copy()
            if rest:
                weights[0] = rest
            first, rank = last, rank + length
        held_means, held_weights = means, weights


def _cut(means: Floats, weights: Integers, borders: Integers) -> tuple[Floats, Integers]:
    """Means and weights of the clusters that begin at ascending rank borders, the first of which is 0."""
    ends = np.cumsum(weights)
    run = np.searchsorted(ends, borders, side="right")
    cut = borders > ends[run] - weights[run]
    piece_means, piece_weights = means, weights
    if bool(cut.any()):
        piece_means = np.insert(means, run[cut], means[run[cut]])
        piece_ends = np.insert(ends, run[cut], borders[cut])
        piece_weights = piece_ends - np.concatenate([[0], piece_ends[:-1]])
    first = run + np.cumsum(cut)
    last = np.append(first[1:], piece_means.size) - 1
    cluster_weights = np.add.reduceat(piece_weights, first)
    cluster_means = np.add.reduceat(piece_means * piece_weights, first) / cluster_weights
    # Rounding may leave the hull by one unit in the last place; inside it, means ascend and constants stay exact.
    return np.clip(cluster_means, piece_means[first], piece_means[last]), cluster_weights


def _border_table(compression: int) -> Integers:
    """Quantiles where clusters begin, in units of 2^-32: k1(q) = delta / (2 pi) * asin(2q - 1) is whole there.

    Fixed point, so that the borders are whole numbers that don't depend on a machine's mathematics library.
    Source of k1: Dunning and Ertl, Computing extremely accurate quantiles using t-digests, arXiv:1902.04023.
    """
    clusters = compression // 2
    return np.array(
        [round((1 + math.sin(math.pi * (j / clusters - 0.5))) / 2 * (1 << _FIXED_POINT_BITS)) for j in range(clusters)],
        np.int64,
    )


_BORDERS: Final = _border_table(COMPRESSION)


def _rank_borders(counts: Integers) -> tuple[Integers, Integers]:
    """How many clusters each group gets, and at which global rank each begins; counts [group] are above 0."""
    begins = ordering.offsets_of(counts)[:-1]
    sizes, borders = [], []
    for block in range(0, counts.size, _BLOCK_GROUPS):
        count = counts[block : block + _BLOCK_GROUPS, None]
        # In two halves: count * 2^32 would overflow for counts above 2^31.
        high = (count >> _FIXED_POINT_BITS) * _BORDERS
        low = (count & ((1 << _FIXED_POINT_BITS) - 1)).astype(np.uint64) * _BORDERS.astype(np.uint64)
        low = (low + np.uint64(1 << (_FIXED_POINT_BITS - 1))) >> np.uint64(_FIXED_POINT_BITS)
        ranks = high + low.astype(np.int64)
        fresh = np.ones(ranks.shape, np.bool_)
        fresh[:, 1:] = ranks[:, 1:] != ranks[:, :-1]
        fresh &= ranks < count
        sizes.append(fresh.sum(axis=1))
        borders.append((ranks + begins[block : block + _BLOCK_GROUPS, None])[fresh])
    return np.concatenate(sizes).astype(np.int64), np.concatenate(borders)
