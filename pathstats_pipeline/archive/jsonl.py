r"""Events as JSON lines, the form of the archive, and the order-free digest over them.

The columns and their order come from the event schema. One row is one line of strict JSON ending in `\n`; the same
row gives the same bytes. Reading the lines back is the canonical log format's work (events/formats).
"""

import dataclasses
from typing import Final, Self

import numpy as np
import polars as pl
import polars_hash as plh

from pathstats_pipeline.events.schema import EVENT_COLUMNS, TIME

_LANE_BITS: Final = 64
_LANE_HEX: Final = 16
_MASK: Final = (1 << _LANE_BITS) - 1


@dataclasses.dataclass(frozen=True)
class Digest:
    r"""Order-free digest of a multiset of lines: their count, and two sums modulo 2**64.

    The sums run over the first and the second eight bytes (big-endian) of each line's SHA-256, the line taken without
    its `\n`. Digests add: the digest of a union is the sum of the digests, whatever the order and the batching; a
    line that is missing, doubled or changed changes it.
    """

    rows: int = 0
    low: int = 0
    high: int = 0

    def __add__(self, other: Self) -> "Digest":
        """The digest of both multisets together."""
        return Digest(self.rows + other.rows, (self.low + other.low) & _MASK, (self.high + other.high) & _MASK)

    @property
    def hex(self) -> str:
        """Both sums as 32 hexadecimal digits; what ledgers and manifests hold beside the row count."""
        return f"{self.low:016x}{self.high:016x}"

    @classmethod
    def parse(cls, rows: int, digest: str) -> Self:
        """The digest that `hex` wrote."""
        return cls(rows, int(digest[:_LANE_HEX], 16), int(digest[_LANE_HEX:], 16))


def to_lines(events: pl.DataFrame) -> pl.Series:
    r"""One JSON object an event, as strings without `\n`, in the order of the rows.

    Times become RFC 3339 with `Z` and microseconds. Floats are written so that they read back to the same float;
    strings are UTF-8 with JSON's mandatory escapes only.
    """
    columns = [
        pl.col(column.name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ") if column.dtype == TIME else pl.col(column.name)
        for column in EVENT_COLUMNS
    ]
    return events.select(pl.struct(columns).struct.json_encode().alias("line")).to_series()


def digest_of(lines: pl.Series) -> Digest:
    """The digest of these lines."""
    sha = plh.col("line").chash.sha2_256()
    lanes = pl.DataFrame({"line": lines}).select(
        sha.str.slice(0, _LANE_HEX).str.to_integer(base=16, dtype=pl.UInt64).alias("low"),
        sha.str.slice(_LANE_HEX, _LANE_HEX).str.to_integer(base=16, dtype=pl.UInt64).alias("high"),
    )
    # NumPy's unsigned sum wraps modulo 2**64, which is what the digest is defined by.
    low, high = (int(np.sum(lanes[lane].to_numpy(), dtype=np.uint64)) for lane in ("low", "high"))
    return Digest(len(lines), low, high)


def to_bytes(lines: pl.Series) -> bytes:
    r"""The lines as UTF-8, each ending in `\n`; nothing for no lines."""
    return (lines.str.join("\n").item() + "\n").encode() if len(lines) else b""
