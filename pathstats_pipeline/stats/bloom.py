"""Bloom filters of clients, the fallback for visitors.py: `rbloom` keeps the bits and estimates how many are in.

A visitor is the same 64-bit hash as in visitors.py. Up to `SPARSE_LIMIT` distinct hashes of a group are kept as they
are, and counted exactly; above that they are one filter, always of the same size, so that any two can be merged. The
form depends on the set of hashes alone. No frame columns, no hours in this room; bytes are framed by framing.py. A
change of a constant here, or of rbloom's hashing, changes the bytes of states: see docs/sketches.md first.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash
from rbloom import Bloom

from pathstats_pipeline.stats import framing, ordering

EXPECTED_VISITORS: Final = 100_000
FALSE_POSITIVE_RATE: Final = 0.5
"""One bit for each address. We only count, and for counting one hash function is best: a second one fills the filter
twice as fast and says nothing more. (A membership test would want a rate of 1 %, and nine times the bits.)"""

RELATIVE_ERROR: Final = 0.0125
"""Standard error of the count of a filter up to a million visitors; 0.22 % at the 100,000 that it is sized for."""

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_HASH_BYTES: Final = 8
_SIGNED_SHIFT: Final = 1 << 127
_FILTER_FLAG: Final = 1
_RBLOOM_HEADER: Final = 8


def spread(visitor: int) -> int:
    """The 128 bits that rbloom wants of a visitor's 64-bit hash; Python's own `hash` differs between machines."""
    return xxhash.xxh3_128_intdigest(visitor.to_bytes(_HASH_BYTES, "little"), seed=0) - _SIGNED_SHIFT


def _new_filter() -> Bloom:
    return Bloom(EXPECTED_VISITORS, FALSE_POSITIVE_RATE, spread)


BITS: Final = _new_filter().size_in_bits
SPARSE_LIMIT: Final = BITS // 64
"""Up to this many distinct hashes a group keeps them all: 8 bytes each, no more than the filter."""

_FUNCTIONS: Final = int.from_bytes(_new_filter().save_bytes()[:_RBLOOM_HEADER], "little")


def _body_bytes(headers: npt.NDArray[np.void]) -> Integers:
    entries = headers["entries"].astype(np.int64)
    bits = np.where(entries == BITS, BITS // 8, -1)
    return np.where(headers["flags"] == _FILTER_FLAG, bits, _HASH_BYTES * entries)


KIND: Final = framing.Kind(
    name="bloom",
    magic=b"PSBF",
    version=1,
    header=np.dtype([("magic", "S4"), ("version", "u1"), ("flags", "u1"), ("hash_count", "<u2"), ("entries", "<u4")]),
    flags=(0, _FILTER_FLAG),
    body_bytes=_body_bytes,
    parameter=("hash_count", _FUNCTIONS),
)


@dataclasses.dataclass(frozen=True, eq=False)
class BloomSketches:
    """The sketches of n groups.

    `offsets` [n + 1] says which of the `hashes`, ascending within a group, are whose. The groups named in
    `full_groups` (ascending) have no hashes but one of the `filters`.
    """

    offsets: Integers
    hashes: Hashes
    full_groups: Integers
    filters: tuple[Bloom, ...]

    def __len__(self) -> int:
        return self.offsets.size - 1


def build(groups: npt.NDArray[Any], n_groups: int, hashes: Hashes) -> BloomSketches:
    """Sketch the hashes [row] of each group [row] (0 to n_groups - 1), in any order, any number of times each."""
    return _form(groups, n_groups, hashes, {})


def merge(sketches: BloomSketches, groups: npt.NDArray[Any], n_groups: int) -> BloomSketches:
    """Merge sketch i into output group `groups[i]`; a group may have any number of sketches.

    Equal to the sketch of all hashes together, whatever the order, the split and the number of rounds.
    """
    merged: dict[int, Bloom] = {}
    for group, bits in zip(groups[sketches.full_groups].tolist(), sketches.filters, strict=True):
        if group in merged:
            merged[group].update(bits)
        else:
            merged[group] = bits.copy()
    return _form(np.repeat(groups, np.diff(sketches.offsets)), n_groups, sketches.hashes, merged)


def concatenate(parts: Sequence[BloomSketches]) -> BloomSketches:
    """The sketches of all parts, one after the other, as one struct."""
    firsts = ordering.offsets_of(np.array([len(part) for part in parts])).tolist()
    return BloomSketches(
        offsets=ordering.offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
        hashes=np.concatenate([part.hashes for part in parts]),
        full_groups=np.concatenate([part.full_groups + first for part, first in zip(parts, firsts, strict=False)]),
        filters=tuple(bits for part in parts for bits in part.filters),
    )


def _form(groups: npt.NDArray[Any], n_groups: int, hashes: Hashes, filters: dict[int, Bloom]) -> BloomSketches:
    """Sketches of hashes [row] by group [row], where some groups already have a filter, which is filled further."""
    ordered, offsets = ordering.sort_within(hashes, groups, n_groups)
    starts = ordering.run_starts(ordered, offsets)
    distinct, offsets = ordered[starts], ordering.regroup(starts, offsets)
    sizes = np.diff(offsets)
    full = sizes > SPARSE_LIMIT
    full[list(filters)] = True
    full_groups = np.flatnonzero(full)
    for group in full_groups.tolist():
        bits = filters.setdefault(group, _new_filter())
        bits.update(distinct[offsets[group] : offsets[group + 1]].tolist())
    in_filter = np.repeat(full, sizes)
    sizes[full] = 0
    chosen = tuple(filters[group] for group in full_groups.tolist())
    return BloomSketches(ordering.offsets_of(sizes), distinct[~in_filter], full_groups, chosen)


def estimate(sketches: BloomSketches) -> Integers:
    """Distinct hashes of each group: exact where sparse, else rbloom's estimate from the share of bits that are set.

    -m / k ln(1 - X / m) for X of m bits, k = 1 (Whang, Vander-Zanden and Taylor, A linear-time probabilistic counting
    algorithm, 1990). A filter without an unset bit, from some 1.7 million on, counts as if it had one.
    """
    counts = np.diff(sketches.offsets)
    ceiling = BITS * np.log(BITS)
    found = [min(bits.approx_items, ceiling) for bits in sketches.filters]
    counts[sketches.full_groups] = np.rint(np.array(found, np.float64)).astype(np.int64)
    return counts


def encode(sketches: BloomSketches) -> pl.Series:
    """States as a Binary series [group]; NULL for a group without visitors. The layout is in docs/sketches.md."""
    sizes = np.diff(sketches.offsets)
    full = np.zeros(len(sketches), np.bool_)
    full[sketches.full_groups] = True
    present = full | (sizes > 0)
    kept = np.flatnonzero(present)
    headers = KIND.new_headers(kept.size)
    headers["flags"] = full[kept] * _FILTER_FLAG
    headers["entries"] = np.where(full[kept], BITS, sizes[kept])
    buffer, offsets = framing.allocate(KIND, headers)
    begins = offsets[:-1] + KIND.header.itemsize
    sparse = ~full[kept]
    framing.put(buffer, begins[sparse], _HASH_BYTES * sizes[kept][sparse], sketches.hashes.astype("<u8"))
    for begin, bits in zip(begins[full[kept]].tolist(), sketches.filters, strict=True):
        buffer[begin : begin + BITS // 8] = np.frombuffer(bits.save_bytes(), np.uint8)[_RBLOOM_HEADER:]
    return framing.seal(buffer, offsets, present)


def decode_readable(states: pl.Series) -> tuple[BloomSketches, tuple[framing.Damaged, ...]]:
    """Sketches [row] of a Binary series, empty where NULL or damaged, and the damaged rows with their reasons."""
    frames = framing.open_states(states, KIND)
    full = frames.headers["flags"] == _FILTER_FLAG
    sizes = np.where(full, 0, frames.headers["entries"]).astype(np.int64)
    hashes = framing.take(frames.buffer, frames.bodies, _HASH_BYTES * sizes).view("<u8").astype(np.uint64)
    prefix = _FUNCTIONS.to_bytes(_RBLOOM_HEADER, "little")
    filters = tuple(
        Bloom.load_bytes(prefix + frames.buffer[begin : begin + BITS // 8].tobytes(), spread)
        for begin in frames.bodies[full].tolist()
    )
    offsets = ordering.offsets_of(frames.by_row(sizes, 0))
    return BloomSketches(offsets, hashes, frames.rows[full], filters), frames.damaged
