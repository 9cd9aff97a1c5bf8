"""Visitor sketches: HyperLogLog of all groups at once, as arrays. Every count of distinct clients comes from here.

A visitor is a 64-bit hash of a client address. While a group has few distinct hashes the sketch is their sorted list
and its count is exact; above that it is 2^14 registers. The form depends on the set of hashes alone, so merging is
commutative, associative and idempotent down to the bytes. No frame columns, no hours in this room; bytes are framed
by framing.py. A change of a constant or of the hash here changes the bytes of states: see docs/sketches.md first.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401 - registers the nchash namespace
import xxhash

from pathstats_pipeline.stats import framing, ordering

if TYPE_CHECKING:
    from datasketch import HyperLogLogPlusPlus

PRECISION: Final = 14
REGISTERS: Final = 1 << PRECISION
SPARSE_LIMIT: Final = 1_536
"""Up to this many distinct hashes a group keeps them all: 8 bytes each, no more than the 12,288 bytes of registers."""

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Registers = npt.NDArray[np.uint8]

_HASH_BITS: Final = 64
_RANK_BITS: Final = _HASH_BITS - PRECISION
_CHUNK_GROUPS: Final = 512
_PACKED_BYTES: Final = REGISTERS * 6 // 8
_DENSE_FLAG: Final = 1
_PROBE: Final = b"pathstats"


def _body_bytes(headers: npt.NDArray[np.void]) -> Integers:
    entries = headers["entries"].astype(np.int64)
    packed = np.where(entries == REGISTERS, _PACKED_BYTES, -1)
    return np.where(headers["flags"] == _DENSE_FLAG, packed, 8 * entries)


KIND: Final = framing.Kind(
    name="visitor",
    magic=b"PSHL",
    version=1,
    header=np.dtype([("magic", "S4"), ("version", "u1"), ("flags", "u1"), ("precision", "<u2"), ("entries", "<u4")]),
    flags=(0, _DENSE_FLAG),
    body_bytes=_body_bytes,
    parameter=("precision", PRECISION),
)


@dataclasses.dataclass(frozen=True, eq=False)
class VisitorSketches:
    """The sketches of n groups, as one struct of arrays.

    `offsets` [n + 1] says which of the `hashes`, ascending within a group, are whose. The groups named in
    `dense_groups` (ascending) have no hashes but a row of `registers` [dense group, 16384].
    """

    offsets: Integers
    hashes: Hashes
    dense_groups: Integers
    registers: Registers

    def __len__(self) -> int:
        return self.offsets.size - 1


def hash_clients(addresses: pl.Series) -> pl.Series:
    """UInt64 xxh3_64 (seed 0) of the UTF-8 bytes of each address; NULL stays NULL. Pinned by test vectors."""
    return addresses.to_frame("address").select(pl.col("address").nchash.xxh3_64()).to_series()  # type: ignore[attr-defined]


def hash_client(address: bytes) -> int:
    """Hash of one address: the `hashfunc` of a datasketch object that is to be exchanged with us."""
    return xxhash.xxh3_64_intdigest(address, seed=0)


def build(groups: npt.NDArray[Any], n_groups: int, hashes: Hashes) -> VisitorSketches:
    """Sketch the hashes [row] of each group [row] (0 to n_groups - 1), in any order, any number of times each."""
    order, offsets = ordering.partition(groups, n_groups)
    return build_grouped(hashes.copy() if order is None else hashes[order], offsets)


def build_grouped(hashes: Hashes, offsets: Integers) -> VisitorSketches:
    """Sketch hashes [row] that stand by group, from the group's offset on. Sorts them in place."""
    ordering.sort_segments(hashes, offsets)
    return _form(hashes, offsets, np.empty(0, np.int64), np.empty((0, REGISTERS), np.uint8))


def merge(sketches: VisitorSketches, groups: npt.NDArray[Any], n_groups: int) -> VisitorSketches:
    """Merge sketch i into output group `groups[i]`; a group may have any number of sketches.

    Equal to the sketch of all hashes together, whatever the order, the split and the number of rounds.
    """
    of_hash = np.repeat(groups, np.diff(sketches.offsets))
    of_dense = groups[sketches.dense_groups]
    order = np.argsort(of_dense, kind="stable")
    dense, starts = np.unique(of_dense[order], return_index=True)
    registers = np.empty((dense.size, REGISTERS), np.uint8)
    for row, (begin, end) in enumerate(zip(starts.tolist(), [*starts[1:].tolist(), order.size], strict=False)):
        np.max(sketches.registers[order[begin:end]], axis=0, out=registers[row])
    ordered, offsets = ordering.sort_within(sketches.hashes, of_hash, n_groups)
    return _form(ordered, offsets, dense.astype(np.int64), registers)


def concatenate(parts: Sequence[VisitorSketches]) -> VisitorSketches:
    """The sketches of all parts, one after the other, as one struct."""
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    firsts = ordering.offsets_of(np.array([len(part) for part in parts]))
    return VisitorSketches(
        offsets=ordering.offsets_of(sizes),
        hashes=np.concatenate([part.hashes for part in parts]),
        dense_groups=np.concatenate(
            [part.dense_groups + first for part, first in zip(parts, firsts.tolist(), strict=False)]
        ),
        registers=np.concatenate([part.registers for part in parts]),
    )


def _form(ordered: Hashes, offsets: Integers, given: Integers, registers: Registers) -> VisitorSketches:
    """Sketches of hashes [row] sorted within their groups, where the groups in `given` already have registers."""
    starts = ordering.run_starts(ordered, offsets)
    distinct, offsets = ordered[starts], ordering.regroup(starts, offsets)
    sizes = np.diff(offsets)
    dense = sizes > SPARSE_LIMIT
    dense[given] = True
    if not bool(dense.any()):
        return VisitorSketches(offsets, distinct, given, registers)
    in_dense = np.repeat(dense, sizes)
    filled = _fill_registers(distinct[in_dense], ordering.offsets_of(sizes[dense]))
    dense_groups = np.flatnonzero(dense)
    rows = np.searchsorted(dense_groups, given)
    for row, known in zip(rows.tolist(), registers, strict=True):
        np.maximum(filled[row], known, out=filled[row])
    sizes[dense] = 0
    return VisitorSketches(ordering.offsets_of(sizes), distinct[~in_dense], dense_groups, filled)


def _fill_registers(hashes: Hashes, offsets: Integers) -> Registers:
    """Registers [group, 16384] of consecutive groups of hashes, a chunk of groups at a time."""
    n_groups = offsets.size - 1
    registers = np.zeros((n_groups, REGISTERS), np.uint8)
    for first in range(0, n_groups, _CHUNK_GROUPS):
        last = min(first + _CHUNK_GROUPS, n_groups)
        part = hashes[offsets[first] : offsets[last]]
        row = np.repeat(np.arange(first, last), np.diff(offsets[first : last + 1]))
        place = (row << PRECISION) | (part & np.uint64(REGISTERS - 1)).astype(np.int64)
        np.maximum.at(registers.reshape(-1), place, _rank(part))
    return registers


def _rank(hashes: Hashes) -> Registers:
    """Rank as datasketch counts it, 1 to 51: one more than the leading zeros of the upper 50 bits."""
    rest = (hashes >> np.uint64(PRECISION)).astype(np.float64)
    # A double's exponent is the bit length of a whole number below 2^53; frexp gives 0 for 0.
    return (_RANK_BITS + 1 - np.frexp(rest)[1]).astype(np.uint8)


def estimate(sketches: VisitorSketches) -> Integers:
    """Distinct hashes of each group: exact where sparse, else Ertl's improved estimator, rounded.

    Algorithm 6 of O. Ertl, New cardinality estimation algorithms for HyperLogLog sketches, arXiv:1702.01284. Its
    relative standard error is 1.04 / sqrt(16384) = 0.81 %.
    """
    counts = np.diff(sketches.offsets)
    counts[sketches.dense_groups] = np.rint(_ertl(_histograms(sketches.registers))).astype(np.int64)
    return counts


def _histograms(registers: Registers) -> Integers:
    """How many registers of each group hold each value: [group, 0 to 51]."""
    levels = _RANK_BITS + 2
    histograms = np.empty((registers.shape[0], levels), np.int64)
    for first in range(0, registers.shape[0], _CHUNK_GROUPS):
        part = registers[first : first + _CHUNK_GROUPS]
        codes = np.arange(part.shape[0])[:, None] * levels + part
        counted = np.bincount(codes.reshape(-1), minlength=part.shape[0] * levels)
        histograms[first : first + part.shape[0]] = counted.reshape(-1, levels)
    return histograms


def _ertl(histograms: Integers) -> npt.NDArray[np.float64]:
    m = float(REGISTERS)
    z = m * _tau(1 - histograms[:, _RANK_BITS + 1] / m)
    for level in range(_RANK_BITS, 0, -1):
        z = 0.5 * (z + histograms[:, level])
    z = z + m * _sigma(histograms[:, 0] / m)
    return np.divide(m * m / (2 * math.log(2)), z, out=np.zeros_like(z), where=z > 0)


def _sigma(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum x + sum over k of x^(2^k) 2^(k-1); infinite at 1, where no register was ever touched."""
    total, factor = x.copy(), 1.0
    power = np.where(x < 1, x, 0.0)
    while bool(np.any(power > 0)):
        power = power * power
        total = total + power * factor
        factor *= 2
    return np.where(x < 1, total, np.inf)


def _tau(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(1 - x - sum over k of (1 - x^(2^-k))^2 2^-k) / 3; 0 at 0 and 1."""
    inside = (x > 0) & (x < 1)
    root = np.where(inside, x, 0.25)
    total, factor = 1 - root, 1.0
    while True:
        root = np.sqrt(root)
        factor *= 0.5
        step = (1 - root) ** 2 * factor
        if bool(np.all(total - step == total)):
            return np.where(inside, total / 3, 0.0)
        total = total - step


def encode(sketches: VisitorSketches) -> pl.Series:
    """States as a Binary series [group]; NULL for a group without visitors. The layout is in docs/sketches.md."""
    sizes = np.diff(sketches.offsets)
    dense = np.zeros(len(sketches), np.bool_)
    dense[sketches.dense_groups] = True
    present = dense | (sizes > 0)
    kept = np.flatnonzero(present)
    headers = KIND.new_headers(kept.size)
    headers["flags"] = dense[kept] * _DENSE_FLAG
    headers["entries"] = np.where(dense[kept], REGISTERS, sizes[kept])
    buffer, offsets = framing.allocate(KIND, headers)
    begins = offsets[:-1] + KIND.header.itemsize
    framing.put(buffer, begins[~dense[kept]], 8 * sizes[kept][~dense[kept]], sketches.hashes.astype("<u8"))
    begins = begins[dense[kept]]
    for first in range(0, begins.size, _CHUNK_GROUPS):
        window = begins[first : first + _CHUNK_GROUPS, None] + np.arange(_PACKED_BYTES)
        buffer[window] = _pack(sketches.registers[first : first + _CHUNK_GROUPS])
    return framing.seal(buffer, offsets, present)


def _pack(registers: Registers) -> npt.NDArray[np.uint8]:
    """Registers [group, 16384] in 6 bits each, least significant first: four registers in three bytes."""
    four = registers.reshape(registers.shape[0], -1, 4).astype(np.uint32)
    word = four[..., 0] | four[..., 1] << 6 | four[..., 2] << 12 | four[..., 3] << 18
    return np.ascontiguousarray(word.astype("<u4")[..., None].view(np.uint8)[..., :3]).reshape(-1, _PACKED_BYTES)


def _unpack(packed: npt.NDArray[np.uint8]) -> Registers:
    three = packed.reshape(packed.shape[0], -1, 3).astype(np.uint32)
    word = three[..., 0] | three[..., 1] << 8 | three[..., 2] << 16
    return np.stack([word >> shift & 0x3F for shift in (0, 6, 12, 18)], axis=-1).astype(np.uint8).reshape(-1, REGISTERS)


def decode(states: pl.Series) -> VisitorSketches:
    """Sketches [row] of a Binary series; NULL is the empty sketch. Raises DamagedStatesError naming the row."""
    sketches, damaged = decode_readable(states)
    framing.refuse(KIND, damaged)
    return sketches


def decode_readable(states: pl.Series) -> tuple[VisitorSketches, tuple[framing.Damaged, ...]]:
    """Sketches [row] of a Binary series, empty where NULL or damaged, and the damaged rows with their reasons."""
    frames = framing.open_states(states, KIND)
    dense = frames.headers["flags"] == _DENSE_FLAG
    sizes = np.where(dense, 0, frames.headers["entries"]).astype(np.int64)
    hashes = framing.take(frames.buffer, frames.bodies, 8 * sizes).view("<u8").astype(np.uint64)
    begins = frames.bodies[dense]
    registers = np.empty((begins.size, REGISTERS), np.uint8)
    for first in range(0, begins.size, _CHUNK_GROUPS):
        window = begins[first : first + _CHUNK_GROUPS, None] + np.arange(_PACKED_BYTES)
        registers[first : first + _CHUNK_GROUPS] = _unpack(frames.buffer[window])
    offsets = ordering.offsets_of(frames.by_row(sizes, 0))
    return VisitorSketches(offsets, hashes, frames.rows[dense], registers), frames.damaged


def to_datasketch(state: bytes) -> "HyperLogLogPlusPlus":
    """`datasketch.HyperLogLogPlusPlus` (p = 14) with the registers of one state. Raises DamagedStatesError."""
    from datasketch import HyperLogLogPlusPlus  # noqa: PLC0415 - brings SciPy, a quarter of every command's start

    sketches = decode(pl.Series([state], dtype=pl.Binary))
    registers = sketches.registers
    if sketches.dense_groups.size == 0:
        registers = _fill_registers(sketches.hashes, sketches.offsets)
    return HyperLogLogPlusPlus(reg=registers[0].astype(np.int8), hashfunc=hash_client)


def from_datasketch(sketch: "HyperLogLogPlusPlus") -> bytes:
    """State of a `datasketch.HyperLogLogPlusPlus`: always registers, since it keeps no hashes.

    Raises ValueError unless p is 14 and its `hashfunc` hashes as `hash_client` does: registers of another hash merge
    without an error into a wrong count. (datasketch forgets the function when pickled: set it again.)
    """
    if sketch.p != PRECISION:
        raise ValueError(f"p must be {PRECISION}, got {sketch.p}")
    if sketch.hashfunc(_PROBE) != hash_client(_PROBE):
        raise ValueError("hashfunc must be xxh3_64 with seed 0 (pathstats_pipeline.stats.visitors.hash_client)")
    registers = np.asarray(sketch.reg).reshape(1, REGISTERS)
    if int(registers.min()) < 0 or int(registers.max()) > _RANK_BITS + 1:
        raise ValueError(f"registers must be 0 to {_RANK_BITS + 1}")
    registers = registers.astype(np.uint8)
    dense = VisitorSketches(np.zeros(2, np.int64), np.empty(0, np.uint64), np.zeros(1, np.int64), registers)
    return bytes(encode(dense)[0])
