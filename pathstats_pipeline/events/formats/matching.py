"""Regular expressions over a block: each line is read by the first pattern that fits it.

Patterns are ordered from the ordinary to the odd, so a block of ordinary lines is read once. They are anchored and
never ambiguous where speed matters: Rust's `regex` then needs one pass (four times faster than with backtracking).
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

_SLICE_LINES: Final = 16_384
"""Slices of a block are read in parallel; smaller ones cost more than they save."""


def first_match(frame: pl.DataFrame, patterns: Sequence[str]) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Read `line` by each pattern in turn; give a frame of `index` and named groups for each one, and the rest.

    The first named group of a pattern must take part in every match: that is how a match is told from none. The
    indexes of all returned frames together are those of `frame`, each once.
    """
    matched: list[pl.DataFrame] = []
    for pattern in patterns:
        if frame.is_empty():
            break
        groups = _groups(frame["line"], pattern)
        fits = groups.to_series(0).is_not_null()
        groups.insert_column(0, frame["index"])
        if fits.all():
            matched.append(groups)
            frame = frame.clear()
        elif fits.any():
            matched.append(groups.filter(fits))
            frame = frame.filter(~fits)
    return matched, frame


def _groups(lines: pl.Series, pattern: str) -> pl.DataFrame:
    """Give the named groups of a pattern, one row for each line, all NULL where it does not fit."""
    slices = max(1, min(pl.thread_pool_size(), lines.len() // _SLICE_LINES))
    rows = -(-lines.len() // slices)
    queries = [
        part.to_frame().lazy().select(pl.col("line").str.extract_groups(pattern).struct.unnest())
        for part in (lines.slice(start, rows) for start in range(0, lines.len(), rows))
    ]
    return pl.concat(pl.collect_all(queries))
