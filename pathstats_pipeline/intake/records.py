"""The records of what was ingested, read once and kept current: what a file may be the continuation of.

Here: reading the records of the landing zone, writing new ones, and finding those that a file may agree with without
looking at all of them. What agreement means is decided in sources.py. Whoever keeps records over the time that others
may ingest holds the intake's lock while using them, and calls `refresh` once it has it.
"""

import concurrent.futures
import hashlib
from typing import Final

from pathstats_pipeline.intake.readings import Readings
from pathstats_pipeline.intake.sources import SHORT_BYTES, Segment
from pathstats_pipeline.storage.landing import Landing, LandingError

_FOLDER: Final = "_sources/"
_PLANNED: Final = "-planned.json"
_DONE: Final = "-done.json"
_AT_ONCE: Final = 16
"""Requests in flight: on S3 a record is a request, and waiting for each in turn would be the whole time."""
_BATCH: Final = 4_096

Span = tuple[str, int, int]


class SourceRecords:
    """The records of a landing zone, in memory: some 800 bytes for each segment that was ingested."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._read: set[str] = set()
        self._by_head: dict[str, dict[Span, Segment]] = {}
        self._by_path: dict[str, dict[Span, Segment]] = {}
        self._by_inode: dict[int, dict[Span, Segment]] = {}
        self.readings = Readings()

    def refresh(self) -> None:
        """Read the records that were written since by others. A plan that was carried out isn't read."""
        listed = self._landing.objects.list(_FOLDER)
        there = set(listed)
        new = [
            key
            for key in listed
            if key not in self._read and not (key.endswith(_PLANNED) and key.removesuffix(_PLANNED) + _DONE in there)
        ]
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(new), _BATCH):
                batch = new[start : start + _BATCH]
                for key, body in zip(batch, pool.map(self._landing.objects.get, batch), strict=True):
                    if body is not None:
                        self._remember(key, self._segment(key, body))

    def write(self, segment: Segment) -> None:
        """Write a record; it is there when this returns."""
        self._landing.objects.put(segment.key, segment.to_json())
        self._remember(segment.key, segment)

    def alike(self, path: str, inode: int, head: bytes) -> list[Segment]:
        """The segments that may be a beginning of a file, by its first `SHORT_BYTES` bytes, its path and its inode."""
        found = {**self._by_path.get(path, {}), **(self._by_inode.get(inode, {}) if inode else {})}
        if len(head) >= SHORT_BYTES:
            found.update(self._by_head.get(hashlib.sha256(head[:SHORT_BYTES]).hexdigest(), {}))
            found.update(self._by_head.get("", {}))  # of records that were written before there was a head in them
        return list(found.values())

    def _segment(self, key: str, body: bytes) -> Segment:
        try:
            return Segment.from_json(body)
        except (ValueError, KeyError, TypeError) as error:
            raise LandingError(f"{self._landing.objects.uri}/{key}: is no record of the intake") from error

    def _remember(self, key: str, segment: Segment) -> None:
        self._read.add(key)
        span = (segment.source_id, segment.start, segment.end)
        if segment.end >= SHORT_BYTES:
            places = [self._by_head.setdefault(segment.head_sha256, {})]
        else:
            places = [self._by_path.setdefault(segment.path, {})]
            if segment.inode:
                places.append(self._by_inode.setdefault(segment.inode, {}))
        for place in places:
            if segment.done or span not in place:
                place[span] = segment
