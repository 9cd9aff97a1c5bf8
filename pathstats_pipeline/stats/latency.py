"""Latency sketches: t-digests of all groups at once, as arrays. The percentiles of every statistic come from here.

Values are response times in milliseconds, float64. A sketch is a run of (mean, weight) centroids in ascending order.
While a group has few distinct values the centroids are the values themselves and its percentiles are exact; above
that they are condensed on the k1 scale. No frame columns, no paths, no hours in this room; bytes are framed by
framing.py. A change of a constant here changes the bytes of states: see docs/sketches.md first.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from tdigest import TDigest
from tdigest.tdigest import Centroid

from pathstats_pipeline.stats import framing, ordering

COMPRESSION: Final = 1000
"""delta of the k1 scale: a condensed state has at most COMPRESSION / 2 centroids. Measured in docs/sketches.md."""

EXACT_LIMIT: Final = COMPRESSION // 2
"""Up to this many distinct values a group keeps them all, with how often each came: never more than clusters."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK_GROUPS: Final = 4_096
_FIXED_POINT_BITS: Final = 32
_EXACT_FLAG: Final = 1
_WIDTH_SHIFT: Final = 4
_WIDTHS: Final = (1, 2, 4, 8)
_RANGE_CENTROIDS: Final = 1 << 18
"""Centroids that are sorted at one time where one group has more: few enough for a core's cache."""
_MARK_EVERY: Final = 256


def _body_bytes(headers: npt.NDArray[np.void]) -> Integers:
    return headers["centroids"].astype(np.int64) * (8 + (headers["flags"] >> _WIDTH_SHIFT))


KIND: Final = framing.Kind(
    name="latency",
    magic=b"PSLT",
    version=1,
    header=np.dtype(
        [
            ("magic", "S4"),
            ("version", "u1"),
            ("flags", "u1"),
            ("compression", "<u2"),
            ("count", "<u8"),
            ("dropped", "<u8"),
            ("sum", "<f8"),
            ("min", "<f8"),
            ("max", "<f8"),
            ("centroids", "<u4"),
        ]
    ),
    flags=tuple(width << _WIDTH_SHIFT | exact for width in (0, *_WIDTHS) for exact in (0, _EXACT_FLAG)),
    body_bytes=_body_bytes,
)


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
    return _condense(
        runs, samples[starts], weights, exact, dropped=dropped, total=_segment_sums(samples, offsets), bounds=None
    )


def merge(sketches: LatencySketches, groups: npt.NDArray[Any], n_groups: int) -> LatencySketches:
    """Merge sketch i into output group `groups[i]`, all in one pass; a group may have any number of sketches.

    The result depends on the multiset of sketches of a group only, never on their order. Merging in several rounds
    gives another, slightly less accurate sketch: merge all states at once.
    """
    of_centroid = np.repeat(groups, np.diff(sketches.offsets))
    order, offsets = ordering.argsort_within(sketches.means, of_centroid, n_groups)
    offsets, means, weights = _join(offsets, sketches.means[order], sketches.weights[order])
    inexact = np.bincount(groups[~sketches.exact], minlength=n_groups) > 0
    filled = sketches.count > 0
    sums, sum_offsets = ordering.sort_within(sketches.sum[filled], groups[filled], n_groups)
    low = np.full(n_groups, np.inf)
    high = np.full(n_groups, -np.inf)
    np.minimum.at(low, groups[filled], sketches.min[filled])
    np.maximum.at(high, groups[filled], sketches.max[filled])
    dropped = np.zeros(n_groups, np.int64)
    np.add.at(dropped, groups, sketches.dropped)
    return _condense(
        offsets,
        means,
        weights,
        ~inexact,
        dropped=dropped,
        total=_segment_sums(sums, sum_offsets),
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
        _, means, weights = _join(np.array([0, order.size]), part.means[order], part.weights[order])
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
        blocks = _cluster_blocks(blocks, count)
    means, weights = (np.concatenate(each) for each in zip(*blocks, strict=True))
    ordered = np.sort(np.concatenate([np.empty(0), *sums]))
    # What is clustered already lies within its borders, and isn't changed again.
    return _condense(
        np.array([0, means.size]),
        means,
        weights,
        np.array([exact]),
        dropped=np.array([dropped]),
        total=_segment_sums(ordered, np.array([0, ordered.size])),
        bounds=(np.array([low]), np.array([high])),
    )


def _join(offsets: Integers, means: Floats, weights: Integers) -> tuple[Integers, Floats, Integers]:
    """Sorted centroids with equal means of a group made one, so that the order among them can't matter."""
    starts = ordering.run_starts(means, offsets)
    weights = np.add.reduceat(weights, starts) if starts.size else weights
    return ordering.regroup(starts, offsets), means[starts], weights


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
        _, means, joined = _join(
            np.array([0, order.size]), means[order], np.concatenate([np.empty(0, np.int64), *weights])[order]
        )
        yield means, joined


def _cluster_blocks(blocks: Iterable[tuple[Floats, Integers]], count: int) -> Iterator[tuple[Floats, Integers]]:
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


def _segment_sums(values: npt.NDArray[Any], offsets: Integers) -> npt.NDArray[Any]:
    sums = np.zeros(offsets.size - 1, values.dtype)
    filled = np.diff(offsets) > 0
    if values.size:
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled])
    return sums


def _condense(
    offsets: Integers,
    means: Floats,
    weights: Integers,
    exact: npt.NDArray[np.bool_],
    *,
    dropped: Integers,
    total: Floats,
    bounds: tuple[Floats, Floats] | None,
) -> LatencySketches:
    """Sketches of sorted distinct (mean, weight) runs: kept as they are where exact and few, clustered elsewhere."""
    sizes = np.diff(offsets)
    count = _segment_sums(weights, offsets)
    empty = count == 0
    low, high = bounds if bounds is not None else _ends(offsets, means)
    exact = (exact & (sizes <= EXACT_LIMIT)) | empty
    if not bool(exact.all()):
        # However few: a heavy centroid must be cut at the borders, or its neighbours would be interpolated into it.
        offsets, means, weights = _cluster_some(offsets, means, weights, ~exact)
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


def _cluster_some(
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
    sizes, borders = _rank_borders(_segment_sums(weights, offsets))
    return sizes, *_cut(means, weights, borders)


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


def encode(sketches: LatencySketches) -> pl.Series:
    """States as a Binary series [group]; NULL for a group that has neither samples nor dropped ones.

    Equal sketches have equal bytes. The layout is in docs/sketches.md.
    """
    present = (sketches.count > 0) | (sketches.dropped > 0)
    kept = np.flatnonzero(present)
    sizes = np.diff(sketches.offsets)[kept]
    widths = _weight_bytes(sketches)[kept]
    headers = KIND.new_headers(kept.size)
    headers["flags"] = sketches.exact[kept] * _EXACT_FLAG | widths << _WIDTH_SHIFT
    headers["centroids"] = sizes
    for name in ("compression", "count", "dropped", "sum", "min", "max"):
        headers[name] = getattr(sketches, name)[kept]
    buffer, offsets = framing.allocate(KIND, headers)
    begins = offsets[:-1] + KIND.header.itemsize
    framing.put(buffer, begins, 8 * sizes, sketches.means.astype("<f8"))
    of_centroid = np.repeat(widths, sizes)
    for width in _WIDTHS:
        these = widths == width
        if bool(these.any()):
            weights = sketches.weights[of_centroid == width].astype(f"<u{width}")
            framing.put(buffer, (begins + 8 * sizes)[these], (sizes * width)[these], weights)
    return framing.seal(buffer, offsets, present)


def _weight_bytes(sketches: LatencySketches) -> Integers:
    """Bytes for one weight in each group's state: 0 where all weights are 1, else the fewest that hold the largest."""
    filled = np.diff(sketches.offsets) > 0
    largest = np.ones(len(sketches), np.int64)
    if sketches.weights.size:
        largest[filled] = np.maximum.reduceat(sketches.weights, sketches.offsets[:-1][filled])
    limits = np.array([1, 0xFF, 0xFFFF, 0xFFFFFFFF], np.int64)
    return np.array([0, *_WIDTHS], np.int64)[np.searchsorted(limits, largest)]


def decode(states: pl.Series) -> LatencySketches:
    """Sketches [row] of a Binary series; NULL is the empty sketch. Raises DamagedStatesError naming the row."""
    sketches, damaged = decode_readable(states)
    framing.refuse(KIND, damaged)
    return sketches


def decode_readable(states: pl.Series) -> tuple[LatencySketches, tuple[framing.Damaged, ...]]:
    """Sketches [row] of a Binary series, empty where NULL or damaged, and the damaged rows with their reasons."""
    frames = framing.open_states(states, KIND)
    headers, begins = frames.headers, frames.bodies
    sizes = headers["centroids"].astype(np.int64)
    widths = (headers["flags"] >> _WIDTH_SHIFT).astype(np.int64)
    means = framing.take(frames.buffer, begins, 8 * sizes).view("<f8").astype(np.float64)
    weights = np.ones(means.size, np.int64)
    of_centroid = np.repeat(widths, sizes)
    for width in _WIDTHS:
        these = widths == width
        if bool(these.any()):
            raw = framing.take(frames.buffer, (begins + 8 * sizes)[these], (sizes * width)[these])
            weights[of_centroid == width] = raw.view(f"<u{width}")
    sketches = LatencySketches(
        offsets=ordering.offsets_of(frames.by_row(sizes, 0)),
        means=means,
        weights=weights,
        exact=frames.by_row((headers["flags"] & _EXACT_FLAG) > 0, fill=True),
        compression=frames.by_row(headers["compression"], COMPRESSION),
        count=frames.by_row(headers["count"], 0),
        dropped=frames.by_row(headers["dropped"], 0),
        sum=frames.by_row(headers["sum"], np.nan),
        min=frames.by_row(headers["min"], np.nan),
        max=frames.by_row(headers["max"], np.nan),
    )
    return sketches, frames.damaged


def to_tdigest(state: bytes) -> TDigest:
    """`tdigest.TDigest` with the centroids of one state. Raises DamagedStatesError."""
    sketches = decode(pl.Series([state], dtype=pl.Binary))
    digest = TDigest(delta=1 / int(sketches.compression[0]))
    # The tree holds one centroid for each mean.
    means, which = np.unique(sketches.means, return_inverse=True)
    weights = np.bincount(which, weights=sketches.weights, minlength=means.size)
    for mean, weight in zip(means.tolist(), weights.tolist(), strict=True):
        digest.C.insert(mean, Centroid(mean, weight))
    digest.n = int(sketches.count[0])
    return digest


def from_tdigest(digest: TDigest) -> bytes:
    """State of a `tdigest.TDigest` of milliseconds.

    A TDigest doesn't know its sum, minimum and maximum: they are taken from its centroids. It is exact if each of its
    centroids is one sample. Raises ValueError for an empty digest, and for means or weights that no build makes.
    """
    centroids = digest.centroids_to_list()
    means = np.array([each["m"] for each in centroids], np.float64)
    weights = np.array([each["c"] for each in centroids], np.float64)
    if means.size == 0:
        raise ValueError("the TDigest is empty")
    if not bool(np.all(np.isfinite(means) & (means >= 0) & (weights >= 1) & (weights == np.rint(weights)))):
        raise ValueError("a TDigest of response times has finite means from 0 and whole weights from 1")
    sketch = _condense(
        np.array([0, means.size]),
        means,
        weights.astype(np.int64),
        np.array([bool(np.all(weights == 1))]),
        dropped=np.zeros(1, np.int64),
        total=np.array([np.sum(means * weights)]),
        bounds=None,
    )
    return bytes(encode(sketch)[0])
