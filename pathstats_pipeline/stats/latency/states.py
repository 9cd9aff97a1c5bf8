"""Latency sketches as bytes and back, and as `tdigest.TDigest` and back.

The layout of a body is here, what frames it (magic, version, checksum) in framing.py. A change here changes the bytes
of states: see docs/sketches.md first. No sketch is built or merged here.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from tdigest import TDigest
from tdigest.tdigest import Centroid

from pathstats_pipeline.stats import framing, ordering
from pathstats_pipeline.stats.latency.clusters import COMPRESSION, Integers
from pathstats_pipeline.stats.latency.sketches import LatencySketches, condense

_EXACT_FLAG: Final = 1
_WIDTH_SHIFT: Final = 4
_WIDTHS: Final = (1, 2, 4, 8)


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
    sketch = condense(
        np.array([0, means.size]),
        means,
        weights.astype(np.int64),
        np.array([bool(np.all(weights == 1))]),
        dropped=np.zeros(1, np.int64),
        total=np.array([np.sum(means * weights)]),
        bounds=None,
    )
    return bytes(encode(sketch)[0])
