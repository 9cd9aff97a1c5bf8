"""Bringing an archived day back as Parquet files in a directory: one for each generation, in the event schema."""

import datetime as dt
import pathlib
from collections.abc import Iterator

import polars as pl
import pyarrow.parquet as pq

from pathstats_pipeline.archive.day import archived_events, verified_manifests
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.storage.objects import Objects


def restore_day(objects: Objects, date: dt.date, directory: pathlib.Path) -> Iterator[tuple[Manifest, pathlib.Path]]:
    """Write a day's generations as `events-<date>-gNNNN.parquet`; yields each with its file when it is whole.

    Every object is verified before any file is written. Raises ArchiveRefusedError when the day isn't archived, and
    FileExistsError for a file that is there: nothing is overwritten.
    """
    manifests = verified_manifests(objects, date)
    if not manifests:
        raise ArchiveRefusedError(f"{date} is not archived at {objects.uri}")
    directory.mkdir(parents=True, exist_ok=True)
    for manifest in manifests:
        path = directory / f"events-{date}-g{manifest.generation:04d}.parquet"
        if path.exists():
            raise FileExistsError(f"{path} is there already")
        _write(archived_events(objects, [manifest]), path)
        yield manifest, path


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
