"""The two pairs of sketches that a row can hold, which of them a state is, and what each promises.

`PATHSTATS_SKETCHES` chooses the pair that hours are built with; what reads or merges rows asks the states themselves,
through this room. States of two pairs are never merged. How a sketch works stands in the module of its kind.
"""

import dataclasses
import datetime as dt
import enum
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.stats import bloom, framing, latency, reservoir, visitors

LATENCY: Final = "latency_sketch"
VISITORS: Final = "visitors_sketch"
SKETCH_COLUMNS: Final = (LATENCY, VISITORS)
DAMAGED_SKETCHES: Final = "damaged_sketches"

_TIMES: Final = ("hour", "day")


class SketchChoice(enum.StrEnum):
    """The values of `PATHSTATS_SKETCHES`."""

    TDIGEST_HLL = "tdigest_hll"
    RESERVOIR_BLOOM = "reservoir_bloom"


class LatencyKernel(Protocol):
    """What a module of latency sketches does for rows of statistics; a sketch is the module's own struct."""

    @property
    def KIND(self) -> framing.Kind:  # noqa: N802 - a module's constant
        """The kind of its states."""

    def merge(self, sketches: Any, groups: npt.NDArray[Any], n_groups: int) -> Any:
        """Merge sketch i into output group `groups[i]`."""

    def merge_all(self, parts: Iterable[Any]) -> Any:
        """Merge all sketches of all parts into one, the same as at once, and hold little more than a part."""

    def percentiles(self, sketches: Any, quantiles: Sequence[float]) -> npt.NDArray[np.float64]:
        """Values in ms [group, quantile]."""

    def encode(self, sketches: Any) -> pl.Series:
        """States [group]."""

    def decode_readable(self, states: pl.Series) -> tuple[Any, tuple[framing.Damaged, ...]]:
        """Sketches [row], empty where NULL or damaged, and the damaged rows."""


class VisitorKernel(Protocol):
    """What a module of visitor sketches does for rows of statistics; a sketch is the module's own struct."""

    @property
    def KIND(self) -> framing.Kind:  # noqa: N802 - a module's constant
        """The kind of its states."""

    def merge(self, sketches: Any, groups: npt.NDArray[Any], n_groups: int) -> Any:
        """Merge sketch i into output group `groups[i]`."""

    def concatenate(self, parts: Sequence[Any]) -> Any:
        """The sketches of all parts as one struct."""

    def estimate(self, sketches: Any) -> npt.NDArray[np.int64]:
        """Visitors [group]."""

    def encode(self, sketches: Any) -> pl.Series:
        """States [group]."""

    def decode_readable(self, states: pl.Series) -> tuple[Any, tuple[framing.Damaged, ...]]:
        """Sketches [row], empty where NULL or damaged, and the damaged rows."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A latency kernel and a visitor kernel, how each approximates, and by how much where it isn't exact.

    `rank_error_pp` is in percentage points by percentile, `bound` says what sort of bound it is, and `visitors_error`
    is the relative standard error.
    """

    choice: SketchChoice
    latency: LatencyKernel
    visitors: VisitorKernel
    latency_how: str
    visitors_how: str
    rank_error_pp: Mapping[str, float]
    bound: str
    visitors_error: float

    @property
    def how(self) -> str:
        """Both approximations, in a few words."""
        return f"{self.latency_how}; {self.visitors_how}"


PAIRS: Final[Mapping[SketchChoice, Pair]] = {
    SketchChoice.TDIGEST_HLL: Pair(
        choice=SketchChoice.TDIGEST_HLL,
        latency=latency,
        visitors=visitors,
        latency_how=f"t-digest, compression {latency.COMPRESSION}",
        visitors_how=f"HyperLogLog, p = {visitors.PRECISION}",
        rank_error_pp={"p50": 0.5, "p95": 0.2, "p99": 0.1},
        bound="(measured, docs/sketches.md)",
        visitors_error=1.04 / visitors.REGISTERS**0.5,
    ),
    SketchChoice.RESERVOIR_BLOOM: Pair(
        choice=SketchChoice.RESERVOIR_BLOOM,
        latency=reservoir,
        visitors=bloom,
        latency_how=f"uniform sample of at most {reservoir.CAPACITY:,} times",
        visitors_how=f"Bloom filter of {bloom.BITS:,} bits",
        rank_error_pp=reservoir.RANK_ERROR_PP,
        bound="(99.7 % confidence)",
        visitors_error=bloom.RELATIVE_ERROR,
    ),
}

_KERNELS: Final[Mapping[str, Mapping[SketchChoice, framing.Kind]]] = {
    LATENCY: {choice: pair.latency.KIND for choice, pair in PAIRS.items()},
    VISITORS: {choice: pair.visitors.KIND for choice, pair in PAIRS.items()},
}


class MixedSketchesError(ValueError):
    """Rows that are to be merged hold states of both pairs; the message is one line that names a row of each."""


def sketch_kind(state: bytes) -> str:
    """What a state of either column is, and how it approximates; raises ValueError for bytes that are no state."""
    for choice, pair in PAIRS.items():
        for kernel, how in ((pair.latency, pair.latency_how), (pair.visitors, pair.visitors_how)):
            if state.startswith(kernel.KIND.magic):
                return f"{choice.value}: {how}"
    raise ValueError(f"no sketch state: it begins with {state[:4]!r}")


def column_of(kind: framing.Kind) -> str:
    """The column that states of a kind stand in."""
    return LATENCY if kind in _KERNELS[LATENCY].values() else VISITORS


def row_name(row: Mapping[str, Any]) -> str:
    """A row of statistics in a message: its hour or day, method and path, as far as it has them."""
    time = row.get("hour") or row.get("day")
    shown = [time.isoformat(timespec="minutes") if isinstance(time, dt.datetime) else str(time)] if time else []
    return " ".join([*shown, *(str(row[name]) for name in ("method", "path") if name in row)]) or "the row"


def pair_of(rows: pl.DataFrame) -> Pair:
    """The pair that rows hold; the default one where no state says which. Raises MixedSketchesError."""
    [(pair, _)] = split_by_pair(rows, ()) or [(PAIRS[SketchChoice.TDIGEST_HLL], rows)]
    return pair


def split_by_pair(rows: pl.DataFrame, by: Sequence[str]) -> list[tuple[Pair, pl.DataFrame]]:
    """Rows by the pair that they hold, for a merge by these keys; no rows, no parts.

    Parts have no hour or day of `by` in common: one that holds states of both pairs raises MixedSketchesError, and so
    do rows of both that are merged over time. Rows without a state that says so join the others of their time.
    """
    if rows.is_empty():
        return []
    held = [choice for choice in SketchChoice if _holds(rows, choice)]
    if len(held) <= 1:
        return [(PAIRS[held[0] if held else SketchChoice.TDIGEST_HLL], rows)]
    kinds = rows.select(_kind_of(column) for column in SKETCH_COLUMNS)
    times = [name for name in by if name in _TIMES]
    choice = pl.coalesce(kinds.columns).alias("choice")
    keyed = kinds.with_columns(choice, *rows.select(times)).with_row_index("row")
    _refuse_mixed(rows, keyed, times)
    owner = pl.col("choice").drop_nulls().first()
    chosen = keyed.select((owner.over(times) if times else owner).fill_null(held[0].value)).to_series()
    return [(PAIRS[each], rows.filter(chosen == each.value)) for each in held]


def _holds(rows: pl.DataFrame, choice: SketchChoice) -> bool:
    return any(bool(rows[column].bin.starts_with(_KERNELS[column][choice].magic).any()) for column in SKETCH_COLUMNS)


def _kind_of(column: str) -> pl.Expr:
    found: Any = pl.when(pl.col(column).is_null()).then(None)
    for choice, kind in _KERNELS[column].items():
        found = found.when(pl.col(column).bin.starts_with(kind.magic)).then(pl.lit(choice.value))
    kinds: pl.Expr = found.otherwise(None).alias(column)
    return kinds


def _refuse_mixed(rows: pl.DataFrame, keyed: pl.DataFrame, times: list[str]) -> None:
    """Raise MixedSketchesError where one time, or all rows where there is none, has states of both pairs."""
    states = pl.concat([keyed.select(*times, "row", pl.col(column).alias("choice")) for column in SKETCH_COLUMNS])
    firsts = states.drop_nulls("choice").group_by(*times, "choice").agg(pl.col("row").min()).sort(*times, "choice")
    for one, other in itertools.pairwise(firsts.to_dicts()):
        if all(one[name] == other[name] for name in times):
            names = [row_name(rows.row(each["row"], named=True)) for each in (one, other)]
            raise MixedSketchesError(
                f"{names[0]} holds {one['choice']} sketches and {names[1]} holds {other['choice']} ones, which can't "
                "be merged: build the hours of one of them again with the other's PATHSTATS_SKETCHES, or ask for "
                "them apart"
            )


@dataclasses.dataclass(frozen=True)
class DamagedSketch:
    """A state that can't be read: its row's hour or day and name, the column, and why."""

    time: dt.date | None
    row: str
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.row}: {self.column}: {self.reason}"


class DamageList:
    """Gathers the damaged states of rows while they are merged; give it to `rollup.merge_statistics`."""

    def __init__(self, rows: pl.DataFrame) -> None:
        """Take the rows that will be merged: damage is told by their number."""
        self._rows = rows.select(name for name in (*_TIMES, "path", "method") if name in rows.columns)
        self.sketches: list[DamagedSketch] = []
        """The damaged states so far."""
        self._damaged: list[int] = []

    def of_day(self, day: dt.date) -> list[DamagedSketch]:
        """The damaged states of one day."""
        return [
            each
            for each in self.sketches
            if (each.time.date() if isinstance(each.time, dt.datetime) else each.time) == day
        ]

    def counts(self, merged: pl.DataFrame) -> pl.Series:
        """How many damaged states were left out of each merged row [row], by its path and method."""
        key = ["path", "method"]
        damaged = self._rows[self._damaged].group_by(key).agg(pl.len().cast(pl.Int64).alias(DAMAGED_SKETCHES))
        joined = merged.select(key).join(damaged, on=key, how="left", maintain_order="left")
        return joined[DAMAGED_SKETCHES].fill_null(0)

    def __call__(self, kind: framing.Kind, damaged: Sequence[framing.Damaged]) -> None:
        """Take note of damaged states of one kind."""
        self._damaged += [each.row for each in damaged]
        for each in damaged:
            row = self._rows.row(each.row, named=True)
            time = next((row[name] for name in _TIMES if name in row), None)
            self.sketches.append(DamagedSketch(time, row_name(row), column_of(kind), each.reason))
