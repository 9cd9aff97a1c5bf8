"""A file of JSON lines into a landing zone, beside DuckDB's `read_json` of the same file into a table.

Ours surveys the file, validates each line, gives ids and writes hourly Parquet durably; DuckDB parses and inserts.
"""

import functools
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.archive import jsonl
from pathstats_pipeline.events.formats.registry import choose
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.ingest import Intake, ingest_file
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects

GOAL: Final = 1.0
_PEER_COLUMNS: Final = {
    "canonical": ("bytes_sent", "path", "client_ip", "event_time"),
    "nginx": ("body_bytes_sent", "request_uri", "remote_addr", "time_iso8601"),
}


def compare(scale: Scale) -> Iterator[str]:
    """Canonical lines and nginx's; both sides must hold the same events."""
    rows = scale.pick(tiny=4_000, small=500_000, full=4_000_000)
    for name in ("canonical", "nginx"):
        with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
            yield _compare(name, rows, pathlib.Path(folder), rounds=scale.pick(tiny=1, small=5, full=3))


def _compare(name: str, rows: int, folder: pathlib.Path, rounds: int) -> str:
    source, landing = folder / "events.jsonl", folder / "landing"
    _write(source, rows, name)
    ours = functools.partial(_ours, source, landing, "canonical" if name == "canonical" else "jsonl")
    with duckdb.connect(str(folder / "peer.duckdb")) as connection:
        connection.execute("SET enable_progress_bar = false")
        turns = take_turns(ours, lambda: _peer(connection, source), rounds)
        _assert_same(landing, connection, rows, name)
    return line(f"ingest_vs_duckdb_json_{name}", turns.ours_seconds, turns.peer_seconds, GOAL)


def _write(path: pathlib.Path, rows: int, name: str) -> None:
    with path.open("wb") as file:
        for events in traffic.events(rows, traffic.HOUR):
            lines = jsonl.to_lines(events) if name == "canonical" else _nginx_lines(events)
            file.write(jsonl.to_bytes(lines))


def _nginx_lines(events: pl.DataFrame) -> pl.Series:
    """The lines of `log_format ... escape=json`, with nginx's own variables; milliseconds are what it has of a time."""
    return events.select(
        pl.struct(
            time_iso8601=pl.col("event_time").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            remote_addr="client_ip",
            http_host="host",
            request_method="method",
            request_uri="path",
            status="status",
            body_bytes_sent="bytes_sent",
            request_time=(pl.col("response_time_ms") / 1000).round(3),
            http_user_agent="user_agent",
        )
        .struct.json_encode()
        .alias("line")
    ).to_series()


def _ours(source: pathlib.Path, root: pathlib.Path, format_name: str) -> None:
    shutil.rmtree(root, ignore_errors=True)
    first = Window.of_day(traffic.DAY).start
    landing = Landing(DirectoryObjects(root))
    ingest_file(PathLogFile(source), Intake(landing, first, traffic.NOW, functools.partial(choose, format_name)))


def _peer(connection: duckdb.DuckDBPyConnection, source: pathlib.Path) -> None:
    connection.execute(
        f"CREATE OR REPLACE TABLE events AS SELECT * FROM read_json('{source}', format='newline_delimited')"
    )
    connection.execute("CHECKPOINT")


def _assert_same(root: pathlib.Path, connection: duckdb.DuckDBPyConnection, rows: int, name: str) -> None:
    landed = pl.read_parquet(root / "dt=*" / "hour=*" / "*.parquet", hive_partitioning=False)
    size, path, address, time = _PEER_COLUMNS[name]
    [theirs] = connection.execute(
        f"SELECT count(*), sum({size})::BIGINT, count(DISTINCT {path}), count(DISTINCT {address}), "
        f"date_trunc('second', min({time}::TIMESTAMP)) FROM events"
    ).fetchall()
    ours = landed.select(
        pl.len(),
        pl.col("bytes_sent").sum(),
        pl.col("path").n_unique().alias("paths"),
        pl.col("client_ip").n_unique().alias("addresses"),
        pl.col("event_time").dt.truncate("1s").min().alias("first"),
    ).row(0)
    assert ours == theirs
    assert len(landed) == rows
