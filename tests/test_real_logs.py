"""Real logs, from file to statistics to archive, held against exact figures that were made without sketches."""

import datetime as dt
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest
from commands import Nursery, Shell
from conftest import new_bucket, s3_settings

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.intake.lines import open_source, read_blocks
from pathstats_pipeline.stats.rollup import merge_statistics
from pathstats_pipeline.storage.local_s3 import LocalS3

SPANS = {
    "haproxy.log": ("2012-02-02", "2012-02-18"),
    "apache_combined.log": ("2015-05-17", "2015-05-21"),
}
LOGS = sorted(SPANS)
RANK_TOLERANCE = 0.01
EXACT_VISITORS = 100
_RANGE = "dagster/asset_partition_range_{}"


@pytest.fixture(scope="module")
def golden(shared_data: pathlib.Path) -> Mapping[str, Any]:
    """The exact figures of the real logs."""
    figures: Mapping[str, Any] = json.loads((shared_data / "golden.json").read_text())
    return figures


@pytest.fixture(scope="module")
def built(
    shared_data: pathlib.Path, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, s3_server: LocalS3
) -> Shell:
    """Both logs ingested and built, through the commands."""
    s3 = tuple(s3_settings(s3_server, new_bucket(s3_server)).items())
    shell = Shell(tmp_path_factory.mktemp("real") / "home", s3, nursery)
    shell.ok("ingest", *(shared_data / log for log in LOGS))
    for start, end in SPANS.values():
        shell.ok("build", "--from", start, "--to", end)
    return shell


def _query(shell: Shell, sql: str) -> pl.DataFrame:
    with duckdb.connect(str(shell.warehouse), read_only=True) as connection:
        frame = pl.from_arrow(connection.execute(sql).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _hourly(shell: Shell, log: str) -> pl.DataFrame:
    start, end = SPANS[log]
    return _query(
        shell, f"SELECT * FROM pathstats.path_stats_hourly WHERE hour >= '{start}' AND hour < '{end}' ORDER BY ALL"
    )


def _figures(golden: Mapping[str, Any], log: str) -> pl.DataFrame:
    """The exact figures by hour; hours without requests aren't in them."""
    rows = [
        {"hour": dt.datetime.strptime(hour, "%Y-%m-%dT%H:%MZ"), **figures}  # noqa: DTZ007 - naive UTC, as in DuckDB
        for hour, figures in golden[log]["by_hour"].items()
    ]
    hour = pl.col("hour").cast(pl.Datetime("us"))
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(hour).sort("hour")


def test_every_line_is_accounted_for(shared_data: pathlib.Path, tmp_path: pathlib.Path, nursery: Nursery) -> None:
    """Accepted, duplicate and rejected lines add up to the lines of the file."""
    printed = Shell(tmp_path / "home", nursery=nursery).ok("ingest", shared_data / "haproxy.log")

    row = next(line for line in printed.splitlines() if "haproxy.log" in line)
    numbers = [int(cell.strip().replace(",", "")) for cell in row.split("│")[3:7]]
    assert numbers == [17_211, 17_211, 0, 0]


@pytest.mark.parametrize("log", LOGS)
def test_counts_of_each_hour_equal_the_exact_ones(built: Shell, golden: Mapping[str, Any], log: str) -> None:
    """Requests, errors, bytes and, below 100, visitors are exact for each of the hours."""
    exact = _figures(golden, log)
    ours = merge_statistics(_hourly(built, log), by=("hour",)).sort("hour")

    assert exact["hour"].to_list() == ours["hour"].to_list()
    assert golden[log]["hours"] == len(ours)
    for theirs, mine in (("requests", "requests"), ("err4xx", "status_4xx"), ("err5xx", "status_5xx")):
        assert exact[theirs].to_list() == ours[mine].to_list()
    assert exact["bytes"].to_list() == ours["bytes_sent"].to_list()
    few = (exact["uniq"] < EXACT_VISITORS).to_numpy()
    assert exact["uniq"].to_numpy()[few].tolist() == ours["unique_ips"].to_numpy()[few].tolist()


def test_percentiles_of_each_hour_are_within_one_percent_in_rank(
    built: Shell, golden: Mapping[str, Any], shared_data: pathlib.Path
) -> None:
    """Ours lie between the exact percentiles of one point less and one point more."""
    exact = _times_by_hour(shared_data / "haproxy.log")
    ours = merge_statistics(_hourly(built, "haproxy.log"), by=("hour",)).sort("hour")

    assert set(exact) == set(_figures(golden, "haproxy.log")["hour"])
    for row in ours.iter_rows(named=True):
        times = exact[row["hour"]]
        for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            low, high = np.quantile(times, [quantile - RANK_TOLERANCE, min(1.0, quantile + RANK_TOLERANCE)])
            assert low - 1e-9 <= row[f"response_time_ms_{name}"] <= high + 1e-9


def _times_by_hour(log: pathlib.Path) -> dict[dt.datetime, Any]:
    with open_source(log) as stream:
        [block] = read_blocks(stream)
    events = detect(block.lines).parse(block.lines).events.drop_nulls("response_time_ms")
    hours = events.group_by(pl.col("event_time").dt.truncate("1h")).agg("response_time_ms")
    return {hour: np.array(times) for hour, times in hours.iter_rows()}


def test_the_parsed_times_are_the_exact_ones(golden: Mapping[str, Any], shared_data: pathlib.Path) -> None:
    """The times that ranks are judged by give the exact figures' own percentiles."""
    exact = _times_by_hour(shared_data / "haproxy.log")

    for row in _figures(golden, "haproxy.log").iter_rows(named=True):
        theirs = [row[name] * 1_000 for name in ("p50", "p95", "p99")]
        assert np.allclose(theirs, np.quantile(exact[row["hour"]], [0.5, 0.95, 0.99]), rtol=1e-6)


@pytest.mark.parametrize("log", LOGS)
def test_days_are_the_sums_of_their_hours(built: Shell, log: str) -> None:
    """Counts of a day, by path and method, are those of its hours."""
    start, end = SPANS[log]
    hours = _hourly(built, log).with_columns(day=pl.col("hour").dt.date())
    days = _query(built, f"SELECT * FROM pathstats.path_stats_daily WHERE day >= '{start}' AND day < '{end}'")
    keys, counts = ["day", "path", "method"], ["requests", "status_4xx", "bytes_sent", "response_time_ms_count"]

    summed = hours.group_by(keys).agg(pl.col(counts).sum()).sort(keys)
    assert summed.select(keys + counts).rows() == days.sort(keys).select(keys + counts).rows()


def test_ingesting_and_building_again_changes_no_number(
    built: Shell, golden: Mapping[str, Any], shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the revision and the time of computation move, sketch bytes included; no event comes twice."""
    keep = "SELECT * EXCLUDE (revision, computed_at) FROM pathstats."
    tables = {table: f"{keep}{table} ORDER BY ALL" for table in ("path_stats_hourly", "path_stats_daily")}
    before = {table: _query(built, sql) for table, sql in tables.items()}
    revision = _query(built, "SELECT max(revision) FROM pathstats.path_stats_hourly").item()

    printed = built.ok("ingest", *(shared_data / log for log in LOGS))
    for name, value in built.env().items():
        monkeypatch.setenv(name, value)
    _build_in_memory()

    assert "next:" not in printed
    for table, sql in tables.items():
        assert before[table].equals(_query(built, sql))
    assert revision + 1 == _query(built, "SELECT min(revision) FROM pathstats.path_stats_hourly").item()
    events = sum(golden[log]["parsed"] for log in LOGS)
    assert events == _query(built, "SELECT count(*) FROM pathstats.traffic_events").item()


def _build_in_memory() -> None:
    """What `build` runs, on an instance that keeps no history: most of the time goes into writing that to SQLite."""
    with dg.DagsterInstance.ephemeral() as instance:
        for start, end in SPANS.values():
            last = dt.date.fromisoformat(end) - dt.timedelta(days=1)
            for job, first_key, last_key in (
                ("hourly", f"{start}-00:00", f"{last}-23:00"),
                ("daily", start, f"{last}"),
            ):
                run = build_defs().resolve_job_def(job)
                tags = {_RANGE.format("start"): first_key, _RANGE.format("end"): last_key}
                assert run.execute_in_process(instance=instance, tags=tags).success


def test_every_sample_of_other_formats_is_ingested(
    shared_data: pathlib.Path, tmp_path: pathlib.Path, nursery: Nursery
) -> None:
    """Each line of each sample is accepted or rejected; samples of unknown formats are rejected, never refused."""
    files = sorted((shared_data / "formats").iterdir())
    printed = Shell(tmp_path / "home", nursery=nursery).ok("ingest", *files)

    rows = {
        pathlib.Path(cells[1].strip()).name: [int(cell.strip().replace(",", "")) for cell in cells[3:8]]
        for cells in (line.split("│") for line in printed.splitlines() if line.startswith("│"))
    }
    for file in files:
        text = file.read_bytes()
        lines, accepted, duplicate, rejected, header = rows[file.name]
        assert text.count(b"\n") + (not text.endswith(b"\n")) == lines
        assert (lines, 0) == (accepted + rejected + header, duplicate)
