"""The benchmarks run, both sides agree, and their lines have the form that the contract promises. No timing here."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from benchmarks import ingest_vs_goaccess
from benchmarks.comparison import Scale

ROOT = pathlib.Path(__file__).parents[1]
LINE = re.compile(
    r"bench (\w+) ours=[0-9.]+(s|us|pp|%|MiB) peer=[0-9.]+(s|us|pp|%|MiB) ratio=[0-9.]+ goal=[0-9.]+ (met|missed)"
)


def _verdicts(*options: str) -> list[str]:
    """The names of the comparisons that were printed, in order; every `bench` line has the promised form."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--scale", "tiny", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    matches = [LINE.fullmatch(text) for text in run.stdout.splitlines() if text.startswith("bench ")]
    assert all(matches), run.stdout
    return [match[1] for match in matches if match]


def test_comparisons_with_other_engines_print_their_lines_and_agree() -> None:
    """A comparison whose sides disagree ends the run with an error. `make bench` installs the engines."""
    pytest.importorskip("chdb", reason="extra `bench` is not installed: run `make bench` once")

    assert _verdicts("--only", "hourly", "--only", "merge_month", "--only", "archive_vs_engines") == [
        "hourly_vs_clickhouse",
        "hourly_vs_duckdb",
        "hourly_vs_objects",
        "merge_month",
        "merge_month_to_one_row",
        "archive_vs_duckdb",
        "archive_vs_clickhouse",
        "archive_size_vs_clickhouse",
    ]


def test_every_other_comparison_prints_its_lines_and_its_sides_agree() -> None:
    """A comparison whose sides disagree ends the run with an error."""
    names = ["accuracy", "archive_vs_json_loop", "ingest_vs_duckdb"]

    assert _verdicts(*(option for name in names for option in ("--only", name))) == [
        "accuracy_visitors",
        "accuracy_p50",
        "accuracy_p95",
        "accuracy_p99",
        "accuracy_p99_9",
        "archive_vs_json_loop",
        "ingest_vs_duckdb_json_canonical",
        "ingest_vs_duckdb_json_nginx",
        "ingest_vs_duckdb_csv_combined",
    ]


def test_combined_logs_are_compared_with_goaccess_where_it_is_installed() -> None:
    """Without it there is no verdict, and no error; the real log is there for some checkouts only."""
    names = _verdicts("--only", "ingest_vs_goaccess")

    assert names[:1] == (["ingest_vs_goaccess"] if shutil.which("goaccess") else [])
    assert set(names[1:]) <= {"ingest_vs_goaccess_real"}


def test_a_comparison_without_its_peer_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and the run goes on."""
    monkeypatch.setattr(shutil, "which", lambda _: None)

    [said] = ingest_vs_goaccess.compare(Scale.TINY)
    assert said.endswith("apt-get install goaccess")


def test_the_memory_of_an_hour_is_measured_on_request() -> None:
    """One line for each hour."""
    names = ["4_million", "40_million", "million_paths", "one_path"]
    assert _verdicts("--only", "hourly_memory") == [f"hourly_memory_{name}" for name in names]


def test_an_unknown_comparison_is_refused() -> None:
    """`--only` takes the names of comparisons and nothing else."""
    with pytest.raises(AssertionError, match="invalid choice"):
        _verdicts("--only", "nothing")
