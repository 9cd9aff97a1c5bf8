"""A generation's events to its object: JSON lines, one gzip member, up to S3 as they come.

Nothing here decides what is published, or reads it back: that is day.py's.
"""

import dataclasses
import datetime as dt
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Self, TypeAlias

import pyarrow as pa

from pathstats_pipeline.archive import ahead, gzipped, hours, jsonl
from pathstats_pipeline.archive.ahead import Ahead
from pathstats_pipeline.archive.hours import HourSpan
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.lifecycle import Generation
from pathstats_pipeline.archive.strategy import Strategy
from pathstats_pipeline.storage.objects import ArchiveObjects

_COMPRESSORS: Final = 1
"""Compressing takes half the time of making the lines."""
Lines: TypeAlias = tuple[dt.datetime, pa.StringViewArray]
"""Lines of an hour as DuckDB makes them, for `jsonl.split_text`."""


class ArchiveError(RuntimeError):
    """A day could not be archived; nothing was committed. One line."""


@dataclasses.dataclass(frozen=True)
class Sent:
    """What was sent for a generation: size and SHA-256 of the object, and where its hours stand in it."""

    size_bytes: int
    sha256: str
    hours: tuple[HourSpan, ...] = ()

    def to_json(self) -> str:
        """For the record."""
        return json.dumps(
            {"size_bytes": self.size_bytes, "sha256": self.sha256, "hours": hours.to_document(self.hours)}
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        document = json.loads(text)
        return cls(document["size_bytes"], document["sha256"], hours.from_document(document.get("hours", {})))


def publish(
    objects: ArchiveObjects,
    generation: Generation,
    batches: Iterable[Lines],
    permission: Callable[[], None] = lambda: None,
    threads: int = _COMPRESSORS,
) -> Sent:
    """Stream a generation's events to its object, unless one stands there already; says what it should be.

    `batches` are the lines of the generation's loads, each hour's together, taken by a thread of their own. When they
    aren't what the ledger says they must be, nothing is published: raises ArchiveError. `permission` is asked once all
    of them were read, before the object becomes visible; what it raises stops that. A single put is spooled to a
    temporary file, since S3 wants its length; a multipart upload goes out part by part.
    """
    with ahead.threads(1) as reader, ahead.threads(1) as hasher, ahead.threads(threads) as compressors:
        hashed = hasher.map(_hash, reader.draw(batches))
        sending = _Sending(generation, hashed, compressors, permission)
        if generation.strategy is Strategy.MULTIPART:
            objects.put_parts(generation.key, gzipped.in_parts(sending, generation.part_bytes))
            return sending.facts
        try:
            with tempfile.NamedTemporaryFile(prefix="pathstats-archive-") as spool:
                spool.writelines(sending)
                spool.flush()
                objects.put_file(generation.key, pathlib.Path(spool.name))
        except OSError as error:
            where = tempfile.gettempdir()
            raise ArchiveError(f"{generation.key}: cannot be spooled to {where}: {error.strerror or error}") from error
        return sending.facts


class _Sending:
    """The object of a generation on its way: its pieces, counted and hashed; asks for permission at their end."""

    def __init__(
        self,
        generation: Generation,
        lines: Iterable[tuple[str, Digest, memoryview]],
        compressors: Ahead,
        permission: Callable[[], None],
    ) -> None:
        self._generation, self._permission = generation, permission
        self._size, self._sha256 = 0, hashlib.sha256()
        self._digests: dict[str, Digest] = {}
        self._member = gzipped.GzipRuns(self._counted(lines), compressors)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._member:
            self._size += len(piece)
            self._sha256.update(piece)
            yield piece
        self._permission()

    @property
    def facts(self) -> Sent:
        """What was sent, once it was."""
        spans = tuple(
            HourSpan(int(hour), span.offset, span.size_bytes, span.raw_bytes, self._digests[hour])
            for hour, span in self._member.spans.items()
        )
        return Sent(self._size, self._sha256.hexdigest(), spans)

    def _counted(self, lines: Iterable[tuple[str, Digest, memoryview]]) -> Iterator[tuple[str, memoryview]]:
        """The lines by hour; ends with an error where they aren't the ledger's."""
        for hour, digest, text in lines:
            self._digests[hour] = self._digests.get(hour, Digest()) + digest
            yield hour, text
        digest, expected = sum(self._digests.values(), Digest()), self._generation.digest
        if digest != expected:
            raise ArchiveError(
                f"{self._generation.date}: the warehouse holds {digest.rows} events with digest {digest.hex} of its "
                f"loads, but they brought {expected.rows} with {expected.hex}; nothing was archived"
            )


def _hash(lines_of_hour: Lines) -> tuple[str, Digest, memoryview]:
    hour, ended = lines_of_hour
    lines, text = jsonl.split_text(ended)
    return f"{hour:%H}", jsonl.digest_of(lines), text
