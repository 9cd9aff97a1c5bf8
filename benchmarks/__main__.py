"""`python -m benchmarks [--only NAME] [--scale small|full]`: the comparisons, one `bench` line for each verdict."""

import argparse
import importlib
from typing import Final

from benchmarks.comparison import Scale

COMPARISONS: Final = (
    "hourly",
    "hourly_memory",
    "merge_month",
    "accuracy",
    "archive_vs_engines",
    "archive_vs_json_loop",
    "ingest_vs_duckdb",
    "ingest_vs_goaccess",
    "archive_memory",
)
"""Each is a file of this folder with a `compare`; imported when it is run, for some need the peers of extra `bench`."""

ON_REQUEST: Final = frozenset({"archive_memory", "hourly_memory"})
"""Too slow to be run unless asked for by name."""


def main() -> None:
    """Run what was asked for, printing each line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with peers in one process run.")
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="just this comparison; may be repeated")
    parser.add_argument("--scale", type=Scale, choices=list(Scale), default=Scale.SMALL, help="how many events")
    arguments = parser.parse_args()
    for name in arguments.only or [name for name in COMPARISONS if name not in ON_REQUEST]:
        for text in importlib.import_module(f"benchmarks.{name}").compare(arguments.scale):
            print(text, flush=True)


if __name__ == "__main__":
    main()
