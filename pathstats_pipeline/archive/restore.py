"""Bringing an archived day back: as Parquet files in a directory, or into the warehouse, under its own loads.

Every object is read back before anything is written. A file that can be seen is whole; a load in the warehouse is there
whole or as it was before.
"""

import datetime as dt
import pathlib
from collections.abc import Callable, Iterator

import polars as pl
import pyarrow.parquet as pq

from pathstats_pipeline.archive.day import archived_events, verified_manifests
from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, State
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.load import LoadFacts
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import Objects
from pathstats_pipeline.storage.warehouse import Warehouse


def restore_day(objects: Objects, date: dt.date, directory: pathlib.Path) -> Iterator[tuple[Manifest, pathlib.Path]]:
    """Write a day's generations as `events-<date>-gNNNN.parquet`; yields each with its file when it is whole.

    Every object is verified before any file is written. Raises ArchiveRefusedError when the day isn't archived, and
    FileExistsError for a file that is there: nothing is overwritten.
    """
    manifests = _verified(objects, date)
    directory.mkdir(parents=True, exist_ok=True)
    for manifest in manifests:
        path = directory / f"events-{date}-g{manifest.generation:04d}.parquet"
        if path.exists():
            raise FileExistsError(f"{path} is there already")
        _write(archived_events(objects, [manifest]), path)
        yield manifest, path


def _verified(objects: Objects, date: dt.date) -> list[Manifest]:
    manifests = verified_manifests(objects, date)
    if not manifests:
        raise ArchiveRefusedError(f"{date} is not archived at {objects.uri}")
    return manifests


def _write(batches: Iterator[pl.DataFrame], path: pathlib.Path) -> None:
    """Write under another name first, so that a file that can be seen is whole."""
    unfinished = path.with_name(f".{path.name}.tmp")
    schema = pl.DataFrame(schema=EVENT_SCHEMA).to_arrow().schema
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_table(batch.to_arrow())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def restore_to_warehouse(
    warehouse: Warehouse, objects: Objects, date: dt.date, clock: Callable[[], dt.datetime]
) -> Iterator[tuple[Manifest, int]]:
    """Put the deleted events of a day back under their loads; yields each generation with how many came back.

    What clean-up has left, and loads that no manifest covers, stay as they are. A generation counts as manifested
    again, so that clean-up may delete it again. A second run puts nothing back; one that died is finished by the next.
    Raises ArchiveRefusedError when the day isn't archived, or when the ledger doesn't say which events were which
    load's.
    """
    manifests = _verified(objects, date)
    by_load = {facts.load: facts for facts in warehouse.loads(Window.of_day(date))}
    for manifest in manifests:
        if unknown := [load for load in manifest.loads if load not in by_load]:
            raise ArchiveRefusedError(
                f"{date}: the ledger doesn't know {len(unknown)} load(s) of g{manifest.generation:04d} (first: "
                f"{unknown[0]}), so nobody can say which events were theirs; restore to a directory"
            )
    for manifest in manifests:
        loads = [by_load[load] for load in sorted(manifest.loads)]
        if any(facts.deleted_rows for facts in loads):
            # Before the first event is back: a generation with events in the warehouse is not one that is deleted.
            warehouse.record_generation(date, manifest.generation, State.MANIFESTED, None, clock())
        yield manifest, _restore(warehouse, objects, manifest, loads)


def _restore(warehouse: Warehouse, objects: Objects, manifest: Manifest, loads: list[LoadFacts]) -> int:
    """Put a generation's deleted events back; how many. Its object holds the loads in this order, one by one."""
    if not any(facts.deleted_rows for facts in loads):
        return 0
    events = _Sequence(archived_events(objects, [manifest]))
    restored = 0
    for facts in loads:
        if facts.deleted_rows:
            warehouse.restore_load(facts, events.take(facts.rows), lambda rows: digest_of(to_lines(rows)))
        else:
            for _ in events.take(facts.rows):
                pass
        restored += facts.deleted_rows
    return restored


class _Sequence:
    """Batches of rows as one sequence, of which so many at a time are taken."""

    def __init__(self, batches: Iterator[pl.DataFrame]) -> None:
        self._batches, self._rest = batches, pl.DataFrame(schema=EVENT_SCHEMA)

    def take(self, rows: int) -> Iterator[pl.DataFrame]:
        """The next rows, in batches; fewer where the sequence ends before."""
        while rows:
            if not len(self._rest):
                self._rest = next(self._batches, self._rest)
                if not len(self._rest):
                    return
            batch, self._rest = self._rest[:rows], self._rest[rows:]
            rows -= len(batch)
            yield batch
