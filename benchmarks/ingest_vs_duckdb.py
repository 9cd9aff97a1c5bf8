"""A log file into a landing zone, beside DuckDB's reader of the same file into a table: JSON lines and combined logs.

Ours surveys the file, validates each line, gives ids and writes hourly Parquet durably; DuckDB parses and inserts. Of
DuckDB's two ways to read JSON lines, to find the types and to be told them, the faster one counts.
"""

import functools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
import polars as pl

from benchmarks import logs
from benchmarks.comparison import Scale, line, medians
from pathstats_pipeline.events.schema import EVENT_COLUMNS

GOAL: Final = 1.0
_CANONICAL: Final = ", ".join(f"{column.name}: '{column.sql_type}'" for column in EVENT_COLUMNS)
_NGINX: Final = (
    "time_iso8601: 'TIMESTAMP', remote_addr: 'VARCHAR', http_host: 'VARCHAR', request_method: 'VARCHAR', "
    "request_uri: 'VARCHAR', status: 'SMALLINT', body_bytes_sent: 'BIGINT', request_time: 'DOUBLE', "
    "http_user_agent: 'VARCHAR'"
)
_FIELDS: Final = (
    "client: 'VARCHAR', identity: 'VARCHAR', account: 'VARCHAR', clock: 'VARCHAR', zone: 'VARCHAR', "
    "request: 'VARCHAR', status: 'SMALLINT', size: 'BIGINT', referer: 'VARCHAR', agent: 'VARCHAR'"
)
_READERS: Final = {
    "canonical": {
        "found": "SELECT * FROM read_json('FILE', format='newline_delimited')",
        "told": f"SELECT * FROM read_ndjson('FILE', columns={{{_CANONICAL}}})",
    },
    "nginx": {
        "found": "SELECT * FROM read_json('FILE', format='newline_delimited')",
        "told": f"SELECT * FROM read_ndjson('FILE', columns={{{_NGINX}}})",
    },
    "combined": {
        "told": f"""
            SELECT strptime(clock, '[%d/%b/%Y:%H:%M:%S') AS event_time, split_part(request, ' ', 1) AS method,
                split_part(split_part(request, ' ', 2), '?', 1) AS path, status, size AS bytes_sent,
                client AS client_ip, agent AS user_agent
            FROM read_csv('FILE', delim=' ', quote='"', escape='\\', header=false, auto_detect=false, nullstr='-',
                columns={{{_FIELDS}}})
        """
    },
}
_PEER_COLUMNS: Final = {
    "canonical": ("bytes_sent", "path", "client_ip", "event_time"),
    "nginx": ("body_bytes_sent", "request_uri", "remote_addr", "time_iso8601"),
    "combined": ("bytes_sent", "path", "client_ip", "event_time"),
}
_NAMES: Final = {"canonical": "json_canonical", "nginx": "json_nginx", "combined": "csv_combined"}
_FORMATS: Final = {"canonical": "canonical", "nginx": "jsonl", "combined": "combined"}


def compare(scale: Scale) -> Iterator[str]:
    """Canonical lines, nginx's and combined ones; both sides must hold the same events."""
    rows = scale.pick(tiny=4_000, small=1_000_000, full=4_000_000)
    for name in _READERS:
        with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
            yield from _compare(name, rows, pathlib.Path(folder), rounds=scale.pick(tiny=1, small=3, full=3))


def _compare(name: str, rows: int, folder: pathlib.Path, rounds: int) -> Iterator[str]:
    source, landing = folder / "events.log", folder / "landing"
    logs.write(source, rows, name)
    with duckdb.connect(str(folder / "peer.duckdb")) as connection:
        connection.execute("SET enable_progress_bar = false")
        ours = {"ours": functools.partial(logs.ingest, source, landing, _FORMATS[name])}
        peers = {
            way: functools.partial(_peer, connection, query.replace("FILE", str(source)))
            for way, query in _READERS[name].items()
        }
        seconds, _ = medians({**ours, **peers}, rounds)
        _assert_same(landing, connection, rows, name)
    yield f"ingest: {name}: {rows / seconds['ours']:,.0f} lines a second, from file to landing zone"
    yield line(f"ingest_vs_duckdb_{_NAMES[name]}", seconds.pop("ours"), min(seconds.values()), GOAL)


def _peer(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE TABLE events AS {query}")
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
