r"""Events as JSON lines, the form of the archive, and the order-free digest over them.

The columns and their order come from the event schema. One row is one line of strict JSON ending in `\n`; the same
row gives the same bytes. Reading the lines back is the canonical log format's work (events/formats).
"""

import dataclasses
import re
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh
import pyarrow as pa

from pathstats_pipeline.events.schema import EVENT_COLUMNS, TIME

_DIGEST_BITS: Final = 128
_NEWLINE: Final = 10
_BACKSLASH: Final = 92
_ESCAPE: Final = re.compile(rb"\\(?:u00..|.)", re.DOTALL)
"""An escape as a whole: a backslash that is escaped itself begins none."""
_VIEW: Final = np.dtype([("length", "<u4"), ("prefix", "V4"), ("buffer", "<u4"), ("offset", "<u4")])
"""Arrow's view of a string; DuckDB and Polars use the sign's bit, too."""


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
    return "".join(f"{line}\n" for line in lines).encode()


def split_text(ended: pa.StringViewArray) -> tuple[pl.Series, memoryview]:
    r"""Lines with their `\n` as DuckDB makes them: each without it, and the text of all of them, one after another.

    Nothing is copied but Arrow's views of them, a twentieth of the text. Escapes, of which DuckDB writes the digits in
    upper case, are as `to_lines` writes them.
    """
    # A line is longer than what a view could hold itself, so that all of them stand in one buffer, in their order.
    _, views, data = ended.buffers()
    lines = np.frombuffer(views, _VIEW, len(ended), ended.offset * _VIEW.itemsize).copy()
    start, size = int(lines["offset"][0]), int(lines["length"].sum(dtype=np.int64))
    if int(lines["offset"][-1]) + int(lines["length"][-1]) != start + size:
        raise ValueError("the lines don't stand one after another")
    text = np.frombuffer(data, np.uint8, size, start)
    if (text == _BACKSLASH).any() and b"\\u00" in (copy := text.tobytes()):
        text = np.frombuffer(_ESCAPE.sub(_in_lower_case, copy), np.uint8)
    lines["length"] -= 1
    lines["offset"] -= start
    array = pa.Array.from_buffers(pa.string_view(), len(lines), [None, pa.py_buffer(lines), pa.py_buffer(text)])
    return pl.Series("line", pl.from_arrow(array)), text.data


def _in_lower_case(escape: re.Match[bytes]) -> bytes:
    return escape[0].lower() if escape[0].startswith(b"\\u") else escape[0]


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
