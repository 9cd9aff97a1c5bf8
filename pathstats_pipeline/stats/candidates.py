"""The library check, "phase 0" of the design: what every sketch that could stand in a row has to show, measured.

A candidate is a small adapter behind one Protocol: values in, state out and back, answer. Ours run through the same
check as the libraries. Add a candidate with a class here and a row in `CANDIDATES`; a library that isn't installed is
listed as absent. The round trip through DuckDB and the clock are handed in; printing is report.py's.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import pickle
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.stats import bloom, latency, reservoir, visitors

Role = Literal["latency", "visitors"]

EVENTS_TIMED: Final = 100
EVENTS_MEASURED: Final = 10_000
TIME_LIMIT_MS: Final = 10.0
SIZE_LIMIT_BYTES: Final = 1_000_000
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
RANK_LIMITS_PP: Final = {
    "t-digest (ours)": (0.5, 0.2, 0.1),
    "reservoir (ours, fallback)": tuple(reservoir.RANK_ERROR_PP.values()),
}
COUNT_LIMITS: Final = {
    "HyperLogLog (ours)": 2 * 1.04 / visitors.REGISTERS**0.5,
    "Bloom filter (ours, fallback)": 2 * bloom.RELATIVE_ERROR,
}

_SEED: Final = 20_261_122
_TIMED_ROUNDS: Final = 9

Values = npt.NDArray[np.float64]


class Candidate(Protocol):
    """One way to sketch times (floats, ms) or visitors (whole numbers as floats): build, save, load, answer."""

    def build(self, values: Values) -> Any:
        """A sketch of the values, from nothing: what a cell costs."""

    def save(self, sketch: Any) -> bytes:
        """Its state."""

    def load(self, state: bytes) -> Any:
        """The sketch of a state."""

    def answer(self, sketch: Any) -> list[float]:
        """The percentiles of `QUANTILES` in ms, or the one count of visitors."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A candidate's name, what it sketches, the distribution and module that it needs, and how it is made."""

    name: str
    role: Role
    distribution: str
    module: str
    make: Callable[[Any], Candidate]
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the check measured of one candidate, or that it is absent (`version` is None).

    `errors` are rank errors in percentage points at p50, p95 and p99, or the one relative error of the count;
    `limits` are those of our own candidates. `failures` are reasons in words; none, and it passed.
    """

    name: str
    role: Role
    distribution: str
    version: str | None
    ours: bool = False
    round_trip: bool = False
    time_ms: float = 0.0
    state_bytes: int = 0
    instance_bytes: int = 0
    errors: tuple[float, ...] = ()
    limits: tuple[float, ...] | None = None

    @property
    def failures(self) -> list[str]:
        """Why the candidate does not pass."""
        if self.version is None:
            return []
        found = []
        if not self.round_trip:
            found.append("its state does not survive a BLOB")
        if self.time_ms >= TIME_LIMIT_MS:
            found.append(f"{EVENTS_TIMED} events take {self.time_ms:.1f} ms")
        if max(self.state_bytes, self.instance_bytes) >= SIZE_LIMIT_BYTES:
            found.append(f"it takes {max(self.state_bytes, self.instance_bytes):,} bytes")
        if self.limits and any(error > limit for error, limit in zip(self.errors, self.limits, strict=True)):
            found.append("its error is above its bound")
        return found


def verify(through_blob: Callable[[bytes], bytes], clock: Callable[[], float] = time.perf_counter) -> Iterator[Finding]:
    """Check every candidate: the round trip of its state, time of 100 events, size, error on fixed values.

    `through_blob` writes bytes to a BLOB column and reads them back; `clock` gives seconds.
    """
    for entry in CANDIDATES:
        try:
            candidate = entry.make(importlib.import_module(entry.module))
        except ImportError:
            yield Finding(entry.name, entry.role, entry.distribution, version=None)
            continue
        yield _measure(entry, candidate, through_blob, clock)


def sample_of(role: Role, count: int) -> Values:
    """The fixed values of the check: lognormal times, or distinct visitors."""
    if role == "visitors":
        return np.arange(count, dtype=np.float64)
    return np.random.default_rng(_SEED).lognormal(3, 1.5, count)


def _measure(
    entry: Entry, candidate: Candidate, through_blob: Callable[[bytes], bytes], clock: Callable[[], float]
) -> Finding:
    values = sample_of(entry.role, EVENTS_MEASURED)
    tracemalloc.start()
    sketch = candidate.build(values)
    instance_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    state = candidate.save(sketch)
    returned = through_blob(state)
    answer = candidate.answer(sketch)
    limits = RANK_LIMITS_PP.get(entry.name) or ((COUNT_LIMITS[entry.name],) if entry.name in COUNT_LIMITS else None)
    return Finding(
        entry.name,
        entry.role,
        entry.distribution,
        version=importlib.metadata.version(entry.distribution),
        ours=entry.ours,
        round_trip=returned == state and candidate.answer(candidate.load(returned)) == answer,
        time_ms=_median_ms(lambda few: candidate.answer(candidate.build(few)), values[:EVENTS_TIMED], clock),
        state_bytes=len(state),
        instance_bytes=instance_bytes,
        errors=_rank_errors(answer, values) if entry.role == "latency" else (abs(answer[0] / len(values) - 1),),
        limits=limits,
    )


def _median_ms(work: Callable[[Values], object], values: Values, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(_TIMED_ROUNDS):
        began = clock()
        work(values)
        times.append((clock() - began) * 1_000)
    return statistics.median(times)


def _rank_errors(answer: Sequence[float], values: Values) -> tuple[float, ...]:
    """How far, in percentage points, the rank of each answered percentile lies from its own; ties count for it."""
    ordered = np.sort(values)
    low, high = (np.searchsorted(ordered, answer, side) / ordered.size for side in ("left", "right"))
    wanted = np.array(list(QUANTILES.values()))
    return tuple((100 * np.maximum(0, np.maximum(low - wanted, wanted - high))).tolist())


def _one_group(values: Values) -> npt.NDArray[np.int64]:
    return np.zeros(values.size, np.int64)


def _hashes(values: Values) -> npt.NDArray[np.uint64]:
    """Hashes of the visitors' numbers, as of addresses."""
    return visitors.hash_clients(pl.Series(values).cast(pl.Int64).cast(pl.String)).to_numpy()


class _OurLatency:
    """stats/latency/, one cell."""

    def build(self, values: Values) -> Any:
        return latency.build(_one_group(values), 1, values)

    def save(self, sketch: Any) -> bytes:
        return bytes(latency.encode(sketch)[0])

    def load(self, state: bytes) -> Any:
        return latency.decode(pl.Series([state], dtype=pl.Binary))

    def answer(self, sketch: Any) -> list[float]:
        return list(map(float, latency.percentiles(sketch, list(QUANTILES.values()))[0]))


class _OurReservoir:
    """stats/reservoir.py, one cell."""

    def build(self, values: Values) -> Any:
        ids = pl.Series(np.arange(values.size)).cast(pl.String)
        return reservoir.build(_one_group(values), 1, values, reservoir.tag_events(ids))

    def save(self, sketch: Any) -> bytes:
        return bytes(reservoir.encode(sketch)[0])

    def load(self, state: bytes) -> Any:
        return reservoir.decode_readable(pl.Series([state], dtype=pl.Binary))[0]

    def answer(self, sketch: Any) -> list[float]:
        return list(map(float, reservoir.percentiles(sketch, list(QUANTILES.values()))[0]))


class _OurVisitors:
    """stats/visitors.py, one cell."""

    def build(self, values: Values) -> Any:
        return visitors.build(_one_group(values), 1, _hashes(values))

    def save(self, sketch: Any) -> bytes:
        return bytes(visitors.encode(sketch)[0])

    def load(self, state: bytes) -> Any:
        return visitors.decode(pl.Series([state], dtype=pl.Binary))

    def answer(self, sketch: Any) -> list[float]:
        return [float(visitors.estimate(sketch)[0])]


class _OurBloom:
    """stats/bloom.py, one cell."""

    def build(self, values: Values) -> Any:
        return bloom.build(_one_group(values), 1, _hashes(values))

    def save(self, sketch: Any) -> bytes:
        return bytes(bloom.encode(sketch)[0])

    def load(self, state: bytes) -> Any:
        return bloom.decode_readable(pl.Series([state], dtype=pl.Binary))[0]

    def answer(self, sketch: Any) -> list[float]:
        return [float(bloom.estimate(sketch)[0])]


@dataclasses.dataclass(frozen=True)
class _PlainTDigest:
    """`tdigest.TDigest`, fed one value after the other; its state as JSON."""

    module: Any

    def build(self, values: Values) -> Any:
        digest = self.module.TDigest()
        for value in values.tolist():
            digest.update(value)
        return digest

    def save(self, sketch: Any) -> bytes:
        return json.dumps(sketch.to_dict()).encode()

    def load(self, state: bytes) -> Any:
        saved = json.loads(state)
        digest = self.module.TDigest(delta=saved["delta"], K=saved["K"])
        # Not update_from_dict: it merges centroids again, in random order.
        for centroid in saved["centroids"]:
            digest.C.insert(centroid["m"], self.module.tdigest.Centroid(centroid["m"], centroid["c"]))
        digest.n = saved["n"]
        return digest

    def answer(self, sketch: Any) -> list[float]:
        return [float(sketch.percentile(100 * quantile)) for quantile in QUANTILES.values()]


@dataclasses.dataclass(frozen=True)
class _PlainHyperLogLog:
    """`datasketch.HyperLogLogPlusPlus`, fed one visitor after the other."""

    module: Any

    def build(self, values: Values) -> Any:
        sketch = self.module.HyperLogLogPlusPlus(p=visitors.PRECISION, hashfunc=visitors.hash_client)
        for value in values.tolist():
            sketch.update(b"%d" % int(value))
        return sketch

    def save(self, sketch: Any) -> bytes:
        return np.asarray(sketch.reg, np.int8).tobytes()

    def load(self, state: bytes) -> Any:
        registers = np.frombuffer(state, np.int8)
        return self.module.HyperLogLogPlusPlus(reg=registers.copy(), hashfunc=visitors.hash_client)

    def answer(self, sketch: Any) -> list[float]:
        return [float(sketch.count())]


@dataclasses.dataclass(frozen=True)
class _ApacheQuantiles:
    """A quantile sketch of Apache DataSketches, by the name of its class and its size parameter."""

    module: Any
    kind: str
    size: int

    def build(self, values: Values) -> Any:
        sketch = getattr(self.module, self.kind)(self.size)
        sketch.update(values)
        return sketch

    def save(self, sketch: Any) -> bytes:
        return bytes(sketch.serialize())

    def load(self, state: bytes) -> Any:
        return getattr(self.module, self.kind).deserialize(state)

    def answer(self, sketch: Any) -> list[float]:
        return [float(sketch.get_quantile(quantile)) for quantile in QUANTILES.values()]


@dataclasses.dataclass(frozen=True)
class _ApacheCounts:
    """A distinct count of Apache DataSketches, by the name of its class and its logarithmic size."""

    module: Any
    kind: str
    log_size: int

    def build(self, values: Values) -> Any:
        sketch = getattr(self.module, self.kind)(self.log_size)
        for value in values.tolist():
            sketch.update(int(value))
        return sketch

    def save(self, sketch: Any) -> bytes:
        return bytes(sketch.serialize_compact() if hasattr(sketch, "serialize_compact") else sketch.serialize())

    def load(self, state: bytes) -> Any:
        return getattr(self.module, self.kind).deserialize(state)

    def answer(self, sketch: Any) -> list[float]:
        return [float(sketch.get_estimate())]


@dataclasses.dataclass(frozen=True)
class _PlainBloom:
    """`rbloom.Bloom` as its README makes one, 1 % false positives, fed with hashes."""

    module: Any

    def build(self, values: Values) -> Any:
        sketch = self.module.Bloom(EVENTS_MEASURED, 0.01, bloom.spread)
        sketch.update(_hashes(values).tolist())
        return sketch

    def save(self, sketch: Any) -> bytes:
        return bytes(sketch.save_bytes())

    def load(self, state: bytes) -> Any:
        return self.module.Bloom.load_bytes(state, bloom.spread)

    def answer(self, sketch: Any) -> list[float]:
        return [float(sketch.approx_items)]


@dataclasses.dataclass(frozen=True)
class _PybloomLive:
    """`pybloom_live.BloomFilter`, 1 % false positives: it counts what it took for new while adding."""

    module: Any

    def build(self, values: Values) -> Any:
        sketch = self.module.BloomFilter(EVENTS_MEASURED, 0.01)
        for value in values.tolist():
            sketch.add(int(value))
        return sketch

    def save(self, sketch: Any) -> bytes:
        return pickle.dumps(sketch)

    def load(self, state: bytes) -> Any:
        return pickle.loads(state)  # noqa: S301 - written by save

    def answer(self, sketch: Any) -> list[float]:
        return [float(len(sketch))]


def _apache(name: str, role: Role, kind: str, size: int) -> Entry:
    adapter: Callable[..., Candidate] = _ApacheQuantiles if role == "latency" else _ApacheCounts
    return Entry(name, role, "datasketches", "datasketches", lambda module: adapter(module, kind, size))


_PACKAGE: Final = "pathstats-pipeline"
_OURS: Final = "pathstats_pipeline.stats"

CANDIDATES: Final = (
    Entry("t-digest (ours)", "latency", _PACKAGE, f"{_OURS}.latency", lambda _: _OurLatency(), ours=True),
    Entry("HyperLogLog (ours)", "visitors", _PACKAGE, f"{_OURS}.visitors", lambda _: _OurVisitors(), ours=True),
    Entry(
        "reservoir (ours, fallback)", "latency", _PACKAGE, f"{_OURS}.reservoir", lambda _: _OurReservoir(), ours=True
    ),
    Entry("Bloom filter (ours, fallback)", "visitors", _PACKAGE, f"{_OURS}.bloom", lambda _: _OurBloom(), ours=True),
    Entry("tdigest.TDigest", "latency", "tdigest", "tdigest", _PlainTDigest),
    _apache("datasketches.tdigest_double", "latency", "tdigest_double", 200),
    _apache("datasketches.kll_doubles_sketch", "latency", "kll_doubles_sketch", 200),
    _apache("datasketches.req_floats_sketch", "latency", "req_floats_sketch", 12),
    Entry("datasketch.HyperLogLogPlusPlus", "visitors", "datasketch", "datasketch", _PlainHyperLogLog),
    _apache("datasketches.hll_sketch", "visitors", "hll_sketch", visitors.PRECISION),
    _apache("datasketches.cpc_sketch", "visitors", "cpc_sketch", 11),
    Entry("rbloom.Bloom", "visitors", "rbloom", "rbloom", _PlainBloom),
    Entry("pybloom_live.BloomFilter", "visitors", "pybloom-live", "pybloom_live", _PybloomLive),
)
"""Ours first, then the libraries by what they sketch."""
