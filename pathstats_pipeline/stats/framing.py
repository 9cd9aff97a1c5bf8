"""The byte frame around every sketch state: magic, version, checksum, and whole columns of states at once.

A state is a header, a body and a CRC32 of all before it, little-endian, padded with zeros to a multiple of four
bytes; docs/sketches.md describes it byte by byte. What a body means belongs to the module of its kind, which says in
its `KIND` all that is needed here to write a header and to tell a good one from damage.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from isal import isal_zlib

from pathstats_pipeline.stats import ordering

_WORD: Final = 4
_TRAILER_BYTES: Final = 4

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of state: its name in messages, magic, version, header layout, and what may stand in a header.

    The header's first three fields are `magic` (4 bytes), `version` (u8) and `flags` (u8), one of the known `flags`.
    `body_bytes` gives the bytes of the body that a header announces, before padding, and -1 where it contradicts
    itself. `parameter` is a field that has one value in this release, if there is one.
    """

    name: str
    magic: bytes
    version: int
    header: np.dtype[np.void]
    flags: tuple[int, ...]
    body_bytes: Callable[[npt.NDArray[np.void]], Integers]
    parameter: tuple[str, int] | None = None

    def new_headers(self, n: int) -> npt.NDArray[np.void]:
        """Headers [n] that say what kind they are of; the other fields are zero."""
        headers = np.zeros(n, self.header)
        headers["magic"], headers["version"] = self.magic, self.version
        if self.parameter is not None:
            field, value = self.parameter
            headers[field] = value
        return headers

    def state_bytes(self, headers: npt.NDArray[np.void]) -> Integers:
        """Bytes of the whole states with these headers; 0 where a header contradicts itself."""
        body = self.body_bytes(headers)
        return np.where(body < 0, 0, self.header.itemsize + -(-body // _WORD) * _WORD + _TRAILER_BYTES)


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A state that can't be read: its row in the series, and why."""

    row: int
    reason: str


class DamagedStatesError(ValueError):
    """Some states of a series can't be read; `damaged` lists them."""

    def __init__(self, kind: Kind, damaged: Sequence[Damaged]) -> None:
        """Name the first damaged row, and how many more there are."""
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        super().__init__(f"{kind.name} state in row {damaged[0].row}: {damaged[0].reason}{more}")
        self.damaged = tuple(damaged)


def refuse(kind: Kind, damaged: Sequence[Damaged]) -> None:
    """Raise DamagedStatesError if there are any."""
    if damaged:
        raise DamagedStatesError(kind, damaged)


@dataclasses.dataclass(frozen=True)
class Frames:
    """The readable states of a series of `n_rows`: their rows, their headers, and where in `buffer` each begins."""

    n_rows: int
    buffer: Bytes
    rows: Integers
    headers: npt.NDArray[np.void]
    starts: Integers
    lengths: Integers
    damaged: tuple[Damaged, ...]

    @property
    def bodies(self) -> Integers:
        """Where in `buffer` the body of each state begins."""
        return self.starts + self.headers.dtype.itemsize

    def by_row(self, found: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """What was found in each state [frame] as a column [row], of the type of `fill`, which the other rows have."""
        column = np.full(self.n_rows, fill)
        column[self.rows] = found
        return column

    def reject(self, reasons: Sequence[str | None]) -> "Frames":
        """Frames without those that have a reason [frame]; they join `damaged`."""
        if not any(reasons):
            return self
        keep = np.array([reason is None for reason in reasons], np.bool_)
        more = [
            Damaged(row, reason) for row, reason in zip(self.rows.tolist(), reasons, strict=True) if reason is not None
        ]
        return dataclasses.replace(
            self,
            rows=self.rows[keep],
            headers=self.headers[keep],
            starts=self.starts[keep],
            lengths=self.lengths[keep],
            damaged=tuple(sorted([*self.damaged, *more], key=lambda each: each.row)),
        )


def open_states(states: pl.Series, kind: Kind) -> Frames:
    """Check checksum and header of each state of a Binary series; NULL rows are neither read nor damaged."""
    buffer, offsets = _contiguous(states)
    lengths = np.diff(offsets)
    rows = np.flatnonzero(states.is_not_null().to_numpy())
    long_enough = lengths[rows] >= kind.header.itemsize + _TRAILER_BYTES
    short = [Damaged(row, f"only {int(lengths[row])} bytes") for row in rows[~long_enough].tolist()]
    rows = rows[long_enough]
    starts = offsets[:-1][rows]
    window = starts[:, None] + np.arange(kind.header.itemsize)
    headers = np.ascontiguousarray(buffer[window]).view(kind.header).reshape(-1)
    frames = Frames(len(states), buffer, rows, headers, starts, lengths[rows], tuple(short))
    sound = frames.reject(_frame_reasons(frames, kind))
    return sound.reject(_header_reasons(sound, kind))


def _header_reasons(frames: Frames, kind: Kind) -> list[str | None]:
    """Why headers with a good checksum can't be read: another release's parameter, or a forgery."""
    headers = frames.headers
    reasons = np.full(headers.size, None, np.object_)
    reasons[kind.state_bytes(headers) != frames.lengths] = "its length does not fit its header"
    reasons[~np.isin(headers["flags"], kind.flags)] = "its flags are unknown"
    if kind.parameter is not None:
        field, known = kind.parameter
        for at in np.flatnonzero(headers[field] != known).tolist():
            reasons[at] = f"its {field} is {headers[field][at]}, this release reads {known}"
    found: list[str | None] = reasons.tolist()
    return found


def _frame_reasons(frames: Frames, kind: Kind) -> list[str | None]:
    view = frames.buffer.data
    ends = frames.starts + frames.lengths
    stored = frames.buffer[ends[:, None] + np.arange(-_TRAILER_BYTES, 0)].copy().view("<u4").reshape(-1)
    reasons: list[str | None] = []
    for magic, version, begin, end, checksum in zip(
        frames.headers["magic"].tolist(),
        frames.headers["version"].tolist(),
        frames.starts.tolist(),
        ends.tolist(),
        stored.tolist(),
        strict=True,
    ):
        if magic != kind.magic:
            reasons.append(f"no {kind.name} state: it begins with {magic!r}, not {kind.magic!r}")
        elif version != kind.version:
            reasons.append(f"version {version} is unknown, this release reads {kind.version}")
        elif isal_zlib.crc32(view[begin : end - _TRAILER_BYTES]) != checksum:
            reasons.append("damaged: the checksum does not match")
        else:
            reasons.append(None)
    return reasons


def _contiguous(states: pl.Series) -> tuple[Bytes, Integers]:
    array = states.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    if not pa.types.is_large_binary(array.type):
        array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    borders = np.zeros(1, np.int64)
    if len(array):
        borders = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data if data is not None else b"", np.uint8), borders


def allocate(kind: Kind, headers: npt.NDArray[np.void]) -> tuple[Bytes, Integers]:
    """Zeroed room for whole states with their headers written, and the offset of each [state + 1]."""
    offsets = ordering.offsets_of(kind.state_bytes(headers))
    buffer = np.zeros(int(offsets[-1]), np.uint8)
    window = offsets[:-1, None] + np.arange(kind.header.itemsize)
    buffer[window] = headers.view(np.uint8).reshape(headers.size, kind.header.itemsize)
    return buffer, offsets


def put(buffer: Bytes, starts: Integers, lengths: Integers, data: npt.NDArray[Any]) -> None:
    """Write consecutive pieces of `data` to ascending, disjoint places of the buffer; all in bytes."""
    unit, mask = _places(buffer.size, starts, lengths)
    buffer[: buffer.size - buffer.size % unit].view(f"V{unit}")[mask] = data.view(np.uint8).view(f"V{unit}")


def take(buffer: Bytes, starts: Integers, lengths: Integers) -> Bytes:
    """Gather the bytes at ascending, disjoint places of the buffer into one array: the inverse of `put`."""
    unit, mask = _places(buffer.size, starts, lengths)
    return buffer[: buffer.size - buffer.size % unit].view(f"V{unit}")[mask].view(np.uint8)


def _places(size: int, starts: Integers, lengths: Integers) -> tuple[int, npt.NDArray[np.bool_]]:
    filled = lengths > 0
    starts, lengths = starts[filled], lengths[filled]
    # A damaged neighbour of odd length can shift the good states off the word borders.
    whole_words = not bool((starts % _WORD).any()) and not bool((lengths % _WORD).any())
    unit = _WORD if whole_words else 1
    steps = np.zeros(size // unit + 1, np.int8)
    steps[starts // unit] += 1
    steps[(starts + lengths) // unit] -= 1
    return unit, np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)


def seal(buffer: Bytes, offsets: Integers, present: npt.NDArray[np.bool_]) -> pl.Series:
    """Write the checksums and return a Binary series: the states in order where `present` [row], NULL elsewhere."""
    view = buffer.data
    ends = offsets[1:] - _TRAILER_BYTES
    borders = zip(offsets[:-1].tolist(), ends.tolist(), strict=True)
    checksums = np.array([isal_zlib.crc32(view[begin:end]) for begin, end in borders], "<u4")
    buffer[ends[:, None] + np.arange(_TRAILER_BYTES)] = checksums.view(np.uint8).reshape(-1, _TRAILER_BYTES)
    sizes = np.zeros(present.size, np.int64)
    sizes[present] = np.diff(offsets)
    validity = np.packbits(present, bitorder="little")
    parts = [pa.py_buffer(validity), pa.py_buffer(ordering.offsets_of(sizes)), pa.py_buffer(buffer)]
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), present.size, parts)
    return pl.Series(pl.from_arrow(array), dtype=pl.Binary)
