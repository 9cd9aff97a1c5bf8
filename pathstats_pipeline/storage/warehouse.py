"""The warehouse: a DuckDB file with the hot days of events and all the statistics, behind a narrow seam.

The seam is: append a load, replace a partition, delete loads, read a window. Its parts have a file each: the file and
its lock (duck.py), the tables (tables.py), statements and transactions (session.py), loads (loads.py), events
(reading.py) and statistics (statistics.py). Here they come together, with the record of archives.
"""

import contextlib
import datetime as dt
import pathlib
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.reading import Reading
from pathstats_pipeline.storage.statistics import Statistics
from pathstats_pipeline.storage.tables import TABLES

_MANIFEST_FIELDS: Final = (
    "date",
    "generation",
    "rows",
    "raw_bytes",
    "sha256",
    "first_event_time",
    "last_event_time",
    "archived_at",
    "verified_at",
)


@contextlib.contextmanager
def open_warehouse(path: pathlib.Path, *, lock_timeout_seconds: float) -> Iterator["Warehouse"]:
    """The warehouse, held alone; what is missing in it is created. Waits and raises as `open_connection`."""
    with open_connection(path, lock_timeout_seconds=lock_timeout_seconds) as connection:
        warehouse = Warehouse(connection)
        warehouse.create_missing()
        yield warehouse


class Warehouse(Reading, Statistics):
    """An open warehouse. Obtained from `open_warehouse`; every method leaves no transaction open."""

    def create_missing(self) -> None:
        """Create the schema and the tables that aren't there."""
        self._run("CREATE SCHEMA IF NOT EXISTS pathstats")
        for table, columns in TABLES.items():
            body = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self._run(f"CREATE TABLE IF NOT EXISTS pathstats.{table} ({body})")

    def record_archives(self, date: dt.date, manifests: Sequence[Manifest], uris: Sequence[str]) -> None:
        """Replace what the warehouse says of a day's archive by what its manifests say."""
        rows = [
            {
                **{name: getattr(manifest, name) for name in _MANIFEST_FIELDS},
                "uri": uri,
                "bytes": manifest.size_bytes,
                "strategy": manifest.strategy.value,
                "digest": manifest.digest.hex,
            }
            for manifest, uri in zip(manifests, uris, strict=True)
        ]
        schema = {column.name: column.dtype for column in TABLES["archives"]}
        with self._transaction():
            self._run("DELETE FROM pathstats.archives WHERE date = ?", (date,))
            if rows:
                self._insert("archives", pl.DataFrame(rows, schema=schema))

    def archives(self) -> pl.DataFrame:
        """Every archived generation, by day."""
        return self._frame("SELECT * FROM pathstats.archives ORDER BY date, generation")
