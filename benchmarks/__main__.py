"""`python -m benchmarks [--only NAME] [--scale small|full]`: the comparisons, one `bench` line for each verdict."""

import argparse
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks import (
    accuracy,
    archive_memory,
    archive_vs_duckdb,
    archive_vs_json_loop,
    hourly,
    hourly_memory,
    ingest_vs_duckdb_json,
    merge_month,
)
from benchmarks.comparison import Scale

COMPARISONS: Final[dict[str, Callable[[Scale], Iterator[str]]]] = {
    "hourly": hourly.compare,
    "hourly_memory": hourly_memory.compare,
    "merge_month": merge_month.compare,
    "accuracy": accuracy.compare,
    "archive_vs_duckdb": archive_vs_duckdb.compare,
    "archive_vs_json_loop": archive_vs_json_loop.compare,
    "ingest_vs_duckdb_json": ingest_vs_duckdb_json.compare,
    "archive_memory": archive_memory.compare,
}
"""Each by its name; a new one is a file with a `compare`, and a line here."""

ON_REQUEST: Final = frozenset({"archive_memory", "hourly_memory"})
"""Too slow to be run unless asked for by name."""


def main() -> None:
    """Run what was asked for, printing each line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with peers in one process run.")
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="just this comparison; may be repeated")
    parser.add_argument("--scale", type=Scale, choices=list(Scale), default=Scale.SMALL, help="how many events")
    arguments = parser.parse_args()
    for name in arguments.only or [name for name in COMPARISONS if name not in ON_REQUEST]:
        for text in COMPARISONS[name](arguments.scale):
            print(text, flush=True)


if __name__ == "__main__":
    main()
