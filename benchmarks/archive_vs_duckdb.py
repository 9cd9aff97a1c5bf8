"""A day from the warehouse to gzip JSON lines, checked against its ledger, beside DuckDB's COPY of the same rows."""

import gzip
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final

import duckdb
import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.archive.day import BATCH_ROWS
from pathstats_pipeline.archive.lifecycle import Generation, next_generation
from pathstats_pipeline.archive.publish import publish
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import Warehouse

GOAL: Final = 0.167
"""At least six times DuckDB's rate."""


class PartsToDirectory(DirectoryObjects):
    """A directory that takes an upload in parts, so that no server's speed is measured."""

    def put_parts(self, key: str, parts: Iterable[bytes]) -> bool:
        """Write the parts one after another."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.writelines(parts)
        return True

    def abort_uploads(self, key: str) -> int:  # noqa: ARG002 - there are never any
        """Nothing to abort."""
        return 0


def compare(scale: Scale) -> Iterator[str]:
    """One day of 24 loads, both ways; the lines must hold the same events."""
    rows = scale.pick(tiny=4_000, small=250_000, full=4_000_000)
    with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
        store = PartsToDirectory(pathlib.Path(folder, "objects"))
        copy = pathlib.Path(folder, "copy.jsonl.gz")
        path = pathlib.Path(folder, "day.duckdb")
        traffic.fill_warehouse(path, rows, loads=24, hours=24)
        with open_connection(path, lock_timeout_seconds=10) as connection:
            connection.execute("SET enable_progress_bar = false")
            warehouse = Warehouse(connection)
            ledger = warehouse.loads(Window.of_day(traffic.DAY))
            generation = next_generation(traffic.DAY, traffic.NOW, ledger, [], SizeRule(multipart_mb=0), number=1)
            assert generation is not None
            turns = take_turns(
                lambda: _ours(warehouse, generation, store),
                lambda: _peer(connection, copy),
                rounds=scale.pick(tiny=1, small=5, full=3),
            )
        ours = store.root / generation.key
        assert _content(ours).equals(_content(copy))
        yield f"archive_vs_duckdb: object {ours.stat().st_size} bytes, DuckDB's {copy.stat().st_size}"
    yield line("archive_vs_duckdb", turns.ours_seconds, turns.peer_seconds, GOAL)


def _ours(warehouse: Warehouse, generation: Generation, store: PartsToDirectory) -> None:
    shutil.rmtree(store.root, ignore_errors=True)
    publish(store, generation, warehouse.stream_loads(generation.loads, BATCH_ROWS))


def _peer(connection: duckdb.DuckDBPyConnection, copy: pathlib.Path) -> None:
    events = f"SELECT {', '.join(EVENT_NAMES)} FROM pathstats.traffic_events"
    connection.execute(f"COPY ({events}) TO '{copy}' (FORMAT json, COMPRESSION gzip)")


def _content(path: pathlib.Path) -> pl.DataFrame:
    """The events of gzip JSON lines, whichever way their times are written."""
    with gzip.open(path) as file:
        events = pl.read_ndjson(file.read(), schema={**EVENT_SCHEMA, "event_time": pl.String(), "status": pl.Int64()})
    time = pl.col("event_time").str.replace("T", " ").str.strip_suffix("Z")
    return events.with_columns(time.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")).sort("event_id")
