"""The raw paths of a file and how often each came: what `pathstats paths try` folds. Nothing is ingested.

A file is a list of paths, one a line, when each line of its beginning begins with a slash: no log format's lines do.
Else it is a log in one of the known formats.
"""

import dataclasses
import pathlib
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.parsed import LogFormat, after, parse_block
from pathstats_pipeline.intake.ingest import SAMPLE_LINES, FormatChooser
from pathstats_pipeline.intake.lines import SourceError, open_source, read_blocks

LIST: Final = "paths"
"""The format's name of a list of paths, one a line."""

_FOLD_AT: Final = 1_000_000
"""Rows that are held before they are counted together again."""


@dataclasses.dataclass(frozen=True)
class RawPaths:
    """Distinct raw paths (NULL among them where a log had none) with their requests: columns `path`, `requests`."""

    format_name: str
    counts: pl.DataFrame
    rejected_lines: int

    @property
    def requests(self) -> int:
        """All requests: each line of a list is one, blank ones are none."""
        return int(self.counts["requests"].sum())


def count_paths(
    path: pathlib.Path, chooser: FormatChooser, *, as_list: bool = False, may_be_list: bool = True
) -> RawPaths:
    """Count the raw paths of a file: plain, gzip or zstd, a list of paths or a log.

    It is read as a list where `as_list` says so, or where `may_be_list` allows it and its beginning looks like one.
    Memory grows with the distinct paths only. Raises SourceError for a file that can't be read or that holds no path.
    """
    held: list[pl.DataFrame] = []
    rows, rejected, name = 0, 0, LIST
    log_format: LogFormat | None = None
    with open_source(path) as stream:
        for number, block in enumerate(read_blocks(stream)):
            if number == 0 and not (as_list or (may_be_list and _is_list(block.lines))):
                log_format = chooser(block.lines.head(SAMPLE_LINES))
                name = log_format.name
            if log_format is None:
                paths = block.lines.filter(block.lines.str.strip_chars() != "").rename("path")
            else:
                parsed = parse_block(log_format, block)
                log_format = after(log_format, block)
                paths, rejected = parsed.events["path"], rejected + parsed.rejected.height
            held.append(paths.to_frame("path").group_by("path").agg(requests=pl.len().cast(pl.Int64)))
            rows += held[-1].height
            if rows > _FOLD_AT:
                held = [_together(held)]
                rows = 0
    counts = _together(held) if held else pl.DataFrame(schema={"path": pl.String, "requests": pl.Int64})
    if counts.is_empty():
        raise SourceError(f"{path}: no paths in it (read as {name}, {rejected} line(s) rejected)")
    return RawPaths(name, counts, rejected)


def _is_list(lines: pl.Series) -> bool:
    beginning = lines.head(SAMPLE_LINES).drop_nulls()
    beginning = beginning.filter(beginning.str.strip_chars() != "")
    return not beginning.is_empty() and bool(beginning.str.starts_with("/").all())


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("path").agg(pl.col("requests").sum())
