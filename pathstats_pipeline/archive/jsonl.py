r"""Events as JSON lines, the form of the archive, and the order-free digest over them.

The columns and their order come from the event schema. One row is one line of strict JSON ending in `\n`; the same
row gives the same bytes. Reading the lines back is the canonical log format's work (events/formats).
"""

import dataclasses
import struct
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh
import pyarrow as pa

from pathstats_pipeline.events.schema import EVENT_COLUMNS, TIME

_DIGEST_BITS: Final = 128
_NEWLINE: Final = 10
_VIEW: Final = struct.Struct("<i4xii")
"""Length, the first four bytes, number of the buffer, offset in it; up to 12 bytes stand in the view itself."""
_INLINE_BYTES: Final = 12


@dataclasses.dataclass(frozen=True)
class Digest:
    r"""Order-free digest of a multiset of lines: their count, and a sum modulo 2**128.

    The sum runs over the XXH3 (128 bits, no seed) of each line, taken without its `\n`. Digests add: the digest of a
    union is the sum of the digests, whatever the order and the batching; a line that is missing, doubled or changed
    changes it. It finds what breaks by itself, not what somebody forges (docs/decisions/0003).
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: Self) -> "Digest":
        """The digest of both multisets together."""
        return Digest(self.rows + other.rows, (self.total + other.total) % (1 << _DIGEST_BITS))

    @property
    def hex(self) -> str:
        """The sum as 32 hexadecimal digits; what ledgers and manifests hold beside the row count."""
        return f"{self.total:032x}"

    @classmethod
    def parse(cls, rows: int, digest: str) -> Self:
        """The digest that `hex` wrote."""
        return cls(rows, int(digest, 16))


def to_lines(events: pl.DataFrame) -> pl.Series:
    r"""One JSON object an event, as strings without `\n`, in the order of the rows.

    Times become RFC 3339 with `Z` and microseconds. Floats are written so that they read back to the same float;
    strings are UTF-8 with JSON's mandatory escapes only.
    """
    columns = [
        _rfc3339(events[column.name]) if column.dtype == TIME else events[column.name] for column in EVENT_COLUMNS
    ]
    return pl.select(pl.struct(columns).struct.json_encode().alias("line")).to_series()


_RFC3339: Final = np.dtype([("date", "S11"), ("clock", "S9"), ("milli", "S3"), ("micro", "S3"), ("zone", "S1")])
_CLOCK: Final = np.array([f"{at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}." for at in range(86_400)], "S9")
_THREE: Final = np.array([f"{number:03d}" for number in range(1000)], "S3")


def _rfc3339(times: pl.Series) -> pl.Series:
    """The times as text. Looked up in tables: `strftime` takes twice as long, a fifth of a line's whole time."""
    if times.null_count():
        return times.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    microseconds = times.to_physical().to_numpy()
    seconds = microseconds // 1_000_000
    days = seconds // 86_400
    fraction = (microseconds - seconds * 1_000_000).astype(np.int32)
    milli = fraction // 1000
    texts = np.empty(len(times), _RFC3339)
    texts["date"] = _dates(days)
    texts["clock"] = _CLOCK[seconds - days * 86_400]
    texts["milli"] = _THREE[milli]
    texts["micro"] = _THREE[fraction - milli * 1000]
    texts["zone"] = b"Z"
    borders = np.arange(len(times) + 1, dtype=np.int64) * _RFC3339.itemsize
    array = pa.LargeStringArray.from_buffers(len(times), pa.py_buffer(borders), pa.py_buffer(texts))
    return pl.Series(times.name, pl.from_arrow(array))


def _dates(days: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_]:
    """`YYYY-MM-DDT` of days since 1970, formatted once for each distinct one; years are those of Python's dates."""
    if days.size and days.min() == days.max():
        return np.full(days.size, f"{days[0].astype('M8[D]')}T", "S11")
    distinct, at = np.unique(days, return_inverse=True)
    return np.array([f"{day}T" for day in distinct.astype("M8[D]")], "S11")[at]


def digest_of(lines: pl.Series) -> Digest:
    """The digest of these lines."""
    # Polars' sums of integers wrap: here, modulo 2**128.
    total = lines.to_frame("line").select(plh.col("line").nchash.xxh3_128().sum()).item()
    return Digest(len(lines), total)


def to_bytes(lines: pl.Series) -> bytes:
    r"""The lines as UTF-8, each ending in `\n`; nothing for no lines."""
    return bytes(to_buffer(lines))


def to_buffer(lines: pl.Series) -> memoryview:
    """The same, without a copy."""
    # The empty line at the end gives the last one its line end without another copy of all of them.
    ended = pl.concat([lines, pl.Series(lines.name, [""], pl.String())]) if len(lines) else lines
    return _text_buffer(ended.str.join("\n"))


def from_bytes(data: bytes) -> pl.Series:
    r"""The lines of UTF-8 text, a last one without `\n` among them; raises UnicodeDecodeError for other bytes."""
    if not data.isascii():
        data.decode()
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    # Every other text is what stands between two lines; leaving it out copies nothing.
    borders = np.zeros(2 * ends.size + 1, np.int64)
    borders[1::2], borders[2::2] = ends, np.minimum(ends + 1, len(data))
    texts = pa.LargeStringArray.from_buffers(2 * ends.size, pa.py_buffer(borders), pa.py_buffer(data))
    return pl.Series("line", pl.from_arrow(texts)).gather_every(2)


def _text_buffer(text: pl.Series) -> memoryview:
    """The UTF-8 of a single text, where it lies: Arrow's layout of string views."""
    array = text.to_arrow(compat_level=pl.CompatLevel.newest())
    _, views, *data = array.buffers()
    at = array.offset * _VIEW.size
    length, buffer, start = _VIEW.unpack_from(views, at)
    if length <= _INLINE_BYTES:
        return memoryview(views)[at + 4 : at + 4 + length]
    return memoryview(data[buffer])[start : start + length]
