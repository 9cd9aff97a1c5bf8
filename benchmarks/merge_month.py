"""A month's top list out of 30 days x 24 hours x 5,000 paths, beside Apache DataSketches' merge of as many states.

Each side merges, from their bytes, all states of a path into one, and reads p95 and visitors off it, in a process of
its own; then all states of all paths into one row, which is the largest key that a month can have. Every hour has
events of its own, or equal times would be joined. At scale `small` both sides get fewer paths, and the line says so.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import datasketches
import numpy as np
import polars as pl

from benchmarks.comparison import Scale, apart, line, reset_peak, status_mb
from pathstats_pipeline.stats import hourly, latency, visitors
from pathstats_pipeline.stats.rollup import merge_statistics

GOAL: Final = 1.0
N_HOURS: Final = 720
_SAMPLES: Final = 40
_COMPRESSION: Final = latency.COMPRESSION
_PRECISION: Final = visitors.PRECISION
_N_PATHS: Final = 5_000


@dataclasses.dataclass(frozen=True)
class Merged:
    """What a side did: MiB of its process before, states a second and peak above that in MiB, and p95 by key."""

    before_mb: float
    states_per_second: float
    above_mb: float
    p95: dict[str, float]


def compare(scale: Scale) -> Iterator[str]:
    """The same events on both sides; the numbers must be near."""
    n_paths = scale.pick(tiny=20, small=500, full=_N_PATHS)
    n_hours = scale.pick(tiny=24, small=N_HOURS, full=N_HOURS)
    if n_paths < _N_PATHS:
        yield f"merge_month: {n_paths} paths of {_N_PATHS}, {n_hours} hours of {N_HOURS}"
    ours, peer = apart(_ours, n_paths, n_hours), apart(_peer, n_paths, n_hours)
    for name, our_side, peer_side in zip(("merge_month", "merge_month_to_one_row"), ours, peer, strict=True):
        assert our_side.p95.keys() == peer_side.p95.keys()
        assert np.allclose(list(our_side.p95.values()), [peer_side.p95[key] for key in our_side.p95], rtol=0.1)
        for whose, side in (("ours", our_side), ("Apache DataSketches", peer_side)):
            yield (
                f"{name}: {whose} {side.states_per_second:.0f} states/s, peak {side.above_mb:.0f} MiB above the states "
                f"in a process of {side.before_mb:.0f} MiB"
            )
        yield line(name, 1e6 / our_side.states_per_second, 1e6 / peer_side.states_per_second, GOAL, "us")


def _hour(hour: int, n_paths: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of an hour: path, time and address of each. Zipf: the first path has thousands, the last a few."""
    random = np.random.default_rng(hour)
    of_path = np.maximum(3, _SAMPLES * n_paths / np.arange(1, n_paths + 1) / np.log(n_paths)).astype(np.int64)
    paths = np.repeat(np.arange(n_paths), of_path)
    return paths, np.round(random.lognormal(3, 1, paths.size), 3), random.integers(0, 200_000, paths.size)


def _rows(hour: int, n_paths: int) -> pl.DataFrame:
    """Rows of statistics of an hour, with only the states that are merged."""
    paths, times, addresses = _hour(hour, n_paths)
    hashes = visitors.hash_clients(pl.Series(addresses).cast(pl.String)).to_numpy()
    measures = hourly.sketch_measures(
        latency.build(paths, n_paths, times), visitors.build(paths, n_paths, hashes.astype(np.uint64))
    )
    counts = np.bincount(paths)
    zeros = {name: np.zeros(n_paths, np.int64) for name in ("status_3xx", "status_4xx", "status_5xx", "bytes_sent")}
    return measures.with_columns(
        path=pl.Series([f"/p{number}" for number in range(n_paths)]),
        requests=pl.Series(counts),
        status_2xx=pl.Series(counts),
        **{name: pl.Series(values) for name, values in zeros.items()},
    )


def _timed(n_states: int, merge: Callable[[], dict[str, float]]) -> Merged:
    """One merge of so many states, with its time and its peak."""
    reset_peak()
    before, started = status_mb("VmRSS"), time.perf_counter()
    p95 = merge()
    seconds = time.perf_counter() - started
    return Merged(before, n_states / seconds, max(status_mb("VmHWM") - before, 0), p95)


def _ours(n_paths: int, n_hours: int) -> tuple[Merged, Merged]:
    rows = pl.concat([_rows(hour, n_paths) for hour in range(n_hours)], rechunk=True)

    def by_path() -> dict[str, float]:
        return dict(merge_statistics(rows, ["path"]).select("path", "response_time_ms_p95").rows())

    def to_one_row() -> dict[str, float]:
        return {"": merge_statistics(rows, [])["response_time_ms_p95"][0]}

    return _timed(2 * rows.height, by_path), _timed(2 * rows.height, to_one_row)


def _peer(n_paths: int, n_hours: int) -> tuple[Merged, Merged]:
    digests: list[list[bytes]] = [[] for _ in range(n_paths)]
    sets: list[list[bytes]] = [[] for _ in range(n_paths)]
    for hour in range(n_hours):
        paths, times, addresses = _hour(hour, n_paths)
        borders = np.searchsorted(paths, np.arange(n_paths + 1)).tolist()
        for path in range(n_paths):
            part = slice(borders[path], borders[path + 1])
            digest = datasketches.tdigest_double(_COMPRESSION)
            digest.update(times[part])
            digests[path].append(digest.serialize())
            sketch = datasketches.hll_sketch(_PRECISION, datasketches.tgt_hll_type.HLL_6)
            for address in addresses[part].tolist():
                sketch.update(str(address))
            sets[path].append(sketch.serialize_compact())

    def by_path() -> dict[str, float]:
        return {f"/p{path}": _merge(digests[path], sets[path]) for path in range(n_paths)}

    def to_one_row() -> dict[str, float]:
        return {"": _merge(itertools.chain.from_iterable(digests), itertools.chain.from_iterable(sets))}

    n_states = 2 * n_paths * n_hours
    return _timed(n_states, by_path), _timed(n_states, to_one_row)


def _merge(digests: Iterable[bytes], sets: Iterable[bytes]) -> float:
    """The 95th percentile of all states of one key; its visitors are merged and estimated too."""
    whole = datasketches.tdigest_double(_COMPRESSION)
    union = datasketches.hll_union(_PRECISION)
    for digest, sketch in zip(digests, sets, strict=True):
        whole.merge(datasketches.tdigest_double.deserialize(digest))
        union.update(datasketches.hll_sketch.deserialize(sketch))
    union.get_result(datasketches.tgt_hll_type.HLL_6).serialize_compact()
    whole.serialize()
    assert union.get_estimate() > 0
    return float(whole.get_quantile(0.95))
