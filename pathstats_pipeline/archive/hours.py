"""Where an hour stands within an archive object: a range of its bytes that can be fetched and decoded alone. Pure."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pathstats_pipeline.archive.jsonl import Digest


@dataclasses.dataclass(frozen=True)
class HourSpan:
    """The lines of one hour: a range of the object that is raw deflate, what it decodes to, and its digest."""

    hour: int
    offset: int
    size_bytes: int
    raw_bytes: int
    digest: Digest

    def to_document(self) -> dict[str, Any]:
        """For a JSON document, without the hour, which is its key there."""
        return {
            "offset": self.offset,
            "bytes": self.size_bytes,
            "rows": self.digest.rows,
            "raw_bytes": self.raw_bytes,
            "digest": self.digest.hex,
        }

    @classmethod
    def from_document(cls, hour: str, document: Mapping[str, Any]) -> Self:
        """What `to_document` wrote; raises KeyError, TypeError or ValueError for anything else."""
        offset, size_bytes, rows, raw_bytes = (document[name] for name in ("offset", "bytes", "rows", "raw_bytes"))
        if any(type(value) is not int or value < 0 for value in (offset, size_bytes, rows, raw_bytes)):
            raise ValueError(f"hour {hour} is {dict(document)}")
        if hour not in _NAMES:
            raise ValueError(f"hour {hour}")
        return cls(int(hour), offset, size_bytes, raw_bytes, Digest.parse(rows, document["digest"]))


_NAMES = frozenset(f"{hour:02d}" for hour in range(24))


def to_document(spans: Iterable[HourSpan]) -> dict[str, Any]:
    """The hours as a JSON object, by `HH`."""
    return {f"{span.hour:02d}": span.to_document() for span in spans}


def from_document(document: Mapping[str, Any]) -> tuple[HourSpan, ...]:
    """What `to_document` wrote."""
    return tuple(HourSpan.from_document(hour, span) for hour, span in sorted(document.items()))


def covers(spans: Iterable[HourSpan], digest: Digest, size_bytes: int) -> bool:
    """Whether these hours are all the rows of an object, one after another within its bytes."""
    end, total = 0, Digest()
    for span in spans:
        if span.offset < end:
            return False
        end, total = span.offset + span.size_bytes, total + span.digest
    return end <= size_bytes and total == digest
