"""Which way an archive goes to S3: one streamed put, or a multipart upload; decided by its estimated size. Pure."""

import dataclasses
import enum
import math
from typing import Final

MIB: Final = 1024 * 1024
MIN_PART_BYTES: Final = 5 * MIB
"""S3's floor for every part but the last."""
MAX_PARTS: Final = 10_000
"""S3's limit of parts in one upload."""
DEFAULT_PART_BYTES: Final = 8 * MIB
ESTIMATE_MARGIN: Final = 16
"""How far the estimate may be off before 10,000 parts don't suffice; a part's memory is the price."""


class Strategy(enum.StrEnum):
    """The two ways to publish an archive object."""

    SINGLE_PUT = "single_put"
    MULTIPART = "multipart"


@dataclasses.dataclass(frozen=True)
class SizeRule:
    """The estimate's settings: JSONL bytes a row, gzip's share of them, and the MiB from which it is multipart."""

    row_bytes: float = 150.0
    gzip_ratio: float = 0.25
    multipart_mb: float = 100.0

    def estimated_gzip_mb(self, rows: int) -> float:
        """Estimated size of the object in MiB: `rows * row_bytes * gzip_ratio / 1024**2`."""
        return rows * self.row_bytes * self.gzip_ratio / MIB

    def strategy(self, rows: int) -> Strategy:
        """A single put below the threshold, a multipart upload from it on."""
        return Strategy.MULTIPART if self.estimated_gzip_mb(rows) >= self.multipart_mb else Strategy.SINGLE_PUT

    def part_bytes(self, rows: int) -> int:
        """Size of every part but the last: at least S3's floor, and large enough that 10,000 parts suffice."""
        needed = math.ceil(self.estimated_gzip_mb(rows) * MIB * ESTIMATE_MARGIN / MAX_PARTS)
        return max(DEFAULT_PART_BYTES, math.ceil(needed / MIB) * MIB)
