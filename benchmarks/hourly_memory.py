"""Peak memory of an hour's statistics: 4 and 40 million events, a million distinct paths, all under one path.

Each hour is built from its warehouse by a fresh process, whose peak counts as a whole. Another one makes the
warehouse, in SQL. Linux only.
"""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from benchmarks import traffic
from benchmarks.comparison import Scale, apart, line, status_mb
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import path_statistics
from pathstats_pipeline.stats.tally import SAMPLED
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

_WINDOW: Final = Window.of_hour(Window.of_day(traffic.DAY).start)
_ZIPF_PATH: Final = "'/shop/item' || (pow(5001, random()) - 1)::INTEGER || '.html'"


@dataclasses.dataclass(frozen=True)
class Hour:
    """An hour of so many million events, the SQL of their paths, and the most that its process may have, in MiB."""

    name: str
    millions: int
    path: str
    goal_mb: int


HOURS: Final = (
    Hour("4_million", 4, _ZIPF_PATH, 1_000),
    Hour("40_million", 40, _ZIPF_PATH, 2_000),
    Hour("million_paths", 4, "'/scan-' || (i % 1000000) || 'x/' || (i % 8)", 1_000),
    Hour("one_path", 4, "'/'", 1_000),
)


def compare(scale: Scale) -> Iterator[str]:
    """The peak of every hour against its goal."""
    for hour in HOURS:
        rows = hour.millions * scale.pick(tiny=1_000, small=1_000_000, full=1_000_000)
        with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
            path = pathlib.Path(folder, "hour.duckdb")
            apart(_fill, path, rows, hour.path)
            peak, seconds, requests, n_rows = apart(_build, path)
        assert requests == rows
        yield f"memory hour_of_{hour.name}: {rows} events, {n_rows} rows, {seconds:.1f} s"
        yield line(f"hourly_memory_{hour.name}", peak, hour.goal_mb, 1, "MiB")


def _fill(path: pathlib.Path, rows: int, path_sql: str) -> None:
    with open_warehouse(path, lock_timeout_seconds=10):
        pass
    with open_connection(path, lock_timeout_seconds=10) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            f"""
            INSERT INTO pathstats.traffic_events
            SELECT 'e' || i, ?::TIMESTAMP + INTERVAL 1 MICROSECOND * (i % 3600000000), 'www.example.com',
                CASE WHEN random() < 0.9 THEN 'GET' ELSE 'POST' END, {path_sql}, 200,
                round(exp(3 + sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random())), 3), 1000,
                '10.' || (random() * 2)::INTEGER || '.' || (random() * 255)::INTEGER || '.'
                    || (random() * 255)::INTEGER, 'agent', 'load'
            FROM range({rows}) AS t(i)
            """,
            (_WINDOW.start,),
        )


def _build(path: pathlib.Path) -> tuple[float, float, int, int]:
    """Peak in MiB, seconds, requests and rows of the hour, in this process."""
    with open_connection(path, lock_timeout_seconds=10) as connection:
        started = time.perf_counter()
        rows = path_statistics(Warehouse(connection).tally_events(_WINDOW, SAMPLED))
        seconds = time.perf_counter() - started
    return status_mb("VmHWM"), seconds, int(rows["requests"].sum()), rows.height
