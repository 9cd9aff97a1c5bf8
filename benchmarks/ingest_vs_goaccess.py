"""A combined log into a landing zone, beside GoAccess, which counts the same file into a JSON report.

Both on one core, by their CPU time: threads help neither, and what else the machine does counts for neither. GoAccess
is a whole process, ours a call; the files are large enough that its start is lost in them. Neither looks up places.
"""

import json
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Final

import polars as pl

from benchmarks import logs
from benchmarks.comparison import Scale, apart, cpu_seconds, line, one_core, take_turns

GOAL: Final = 1.0
_REAL: Final = pathlib.Path(__file__).parents[2] / "shared" / "data" / "apache_combined.log"
"""10,000 lines of a public site, beside the checkout where somebody has put them."""


def compare(scale: Scale) -> Iterator[str]:
    """Synthetic traffic of an hour, and where it is at hand a real log over and over."""
    if shutil.which("goaccess") is None:
        yield "ingest_vs_goaccess: left out, for there is no goaccess here: apt-get install goaccess"
        return
    rows = scale.pick(tiny=4_000, small=1_000_000, full=2_000_000)
    rounds = scale.pick(tiny=1, small=3, full=3)
    with one_core():
        yield from apart(_compare, "ingest_vs_goaccess", None, rows, rounds)
        if _REAL.exists():
            yield from apart(_compare, "ingest_vs_goaccess_real", _REAL, rows, rounds)


def _compare(name: str, real: pathlib.Path | None, rows: int, rounds: int) -> list[str]:
    assert pl.thread_pool_size() == 1
    with tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder:
        source, landing, report = (pathlib.Path(folder, each) for each in ("access.log", "landing", "report.json"))
        if real is None:
            logs.write(source, rows, "combined")
        else:
            _repeat(real, source, rows)
        turns = take_turns(
            lambda: logs.ingest(source, landing, "combined"), lambda: _goaccess(source, report), rounds, cpu_seconds
        )
    assert turns.ours.lines == turns.peer
    assert turns.ours.accepted > 0.99 * turns.peer
    ours, peer = (turns.peer / seconds for seconds in (turns.ours_seconds, turns.peer_seconds))
    return [
        f"ingest: combined: {ours:,.0f} lines a second of CPU time on one core, GoAccess {peer:,.0f}",
        line(name, turns.ours_seconds, turns.peer_seconds, GOAL),
    ]


def _repeat(log: pathlib.Path, path: pathlib.Path, rows: int) -> None:
    text = log.read_bytes()
    with path.open("wb") as file:
        for _ in range(max(1, rows // text.count(b"\n"))):
            file.write(text)


def _goaccess(source: pathlib.Path, report: pathlib.Path) -> int:
    """How many lines it has counted, those included that it could not read."""
    options = ["--log-format=COMBINED", "--no-progress", "--no-global-config", "-o", str(report)]
    subprocess.run(["goaccess", str(source), *options], check=True, capture_output=True)  # noqa: S607
    total: int = json.loads(report.read_bytes())["general"]["total_requests"]
    return total
