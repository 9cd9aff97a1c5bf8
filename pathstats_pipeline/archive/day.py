"""The archive of a day: publish a generation, read it back, commit it with its manifest, and read it again later.

Works on any store of objects that takes an upload in parts. The order of the steps is the safety: nothing is
committed that was not read back, and a manifest is the last thing written. Every step can be run again: keys are
create-only, and an object that is there already is judged by its content, since it may be our own write whose answer
was lost.
"""

import datetime as dt
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator

import polars as pl

from pathstats_pipeline.archive import gzipped, jsonl, keys, verify
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, Generation, next_generation
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import ArchiveObjects, Objects
from pathstats_pipeline.storage.reading import TooWideError
from pathstats_pipeline.storage.warehouse import Warehouse

BATCH_ROWS = 5_000
"""Rows on their way from the warehouse to S3 at a time. The peak of a day grows with them: 20,000 took 75 MB more."""
WIDE_BATCH_ROWS = 100
"""The same where rows are megabytes wide."""
STREAM_MEMORY_MB = 16
"""DuckDB's buffers while it streams; the day passes through them, it isn't kept in them."""


class ArchiveError(RuntimeError):
    """A day could not be archived; nothing was committed. One line."""


def manifests_of(objects: Objects, date: dt.date) -> list[Manifest]:
    """The manifests of a day, by generation; raises ManifestError naming the key of one that can't be read."""
    found = []
    for key in filter(keys.is_manifest_key, objects.list(keys.manifest_folder(date))):
        try:
            found.append(Manifest.from_json(objects.get(key) or b""))
        except ManifestError as error:
            raise ManifestError(f"{objects.uri}/{key}: {error}") from None
    return sorted(found, key=lambda manifest: manifest.generation)


def archive_day(
    warehouse: Warehouse,
    objects: ArchiveObjects,
    date: dt.date,
    rule: SizeRule,
    clock: Callable[[], dt.datetime],
    software_version: str,
) -> list[Manifest]:
    """Archive what no generation of a day covers yet; all manifests of the day, the new one last.

    A second run writes nothing. A day without events has no manifest. Raises ArchiveRefusedError for a day that must
    not be archived, and ArchiveError, VerificationError or ObjectsError, with nothing committed, when it fails.
    """
    manifests = manifests_of(objects, date)
    generation = next_generation(date, clock(), warehouse.loads(Window.of_day(date)), manifests, rule)
    if generation is None:
        return manifests
    try:
        warehouse.limit_memory(STREAM_MEMORY_MB)
        publish(objects, generation, warehouse.stream_loads(generation.loads, BATCH_ROWS))
    except TooWideError:
        # Events of megabytes each: rare enough to pay with memory, and no reason never to archive the day.
        warehouse.limit_memory(None)
        publish(objects, generation, warehouse.stream_loads(generation.loads, WIDE_BATCH_ROWS))
    return [*manifests, commit(objects, generation, clock, software_version)]


def publish(objects: ArchiveObjects, generation: Generation, batches: Iterable[pl.DataFrame]) -> bool:
    """Stream a generation's events to its object; False when an object stands there already.

    `batches` are the events of the generation's loads. When they aren't what the ledger says they must be, nothing is
    published: raises ArchiveError. A single put is spooled to a temporary file, since S3 wants its length; a
    multipart upload goes out part by part.
    """
    pieces = gzipped.compress(_checked_lines(generation, batches))
    if generation.strategy is Strategy.MULTIPART:
        return objects.put_parts(generation.key, gzipped.in_parts(pieces, generation.part_bytes))
    with tempfile.NamedTemporaryFile(prefix="pathstats-archive-") as spool:
        for piece in pieces:
            spool.write(piece)
        spool.flush()
        return objects.put_file(generation.key, pathlib.Path(spool.name))


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


def commit(
    objects: ArchiveObjects, generation: Generation, clock: Callable[[], dt.datetime], software_version: str
) -> Manifest:
    """Read the published object back and, when it holds exactly the generation's events, write its manifest.

    Raises VerificationError, and writes nothing, when it doesn't. Running it again gives the manifest that is there.
    """
    archived_at = clock()
    with objects.open(generation.key) as stream:
        facts = verify.inspect(stream, generation.key)
    if facts.digest != generation.digest:
        raise verify.VerificationError(
            f"{generation.key}: holds {facts.digest.rows} rows with digest {facts.digest.hex}, "
            f"not {generation.digest.rows} with {generation.digest.hex}"
        )
    manifest = Manifest(
        date=generation.date,
        generation=generation.number,
        key=generation.key,
        strategy=generation.strategy,
        size_bytes=facts.size_bytes,
        raw_bytes=facts.raw_bytes,
        sha256=facts.sha256,
        digest=facts.digest,
        first_event_time=generation.first_event_time,
        last_event_time=generation.last_event_time,
        loads=generation.loads,
        archived_at=archived_at,
        verified_at=clock(),
        software_version=software_version,
    )
    key = keys.manifest_key(generation.date, generation.number)
    if objects.put(key, manifest.to_json(objects.prefix)):
        return manifest
    standing = Manifest.from_json(objects.get(key) or b"")
    if (standing.key, standing.digest, standing.loads) != (manifest.key, manifest.digest, manifest.loads):
        raise ArchiveError(f"{key}: another archive of the same generation was committed meanwhile; run again")
    return standing


def verify_generation(objects: Objects, manifest: Manifest) -> verify.ObjectFacts:
    """Read a generation's object back and hold it against its manifest; raises VerificationError or ObjectsError."""
    with objects.open(manifest.key) as stream:
        return verify.verify(stream, manifest)


def verified_manifests(objects: Objects, date: dt.date, warehouse: Warehouse | None = None) -> list[Manifest]:
    """The manifests of a day, every object of which was read back just now and is what its manifest says.

    Given the warehouse, also raises ArchiveRefusedError when the day has events of which none is archived. Raises
    VerificationError or ObjectsError for an object that isn't what it should be.
    """
    manifests = manifests_of(objects, date)
    if warehouse and not manifests and any(facts.rows for facts in warehouse.loads(Window.of_day(date))):
        raise ArchiveRefusedError(f"{date} has events, but none of them is archived")
    for manifest in manifests:
        verify_generation(objects, manifest)
    return manifests


def archived_events(objects: Objects, manifests: Iterable[Manifest]) -> Iterator[pl.DataFrame]:
    """The events of these generations, in batches.

    Raises VerificationError, once it is read to its end, for an object that isn't what its manifest says.
    """
    for manifest in manifests:
        with objects.open(manifest.key) as stream:
            yield from verify.read_events(stream, manifest)
