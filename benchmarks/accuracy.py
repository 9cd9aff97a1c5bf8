"""Rank error of percentiles and relative error of visitors, against the exact answers, on data of every shape.

Each data set is sketched at once, and merged in one pass from 1,000 parts that follow each other in it. The rank error
of an estimate is how far it lies from the ranks that its value, or the gap between its neighbours, has in the data.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.comparison import Scale, line
from pathstats_pipeline.stats import latency, visitors

GOALS: Final = {0.5: 0.5, 0.95: 0.2, 0.99: 0.1, 0.999: 0.05}
"""Largest rank error by quantile, in percentage points."""

VISITORS_GOAL: Final = 2 * 1.04 / visitors.REGISTERS**0.5
EXACT_VISITORS: Final = 100
N_PARTS: Final = 1_000

Floats = npt.NDArray[np.float64]
Random = np.random.Generator

SHAPES: Final[dict[str, Callable[[Random, int], Floats]]] = {
    "uniform": lambda random, size: random.random(size) * 1_000,
    "lognormal": lambda random, size: random.lognormal(3, 1, size),
    "bimodal": lambda random, size: random.choice([5.0, 900.0], size) + random.normal(0, 1, size) ** 2,
    "Pareto 1.1": lambda random, size: 1 + random.pareto(1.1, size),
    "constant": lambda _random, size: np.full(size, 42.0),
    "sorted": lambda random, size: np.sort(random.lognormal(3, 1, size)),
    "reversed": lambda random, size: np.sort(random.lognormal(3, 1, size))[::-1],
}


def compare(scale: Scale) -> Iterator[str]:
    """A row for each shape and size, then the worst of each quantile and of the visitors against the goals."""
    largest = scale.pick(tiny=4, small=7, full=7)
    worst = dict.fromkeys(GOALS, 0.0)
    yield "| data | values | at once p50 / p95 / p99 / p99.9 | from 1,000 parts |"
    yield "| --- | --- | --- | --- |"
    for (name, make), power in itertools.product(SHAPES.items(), range(2, largest + 1)):
        values = make(np.random.default_rng(power), 10**power)
        single, merged = rank_errors(values, 1), rank_errors(values, N_PARTS)
        worst = {
            quantile: max(worst[quantile], one, other)
            for quantile, one, other in zip(GOALS, single, merged, strict=True)
        }
        yield f"| {name} | 10^{power} | {_shown(single)} | {_shown(merged)} |"
    yield from _visitor_errors(largest)
    for quantile, goal in GOALS.items():
        yield line(f"accuracy_p{f'{100 * quantile:g}'.replace('.', '_')}", worst[quantile], goal, 1, "pp")


def _shown(errors: list[float]) -> str:
    return " / ".join(f"{error:.3f}" for error in errors)


def rank_errors(values: Floats, n_parts: int) -> list[float]:
    """Rank error in percentage points at each quantile of `GOALS`, of the values' sketch from so many parts."""
    part_of = np.arange(values.size) * n_parts // values.size
    parts = latency.build(part_of, n_parts, values)
    merged = latency.merge(parts, np.zeros(n_parts, np.int64), 1) if n_parts > 1 else parts
    found = latency.percentiles(merged, list(GOALS))[0]
    ordered = np.sort(values)
    return [_rank_error(ordered, quantile, value) for quantile, value in zip(GOALS, found.tolist(), strict=True)]


def _rank_error(ordered: Floats, quantile: float, value: float) -> float:
    wanted = quantile * (ordered.size - 1)
    # Between two neighbours any value is right for every rank between theirs.
    low = np.searchsorted(ordered, value, side="left") - 1
    high = np.searchsorted(ordered, value, side="right")
    return 100 * max(low - wanted, wanted - high, 0.0) / ordered.size


def _visitor_errors(largest: int) -> Iterator[str]:
    yield "| visitors | relative error |"
    yield "| --- | --- |"
    worst = 0.0
    for power in range(2, largest + 1):
        error = visitor_error(10**power)
        assert power > 2 or error == 0
        worst = max(worst, abs(error))
        yield f"| 10^{power} | {100 * error:+.2f} % |"
    yield line("accuracy_visitors", 100 * worst, 100 * VISITORS_GOAL, 1, "%")


def visitor_error(count: int) -> float:
    """Relative error of the estimate for so many addresses, made in parts."""
    sketches: Any = None
    for first in range(0, count, 1_000_000):
        size = min(1_000_000, count - first)
        hashes = visitors.hash_clients(_addresses(first, size)).to_numpy()
        part = visitors.build(np.zeros(size, np.int64), 1, hashes)
        both = part if sketches is None else visitors.concatenate([sketches, part])
        sketches = visitors.merge(both, np.zeros(len(both), np.int64), 1)
    return float(visitors.estimate(sketches)[0] / count - 1)


def _addresses(first: int, size: int) -> pl.Series:
    number = pl.int_range(first, first + size, eager=True)
    return pl.select(pl.format("10.{}.{}.{}", number // 65536, number // 256 % 256, number % 256)).to_series()
