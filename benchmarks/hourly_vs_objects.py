"""An hour's statistics beside the plain loop over `tdigest` and `datasketch` objects, one of each for a cell.

The loop is run on a sample of the same events, and its time scaled to all of them.
"""

import collections
from collections.abc import Iterator
from typing import Any, Final

import polars as pl
import xxhash
from datasketch import HyperLogLogPlusPlus
from tdigest import TDigest

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.stats.hourly import path_statistics

GOAL: Final = 0.02
_PRECISION: Final = 14


def compare(scale: Scale) -> Iterator[str]:
    """One hour as a frame; the loop gets every so many-th event of it."""
    rows = scale.pick(tiny=4_000, small=1_000_000, full=4_000_000)
    sample_rows = scale.pick(tiny=400, small=20_000, full=20_000)
    hour = pl.concat(traffic.events(rows, traffic.HOUR))
    sample = hour.gather_every(rows // sample_rows)
    turns = take_turns(lambda: path_statistics(hour), lambda: _objects(sample), rounds=3)
    _assert_same(path_statistics(sample), turns.peer)
    factor = rows / len(sample)
    yield f"hourly_vs_objects: the peer's time is that of {len(sample)} events, times {factor:g}"
    yield line("hourly_vs_objects", turns.ours_seconds, turns.peer_seconds * factor, GOAL)


def _objects(events: pl.DataFrame) -> dict[tuple[str, str], tuple[int, float, int]]:
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


def _assert_same(ours: pl.DataFrame, objects: dict[tuple[str, str], tuple[int, float, int]]) -> None:
    cells = {(path, method): (count, ips) for path, method, count, ips in _cells(ours)}
    assert {cell: facts[0] for cell, facts in objects.items()} == {cell: facts[0] for cell, facts in cells.items()}
    for cell, (count, _, ips) in objects.items():
        assert abs(ips - cells[cell][1]) <= 1 + 0.05 * count


def _cells(statistics: pl.DataFrame) -> Iterator[tuple[str, str, int, int]]:
    return statistics.select("path", "method", "requests", "unique_ips").iter_rows()
