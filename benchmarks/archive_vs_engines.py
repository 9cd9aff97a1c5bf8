"""A day from the warehouse to gzip JSON lines, checked against its ledger, beside what databases write by themselves.

DuckDB copies the same table. ClickHouse (in process, chdb) has the same rows in a table of its own. Each takes
the threads and the level of compression that it takes by itself.
"""

import functools
import gzip
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final

import chdb.session
import duckdb
import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, medians
from pathstats_pipeline.archive.day import BATCH_ROWS, STREAM_MEMORY_MB
from pathstats_pipeline.archive.lifecycle import Generation, next_generation
from pathstats_pipeline.archive.publish import publish
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import Warehouse

DUCKDB_GOAL: Final = 0.167
"""At least six times DuckDB's rate."""
CLICKHOUSE_GOAL: Final = 0.5
"""At least twice ClickHouse's rate."""
SIZE_GOAL: Final = 1.1
"""An object at most a tenth larger than ClickHouse's."""


class PartsToDirectory(DirectoryObjects):
    """A directory that takes an upload in parts, so that no server's speed is measured."""

    def put_parts(self, key: str, parts: Iterable[bytes | bytearray]) -> bool:
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
    """One day of 24 loads, three ways; the lines must hold the same events."""
    rows = scale.pick(tiny=4_000, small=1_000_000, full=4_000_000)
    with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
        store = PartsToDirectory(pathlib.Path(folder, "objects"))
        copy, outfile = (pathlib.Path(folder, f"{name}.jsonl.gz") for name in ("copy", "outfile"))
        path = pathlib.Path(folder, "day.duckdb")
        traffic.fill_warehouse(path, rows, loads=24, hours=24)
        with open_connection(path, lock_timeout_seconds=10) as connection, chdb.session.Session() as clickhouse:
            connection.execute("SET enable_progress_bar = false")
            _fill(clickhouse, connection, pathlib.Path(folder, "day.parquet"))
            warehouse = Warehouse(connection)
            ledger = warehouse.loads(Window.of_day(traffic.DAY))
            generation = next_generation(traffic.DAY, traffic.NOW, ledger, [], SizeRule(multipart_mb=0), number=1)
            assert generation is not None
            seconds, _ = medians(
                {
                    "ours": functools.partial(_ours, warehouse, generation, store),
                    "duckdb": functools.partial(_duckdb, connection, copy),
                    "clickhouse": functools.partial(_clickhouse, clickhouse, outfile),
                },
                rounds=scale.pick(tiny=1, small=5, full=3),
            )
        ours = store.root / generation.key
        assert _content(ours).equals(_content(copy))
        assert _content(ours).equals(_content(outfile))
        size, of_duckdb, of_clickhouse = (file.stat().st_size / 2**20 for file in (ours, copy, outfile))
    yield f"archive_vs_engines: {rows} events; objects of {size:.1f}, DuckDB's {of_duckdb:.1f} MiB"
    yield line("archive_vs_duckdb", seconds["ours"], seconds["duckdb"], DUCKDB_GOAL)
    yield line("archive_vs_clickhouse", seconds["ours"], seconds["clickhouse"], CLICKHOUSE_GOAL)
    yield line("archive_size_vs_clickhouse", size, of_clickhouse, SIZE_GOAL, "MiB")


def _ours(warehouse: Warehouse, generation: Generation, store: PartsToDirectory) -> None:
    shutil.rmtree(store.root, ignore_errors=True)
    with warehouse.limited(STREAM_MEMORY_MB, threads=1):
        publish(store, generation, warehouse.stream_lines(generation.loads, BATCH_ROWS))


def _duckdb(connection: duckdb.DuckDBPyConnection, copy: pathlib.Path) -> None:
    connection.execute("RESET threads")
    events = f"SELECT {', '.join(EVENT_NAMES)} FROM pathstats.traffic_events"
    connection.execute(f"COPY ({events}) TO '{copy}' (FORMAT json, COMPRESSION gzip)")


def _fill(session: chdb.session.Session, connection: duckdb.DuckDBPyConnection, parquet: pathlib.Path) -> None:
    """The same rows in a table of ClickHouse's own."""
    events = f"SELECT {', '.join(EVENT_NAMES)} FROM pathstats.traffic_events"
    connection.execute(f"COPY ({events}) TO '{parquet}' (FORMAT parquet)")
    session.query("CREATE DATABASE bench")
    table = f"CREATE TABLE bench.events ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM file('{parquet}')"
    session.query(table)


def _clickhouse(session: chdb.session.Session, outfile: pathlib.Path) -> None:
    outfile.unlink(missing_ok=True)
    session.query(f"SELECT * FROM bench.events INTO OUTFILE '{outfile}' COMPRESSION 'gzip' FORMAT JSONEachRow")


def _content(path: pathlib.Path) -> pl.DataFrame:
    """The events of gzip JSON lines, whichever way their times are written."""
    with gzip.open(path) as file:
        events = pl.read_ndjson(file.read(), schema={**EVENT_SCHEMA, "event_time": pl.String(), "status": pl.Int64()})
    time = pl.col("event_time").str.replace("T", " ").str.strip_suffix("Z")
    return events.with_columns(time.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")).sort("event_id")
