"""Which format a file is read with: found by itself, named, or JSON lines with a field map of the user's own."""

import pathlib
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.fieldmap import load_map
from pathstats_pipeline.events.formats.jsonl import JsonFormat
from pathstats_pipeline.events.formats.parsed import LogFormat
from pathstats_pipeline.events.formats.registry import FORMATS, choose
from pathstats_pipeline.intake.ingest import FormatChooser

FORMAT_NAMES: Final = ("auto", *sorted(FORMATS))


def format_chooser(name: str, map_file: pathlib.Path | None) -> FormatChooser:
    """The chooser for a format's name; a field map decides on JSON lines, whatever the sample looks like.

    Raises ValueError, in one line, for a field map that can't be read or that goes with another format.
    """
    if map_file is None:
        return lambda sample: choose(name, sample)
    if name not in {"auto", "jsonl"}:
        raise ValueError(f"--map goes with --format jsonl, not with {name}")
    mapped: LogFormat = JsonFormat(load_map(map_file))

    def chosen(_sample: pl.Series) -> LogFormat:
        return mapped

    return chosen
