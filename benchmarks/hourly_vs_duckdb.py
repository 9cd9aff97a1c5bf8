"""An hour from the warehouse to finished rows with mergeable states, beside DuckDB's own estimates, which keep none.

DuckDB runs on the connection of the same warehouse, in the same process and with the same threads.
"""

import pathlib
import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
import numpy as np
import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import path_statistics
from pathstats_pipeline.storage.warehouse import Warehouse, open_connection

GOAL: Final = 0.8
COLUMNS: Final = ("event_time", "method", "path", "status", "response_time_ms", "bytes_sent", "client_ip")
_COUNTS: Final = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent")
_CLASSES: Final = ", ".join(
    f"count(*) FILTER (status BETWEEN {each}00 AND {each}99) AS status_{each}xx" for each in range(2, 6)
)
_PEER: Final = f"""
    SELECT path, method, count(*) AS requests, {_CLASSES}, sum(bytes_sent)::BIGINT AS bytes_sent,
        count(response_time_ms) AS response_time_ms_count, sum(response_time_ms) AS response_time_ms_sum,
        min(response_time_ms) AS response_time_ms_min, max(response_time_ms) AS response_time_ms_max,
        approx_quantile(response_time_ms, [0.5, 0.9, 0.95, 0.99]) AS quantiles,
        approx_count_distinct(client_ip) AS unique_ips
    FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ?
    GROUP BY path, method
"""


def compare(scale: Scale) -> Iterator[str]:
    """One hour, both ways; the counts must be equal, the estimates near."""
    rows = scale.pick(tiny=4_000, small=1_000_000, full=4_000_000)
    window = Window.of_hour(Window.of_day(traffic.DAY).start)
    with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
        path = pathlib.Path(folder, "hour.duckdb")
        traffic.fill_warehouse(path, rows)
        with open_connection(path, lock_timeout_seconds=10) as connection:
            connection.execute("SET enable_progress_bar = false")
            turns = take_turns(lambda: _ours(connection, window), lambda: _peer(connection, window), rounds=5)
    _assert_same(turns.ours, turns.peer, rows)
    yield line("hourly_vs_duckdb", turns.ours_seconds, turns.peer_seconds, GOAL)


def _ours(connection: duckdb.DuckDBPyConnection, window: Window) -> pl.DataFrame:
    return path_statistics(Warehouse(connection).read_events(window, COLUMNS))


def _peer(connection: duckdb.DuckDBPyConnection, window: Window) -> pl.DataFrame:
    rows = pl.from_arrow(connection.execute(_PEER, (window.start, window.end)).to_arrow_table())
    assert isinstance(rows, pl.DataFrame)
    return rows


def _assert_same(ours: pl.DataFrame, peer: pl.DataFrame, rows: int) -> None:
    ours, peer = ours.sort("path", "method"), peer.sort("path", "method")
    exact = ["path", "method", *_COUNTS, *(f"response_time_ms_{fact}" for fact in ("count", "min", "max"))]
    assert ours.select(exact).equals(peer.select(exact))
    assert ours["requests"].sum() == rows
    assert np.allclose(ours["response_time_ms_sum"].to_numpy(), peer["response_time_ms_sum"].to_numpy())
    # DuckDB's estimate of distinct addresses is off by up to a fifth; a sum over the rows evens that out.
    ours_total, peer_total = (int(side["unique_ips"].sum()) for side in (ours, peer))
    assert abs(ours_total - peer_total) <= 0.1 * peer_total
