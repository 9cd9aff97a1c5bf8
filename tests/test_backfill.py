"""A backfill as an operator launches it: over the real daemon, run workers in parallel, one DuckDB file."""

import collections
import datetime as dt
import pathlib
from typing import Any

import duckdb
from commands import Shell
from dagster_server import CHECKED, Server, serving, verdicts_of, wait_for

from pathstats_pipeline.sample import write_sample
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.local_sqs import LocalSqs

DAYS = 2
EVENTS_PER_DAY = 9_000
END = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOURLY = ["raw_events", "path_stats_hourly"]
DAILY = ["path_stats_daily", "events_archive", "archive_metadata", "events_cleanup"]


def test_a_backfill_of_hours_and_days_runs_in_parallel_without_a_lock_error(tmp_path: pathlib.Path) -> None:
    """48 hours and 2 days are materialised, no run fails, no run meets the file's lock, and nothing is lost.

    The local SQS server runs beside it, and no longer: what was sent before is drained by the sensor's run.
    """
    shell = Shell(tmp_path / "home", (("PATHSTATS_START_DATE", "2026-02-01"),))
    files = write_sample(tmp_path / "logs", end=END, days=DAYS, events_per_day=EVENTS_PER_DAY)
    shell.ok("ingest", *files)
    days = [(END - dt.timedelta(days=ago)).date() for ago in range(DAYS, 0, -1)]
    hours = [f"{day}-{hour:02d}:00" for day in days for hour in range(24)]

    # It holds no event, so that it changes no number; it waits in the local queue for whoever drains it.
    (tmp_path / "message").write_text("no event")
    shell.ok("queue", "send", tmp_path / "message")
    local_queue = LocalSqs(shell.home / "sqs")

    with serving(shell, tmp_path / "dev.log") as server:
        assert local_queue._lives()
        # Two backfills of the same hours at once, on top of each other: the second must find nothing to add.
        _succeed(server, *(server.launch_backfill(HOURLY, hours) for _ in range(2)))
        _succeed(server, server.launch_backfill(DAILY, list(map(str, days))))
        # Over days that are archived and cleaned up: the numbers come from the archive, and are the same.
        before = _statistics(shell)
        _succeed(server, server.launch_backfill(HOURLY, hours))
        assert _statistics(shell) == before

        others = [run for run in server.runs() if run["jobName"] != "drain"]
        assert set(collections.Counter(run["status"] for run in others)) == {"SUCCESS"}
        assert {asset: server.materialized(asset) for asset in [*HOURLY, *DAILY]} == {
            **dict.fromkeys(HOURLY, 24 * DAYS),
            **dict.fromkeys(DAILY, DAYS),
        }
        # One run had all days.
        assert verdicts_of(server.ask(CHECKED)) == {f"{days[0]} to {days[-1]}": "SUCCEEDED", "latest": "SUCCEEDED"}
        wait_for("a drain", lambda: ("drain", "SUCCESS") in _jobs(server.runs()), 120)

    assert not local_queue._lives()
    assert "Could not set lock" not in (tmp_path / "dev.log").read_text()
    with duckdb.connect(str(shell.warehouse), read_only=True) as connection:
        requests, daily_requests, archived, rejected, left = [
            connection.execute(f"SELECT {what}").fetchall()[0][0]
            for what in (
                "sum(requests) FROM pathstats.path_stats_hourly",
                "sum(requests) FROM pathstats.path_stats_daily",
                "sum(rows) FROM pathstats.archives",
                "count(*) FROM pathstats.rejected_events",
                "count(*) FROM pathstats.traffic_events",
            )
        ]
    assert requests == daily_requests == archived == DAYS * EVENTS_PER_DAY - rejected
    assert left == 0


def _succeed(server: Server, *backfills: str) -> None:
    """Wait until backfills have succeeded, and until no run is left that others started meanwhile."""
    for backfill in backfills:
        wait_for("a backfill", lambda backfill=backfill: server.backfill_status(backfill) in _ENDED, 420)  # type: ignore[misc]
    assert {server.backfill_status(each) for each in backfills} == {"COMPLETED_SUCCESS"}
    wait_for("all runs", lambda: not _unfinished(server.runs()), 120)


def _statistics(shell: Shell) -> list[Any]:
    """All rows of the hourly statistics, sketches included, but for what a rebuild changes."""
    # Sensors look into it meanwhile: in turn.
    with open_connection(shell.warehouse, lock_timeout_seconds=60) as connection:
        return connection.execute(
            "SELECT * EXCLUDE (revision, computed_at) FROM pathstats.path_stats_hourly ORDER BY ALL"
        ).fetchall()


def _unfinished(runs: list[dict[str, Any]]) -> list[str]:
    return [run["runId"] for run in runs if run["status"] not in {"SUCCESS", "FAILURE", "CANCELED"}]


def _jobs(runs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(run["jobName"], run["status"]) for run in runs}


_ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}
