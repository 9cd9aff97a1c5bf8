"""Many latency sketches into one of each group, to bytes that depend on the set of sketches alone.

`merge` is for any number of groups that are held at once, `merge_all` for one group that is too large for that; they
give the same bytes. Neither is a case of the other: `merge_all` knows no groups, and goes over the centroids twice,
which is slower where they fit. What merged centroids are condensed to stands in sketches.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pathstats_pipeline.stats import ordering
from pathstats_pipeline.stats.latency.clusters import Floats, Integers, cluster_blocks, join, segment_sums
from pathstats_pipeline.stats.latency.sketches import EXACT_LIMIT, LatencySketches, condense

_RANGE_CENTROIDS: Final = 1 << 18
"""Centroids that are sorted at one time where one group has more: few enough for a core's cache."""
_MARK_EVERY: Final = 256


def merge(sketches: LatencySketches, groups: npt.NDArray[Any], n_groups: int) -> LatencySketches:
    """Merge sketch i into output group `groups[i]`, all in one pass; a group may have any number of sketches.

    The result depends on the multiset of sketches of a group only, never on their order. Merging in several rounds
    gives another, slightly less accurate sketch: merge all states at once.
    """
    of_centroid = np.repeat(groups, np.diff(sketches.offsets))
    order, offsets = ordering.argsort_within(sketches.means, of_centroid, n_groups)
    offsets, means, weights = join(offsets, sketches.means[order], sketches.weights[order])
    inexact = np.bincount(groups[~sketches.exact], minlength=n_groups) > 0
    filled = sketches.count > 0
    sums, sum_offsets = ordering.sort_within(sketches.sum[filled], groups[filled], n_groups)
    low = np.full(n_groups, np.inf)
    high = np.full(n_groups, -np.inf)
    np.minimum.at(low, groups[filled], sketches.min[filled])
    np.maximum.at(high, groups[filled], sketches.max[filled])
    dropped = np.zeros(n_groups, np.int64)
    np.add.at(dropped, groups, sketches.dropped)
    return condense(
        offsets,
        means,
        weights,
        ~inexact,
        dropped=dropped,
        total=segment_sums(sums, sum_offsets),
        bounds=(low, high),
    )


def merge_all(parts: Iterable[LatencySketches]) -> LatencySketches:
    """Merge all sketches of all parts into one: to the byte what `merge` gives for them at once.

    For a group too large to be held at once. Parts are taken one by one; what stays of each are its distinct means
    and their weights, at most 16 bytes a centroid, and the sum of each sketch. They are brought together in ranges of
    means; of these one is held, with the cluster that is not yet complete, and the finished clusters.
    """
    runs, sums = [], []
    exact, dropped, low, high = True, 0, np.inf, -np.inf
    for part in parts:
        order = np.argsort(part.means)
        _, means, weights = join(np.array([0, order.size]), part.means[order], part.weights[order])
        # Most weights fit in a byte or two.
        runs.append((means, weights.astype(np.min_scalar_type(weights.max(initial=0)))))
        filled = part.count > 0
        sums.append(part.sum[filled])
        exact = exact and bool(part.exact.all())
        dropped += int(part.dropped.sum())
        low, high = part.min[filled].min(initial=low), part.max[filled].max(initial=high)
    exact = exact and _are_few([means for means, _ in runs])
    count = sum(int(weights.sum(dtype=np.int64)) for _, weights in runs)
    blocks = _ascending(runs)
    if count and not exact:
        blocks = cluster_blocks(blocks, count)
    means, weights = (np.concatenate(each) for each in zip(*blocks, strict=True))
    ordered = np.sort(np.concatenate([np.empty(0), *sums]))
    # What is clustered already lies within its borders, and isn't changed again.
    return condense(
        np.array([0, means.size]),
        means,
        weights,
        np.array([exact]),
        dropped=np.array([dropped]),
        total=segment_sums(ordered, np.array([0, ordered.size])),
        bounds=(np.array([low]), np.array([high])),
    )


def _are_few(runs: Sequence[Floats]) -> bool:
    """Whether all runs of distinct means together have few enough to be kept as they are."""
    if any(means.size > EXACT_LIMIT for means in runs):
        return False
    return np.unique(np.concatenate([np.empty(0), *runs])).size <= EXACT_LIMIT


def _ascending(runs: Sequence[tuple[Floats, npt.NDArray[Any]]]) -> Iterator[tuple[Floats, Integers]]:
    """Centroids of all ascending runs (means, weights) in order and joined, some _RANGE_CENTROIDS at a time."""
    # Between two marks of a run stand few of its means, so a number of marks says how many centroids a range has.
    marks = np.sort(np.concatenate([np.empty(0), *(means[::_MARK_EVERY] for means, _ in runs)]))
    step = max(1, _RANGE_CENTROIDS // _MARK_EVERY)
    borders = np.unique(marks[step::step])
    places = [[0, *np.searchsorted(means, borders).tolist(), means.size] for means, _ in runs]
    for at in range(borders.size + 1):
        cuts = [slice(place[at], place[at + 1]) for place in places]
        means = np.concatenate([np.empty(0), *(run[cut] for (run, _), cut in zip(runs, cuts, strict=True))])
        weights = [run[cut].astype(np.int64) for (_, run), cut in zip(runs, cuts, strict=True)]
        order = np.argsort(means)
        _, means, joined = join(
            np.array([0, order.size]), means[order], np.concatenate([np.empty(0, np.int64), *weights])[order]
        )
        yield means, joined
