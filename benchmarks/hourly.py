"""An hour from the warehouse to finished rows with mergeable states, beside what one would use instead.

ClickHouse (in process, chdb) makes states of the same kinds from a Parquet file of the same events. DuckDB's own
estimates, on the same warehouse, keep no state. The loop over `tdigest` and `datasketch` objects, one of each for a
cell, gets a sample of the events, and its time is scaled to all of them. Each takes the threads it takes by itself.
"""

import collections
import functools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import chdb.session
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from datasketch import HyperLogLogPlusPlus
from tdigest import TDigest

from benchmarks import traffic
from benchmarks.comparison import Scale, line, medians
from pathstats_pipeline.archive.history import tally_of
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import EVENT_INPUT, path_statistics
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.objects import Objects
from pathstats_pipeline.storage.warehouse import Warehouse

GOAL: Final = 0.8
OBJECTS_GOAL: Final = 0.02
_PRECISION: Final = 14
_COUNTS: Final = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent")
_TIMES: Final = ("response_time_ms_count", "response_time_ms_sum", "response_time_ms_min", "response_time_ms_max")
_DUCKDB_CLASSES: Final = ", ".join(
    f"count(*) FILTER (status BETWEEN {each}00 AND {each}99) AS status_{each}xx" for each in range(2, 6)
)
_CLICKHOUSE_CLASSES: Final = ", ".join(
    f"countIf(status BETWEEN {each}00 AND {each}99) AS status_{each}xx" for each in range(2, 6)
)
_SAME: Final = """
    count(response_time_ms) AS response_time_ms_count, sum(response_time_ms) AS response_time_ms_sum,
    min(response_time_ms) AS response_time_ms_min, max(response_time_ms) AS response_time_ms_max
"""
_DUCKDB: Final = f"""
    SELECT path, method, count(*) AS requests, {_DUCKDB_CLASSES}, sum(e.bytes_sent)::BIGINT AS bytes_sent, {_SAME},
        approx_quantile(response_time_ms, [0.5, 0.9, 0.95, 0.99]) AS quantiles,
        approx_count_distinct(client_ip) AS unique_ips
    FROM pathstats.traffic_events AS e WHERE event_time >= ? AND event_time < ?
    GROUP BY path, method
"""
_CLICKHOUSE: Final = f"""
    SELECT path, method, count() AS requests, {_CLICKHOUSE_CLASSES}, sum(e.bytes_sent) AS bytes_sent, {_SAME},
        quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(response_time_ms) AS latency_state,
        uniqCombinedState({_PRECISION})(client_ip) AS visitors_state
    FROM file('FILE') AS e GROUP BY path, method
"""

Cells = dict[tuple[str, str], tuple[int, float, int]]


def compare(scale: Scale) -> Iterator[str]:
    """One hour, four ways; the counts must be equal, the estimates near."""
    rows = scale.pick(tiny=4_000, small=4_000_000, full=4_000_000)
    sample_rows = scale.pick(tiny=400, small=20_000, full=20_000)
    window = Window.of_hour(Window.of_day(traffic.DAY).start)
    with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
        path, parquet = pathlib.Path(folder, "hour.duckdb"), pathlib.Path(folder, "hour.parquet")
        traffic.fill_warehouse(path, rows)
        with open_connection(path, lock_timeout_seconds=10) as connection, chdb.session.Session() as clickhouse:
            columns = ", ".join(EVENT_INPUT)
            connection.execute(f"COPY (SELECT {columns} FROM pathstats.traffic_events) TO '{parquet}' (FORMAT parquet)")
            sample = Warehouse(connection).read_events(window, EVENT_INPUT).gather_every(rows // sample_rows)
            seconds, answers = medians(
                {
                    "ours": functools.partial(_ours, connection, window),
                    "clickhouse": functools.partial(_clickhouse, clickhouse, parquet),
                    "duckdb": functools.partial(_duckdb, connection, window),
                    "objects": functools.partial(_objects, sample),
                    "reading": functools.partial(_reading, connection),
                },
                rounds=scale.pick(tiny=1, small=5, full=5),
            )
    _assert_same(answers, rows)
    _assert_same_cells(path_statistics(sample), answers["objects"])
    factor = rows / len(sample)
    yield f"hourly: {rows} events; reading their columns into arrays alone takes {seconds['reading']:.3f} s"
    yield f"hourly: the time of the loop over objects is that of {len(sample)} events, times {factor:g}"
    yield line("hourly_vs_clickhouse", seconds["ours"], seconds["clickhouse"], GOAL)
    yield line("hourly_vs_duckdb", seconds["ours"], seconds["duckdb"], GOAL)
    yield line("hourly_vs_objects", seconds["ours"], seconds["objects"] * factor, OBJECTS_GOAL)


def _ours(connection: duckdb.DuckDBPyConnection, window: Window) -> pl.DataFrame:
    """What the asset does, up to the rows."""
    return path_statistics(tally_of(Warehouse(connection), window, EVENT_INPUT, _nothing_archived))


def _nothing_archived() -> Objects:
    raise AssertionError("nothing was deleted")


def _clickhouse(session: chdb.session.Session, parquet: pathlib.Path) -> pl.DataFrame:
    answer = session.query(_CLICKHOUSE.replace("FILE", str(parquet)), "Arrow").bytes()
    rows = pl.from_arrow(pa.ipc.open_file(pa.py_buffer(answer)).read_all())
    assert isinstance(rows, pl.DataFrame)
    return rows.with_columns(pl.col("path", "method").cast(pl.String))


def _duckdb(connection: duckdb.DuckDBPyConnection, window: Window) -> pl.DataFrame:
    rows = pl.from_arrow(connection.execute(_DUCKDB, (window.start, window.end)).to_arrow_table())
    assert isinstance(rows, pl.DataFrame)
    return rows


def _reading(connection: duckdb.DuckDBPyConnection) -> int:
    """The floor: the columns of all events as Arrow arrays, strings and all."""
    reader = connection.execute(f"SELECT {', '.join(EVENT_INPUT)} FROM pathstats.traffic_events").to_arrow_reader()
    return sum(len(batch) for batch in reader)


def _objects(events: pl.DataFrame) -> Cells:
    """Requests, p95 and unique addresses of each path and method."""
    requests: collections.Counter[tuple[str, str]] = collections.Counter()
    times: Any = collections.defaultdict(TDigest)
    clients: Any = collections.defaultdict(lambda: HyperLogLogPlusPlus(p=_PRECISION, hashfunc=xxhash.xxh3_64_intdigest))
    for path, method, milliseconds, address in events.select(
        "path", "method", "response_time_ms", "client_ip"
    ).iter_rows():
        cell = path, method
        requests[cell] += 1
        times[cell].update(milliseconds)
        clients[cell].update(address.encode())
    return {cell: (count, times[cell].percentile(95), round(clients[cell].count())) for cell, count in requests.items()}


def _assert_same(answers: dict[str, Any], rows: int) -> None:
    ours = answers["ours"].sort("path", "method")
    assert ours["requests"].sum() == rows == answers["reading"]
    exact = ["path", "method", *_COUNTS, *(name for name in _TIMES if not name.endswith("sum"))]
    for name in ("clickhouse", "duckdb"):
        peer = answers[name].sort("path", "method").cast(dict.fromkeys((*_COUNTS, _TIMES[0]), pl.Int64))
        assert ours.select(exact).equals(peer.select(exact))
        assert np.allclose(ours[_TIMES[1]].to_numpy(), peer[_TIMES[1]].to_numpy())
    # DuckDB's estimate of distinct addresses is off by up to a fifth; a sum over the rows evens that out.
    ours_total, peer_total = (int(side["unique_ips"].sum()) for side in (ours, answers["duckdb"]))
    assert abs(ours_total - peer_total) <= 0.1 * peer_total


def _assert_same_cells(ours: pl.DataFrame, objects: Any) -> None:
    rows = ours.select("path", "method", "requests", "unique_ips").iter_rows()
    cells = {(path, method): (count, ips) for path, method, count, ips in rows}
    assert {cell: facts[0] for cell, facts in objects.items()} == {cell: facts[0] for cell, facts in cells.items()}
    for cell, (count, _, ips) in objects.items():
        assert abs(ips - cells[cell][1]) <= 1 + 0.05 * count
