"""What an answer is worth: how many samples stand behind it, which rows are exact, and the bound of the others.

Read off the states of merged rows, never assumed. How it is shown is the business of report.py and of
defs/presentation.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.stats import framing, pairs

PERCENTILES_EXACT: Final = "percentiles_exact"
VISITORS_EXACT: Final = "visitors_exact"

_EXACT_FLAG: Final = 1
"""Of latency states: all samples are kept. Of visitor states the same bit says the opposite: not all hashes are."""


@dataclasses.dataclass(frozen=True)
class Exactness:
    """The statement of exactness of merged rows.

    `samples` are requests with a usable time and `dropped` those with a NaN, infinite or negative one. Of the rows
    that have samples (`timed_rows`) or visitors (`visited_rows`) some are exact; in the others percentiles keep
    `rank_error_pp`, in percentage points of rank, and visitors `visitors_error`, a relative standard error.
    `damaged` sketches could not be read: their times or visitors are missing.
    """

    pair: pairs.Pair
    requests: int
    samples: int
    dropped: int
    rejected_lines: int
    timed_rows: int
    exact_percentiles: int
    visited_rows: int
    exact_visitors: int
    damaged: int

    @property
    def rejected_share(self) -> float:
        """Rejected lines among all lines."""
        lines = self.requests + self.rejected_lines
        return self.rejected_lines / lines if lines else 0.0

    @property
    def rank_error_pp(self) -> Mapping[str, float]:
        """Bound of the rank error by percentile, in percentage points, of rows that aren't exact."""
        return self.pair.rank_error_pp

    @property
    def visitors_error(self) -> float:
        """Relative standard error of the visitors of rows that aren't exact."""
        return self.pair.visitors_error

    def lines(self) -> list[str]:
        """The statement in words, a few lines."""
        untimed = self.requests - self.samples - self.dropped
        bounds, names = "/".join(map(str, self.rank_error_pp.values())), "/".join(self.rank_error_pp)
        times = f"{self.samples:,} with a response time, {untimed:,} without{' or damaged' if self.damaged else ''}"
        rejected = f"{self.rejected_lines:,} rejected lines ({self.rejected_share:.2%})"
        exact_times = f"exact in {self.exact_percentiles:,} of {self.timed_rows:,} rows"
        exact_visitors = f"exact in {self.exact_visitors:,} of {self.visited_rows:,} rows"
        lines = [
            f"{self.requests:,} requests: {times}, {self.dropped:,} dropped (NaN, infinite or negative); {rejected}",
            f"percentiles: {exact_times}, else within {bounds} percentage points of rank at {names} {self.pair.bound}",
            f"visitors: {exact_visitors}, else ± {self.visitors_error:.2%} (standard error)",
            f"sketches: {self.pair.choice.value} ({self.pair.how})",
        ]
        if self.damaged:
            lines.append(f"incomplete: {self.damaged:,} damaged sketch(es) left out")
        return lines


def of_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Whether the percentiles and the visitors of each row [row] are exact; NULL where it has none. Reads headers."""
    pair = pairs.pair_of(rows)
    timed, exact, _ = _read(rows[pairs.LATENCY], pair.latency.KIND)
    visited, inexact, _ = _read(rows[pairs.VISITORS], pair.visitors.KIND)
    timed &= (rows["response_time_ms_count"] > 0).to_numpy()
    return pl.DataFrame({PERCENTILES_EXACT: exact, VISITORS_EXACT: ~inexact}).select(
        pl.when(pl.Series(timed)).then(PERCENTILES_EXACT), pl.when(pl.Series(visited)).then(VISITORS_EXACT)
    )


def statement(rows: pl.DataFrame, shown: pl.DataFrame, rejected_lines: int, damaged: int = 0) -> Exactness:
    """The statement for rows of one merge, of which those in `shown` are the answer.

    Sums are those of all rows; rows are counted among the shown ones.
    """
    pair = pairs.pair_of(rows)
    flags = of_rows(shown)
    *_, dropped = _read(rows[pairs.LATENCY], pair.latency.KIND)
    return Exactness(
        pair=pair,
        requests=int(rows["requests"].sum()),
        samples=int(rows["response_time_ms_count"].sum()),
        dropped=dropped,
        rejected_lines=rejected_lines,
        timed_rows=flags[PERCENTILES_EXACT].count(),
        exact_percentiles=int(flags[PERCENTILES_EXACT].sum()),
        visited_rows=flags[VISITORS_EXACT].count(),
        exact_visitors=int(flags[VISITORS_EXACT].sum()),
        damaged=damaged,
    )


def _read(states: pl.Series, kind: framing.Kind) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], int]:
    """Which rows have a state, which have the first flag, and the sum of dropped times where the kind counts them."""
    frames = framing.open_states(states, kind)
    present, flagged = np.zeros(len(states), np.bool_), np.zeros(len(states), np.bool_)
    present[frames.rows] = True
    flagged[frames.rows] = frames.headers["flags"] & _EXACT_FLAG > 0
    names = kind.header.names or ()
    return present, flagged, int(frames.headers["dropped"].sum()) if "dropped" in names else 0
