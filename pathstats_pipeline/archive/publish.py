"""A generation's events to its object: JSON lines, one gzip member, up to S3 as they come.

Nothing here decides what is published, or reads it back: that is day.py's.
"""

import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import polars as pl

from pathstats_pipeline.archive import gzipped, jsonl
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.lifecycle import Generation
from pathstats_pipeline.archive.strategy import Strategy
from pathstats_pipeline.storage.objects import ArchiveObjects


class ArchiveError(RuntimeError):
    """A day could not be archived; nothing was committed. One line."""


@dataclasses.dataclass(frozen=True)
class Sent:
    """What was sent for a generation: size and SHA-256 of the object."""

    size_bytes: int
    sha256: str

    def to_json(self) -> str:
        """For the record."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


def publish(
    objects: ArchiveObjects,
    generation: Generation,
    batches: Iterable[pl.DataFrame],
    permission: Callable[[], None] = lambda: None,
) -> Sent:
    """Stream a generation's events to its object, unless one stands there already; says what it should be.

    `batches` are the events of the generation's loads. When they aren't what the ledger says they must be, nothing is
    published: raises ArchiveError. `permission` is asked once all events were read, before the object becomes visible;
    what it raises stops that. A single put is spooled to a temporary file, since S3 wants its length; a multipart
    upload goes out part by part.
    """
    sent = _Counting(gzipped.compress(_checked_lines(generation, batches)), permission)
    if generation.strategy is Strategy.MULTIPART:
        objects.put_parts(generation.key, gzipped.in_parts(sent, generation.part_bytes))
        return sent.facts
    with tempfile.NamedTemporaryFile(prefix="pathstats-archive-") as spool:
        for piece in sent:
            spool.write(piece)
        spool.flush()
        objects.put_file(generation.key, pathlib.Path(spool.name))
    return sent.facts


class _Counting:
    """Pieces on their way, counted and hashed; asks for permission at their end."""

    def __init__(self, pieces: Iterable[bytes], permission: Callable[[], None]) -> None:
        self._pieces, self._permission = pieces, permission
        self._size, self._sha256 = 0, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._size += len(piece)
            self._sha256.update(piece)
            yield piece
        self._permission()

    @property
    def facts(self) -> Sent:
        return Sent(self._size, self._sha256.hexdigest())


def _checked_lines(generation: Generation, batches: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    """The JSON lines of the events; ends with an error, before anything is published, when they aren't the ledger's."""
    digest = Digest()
    for batch in batches:
        lines = jsonl.to_lines(batch)
        digest += jsonl.digest_of(lines)
        yield jsonl.to_bytes(lines)
    if digest != generation.digest:
        raise ArchiveError(
            f"{generation.date}: the warehouse holds {digest.rows} events with digest {digest.hex} of its loads, "
            f"but they brought {generation.digest.rows} with {generation.digest.hex}; nothing was archived"
        )
