"""What Dagster costs a partition: a month of hours and days as one backfill through the daemon, beside one run each.

`python -m faults.backfill_overhead` prints runs, wall time and overhead: the seconds that are not reading, reckoning
and writing, which are timed without Dagster on the same files.
"""

import argparse
import collections
import dataclasses
import datetime as dt
import itertools
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Final, NoReturn

from commands import PROJECT, Shell
from dagster_server import Server, serving, wait_for
from landed import land_at

from pathstats_pipeline.archive.history import tally_of
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import DAY, HOUR, Window
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.stats.hourly import event_input, path_statistics
from pathstats_pipeline.stats.pairs import SketchChoice
from pathstats_pipeline.stats.rollup import daily_statistics
from pathstats_pipeline.storage.connect import landing_zone
from pathstats_pipeline.storage.warehouse import open_warehouse

EVENTS_AN_HOUR: Final = 50
GOAL_SECONDS: Final = 0.2
HOURLY: Final = ("raw_events", "path_stats_hourly")
_ENDED: Final = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}
_PATIENCE_SECONDS: Final = 3_600


@dataclasses.dataclass(frozen=True)
class Timed:
    """What a backfill took."""

    partitions: int
    runs: int
    seconds: float

    def overhead(self, work_seconds: float) -> float:
        """Seconds a partition that Dagster took."""
        return (self.seconds - work_seconds) / self.partitions


def no_s3() -> NoReturn:
    """Nothing of this lies on S3."""
    raise AssertionError


def work_seconds(directory: str, warehouse: pathlib.Path, window: Window) -> float:
    """How long the same hours and days take without Dagster."""
    landing = landing_zone(directory, no_s3)
    begun = time.perf_counter()
    with open_warehouse(warehouse, lock_timeout_seconds=5) as store:
        for day in window.days():
            span = Window.of_day(day)
            loaded = load_hours(store, landing, span, span.end)
            assert not loaded.unreadable
            tally = tally_of(store, span, event_input(SketchChoice.TDIGEST_HLL), no_s3)
            rows = path_statistics(tally, rules=(), max_templates=10_000, sketches=SketchChoice.TDIGEST_HLL)
            store.replace_hourly(span, rows, span.end)
            store.replace_daily(span, daily_statistics(store.hourly(span)), span.end)
    return time.perf_counter() - begun


def backfill(server: Server, assets: list[str], keys: list[str]) -> Timed:
    """Launch a backfill as the UI does, and wait for its last run."""
    before = len(server.runs())
    begun = time.perf_counter()
    backfill_id = server.launch_backfill(assets, keys)
    wait_for("the backfill", lambda: server.backfill_status(backfill_id) in _ENDED, _PATIENCE_SECONDS)
    seconds = time.perf_counter() - begun
    assert server.backfill_status(backfill_id) == "COMPLETED_SUCCESS", server.backfill_status(backfill_id)
    return Timed(len(keys), len(server.runs()) - before, seconds)


def one_run_each(server: Server, shell: Shell, keys: list[str]) -> Timed:
    """The same hours as a run each: the command line's backfill of a job doesn't go by ranges."""
    before = len(server.runs())
    begun = time.perf_counter()
    command = [sys.executable, "-m", "dagster", "job", "backfill", "-w", str(PROJECT / "workspace.yaml"), "--noprompt"]
    subprocess.run(
        [*command, "-j", "hourly", "--partitions", ",".join(keys)],
        env={**shell.env(), "DAGSTER_HOME": str(shell.home / "dagster")},
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )

    def is_over() -> bool:
        statuses = collections.Counter(run["status"] for run in server.runs())
        return statuses.total() == before + len(keys) and set(statuses) == {"SUCCESS"}

    wait_for("a run for each hour", is_over, _PATIENCE_SECONDS)
    return Timed(len(keys), len(keys), time.perf_counter() - begun)


def main() -> None:
    """Print runs, wall time and overhead a partition."""
    parser = argparse.ArgumentParser(prog="python -m faults.backfill_overhead", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--single", type=int, default=12, help="hours that are built in a run each")
    arguments = parser.parse_args()
    first = dt.date(2026, 2, 1)
    window = Window(Window.of_day(first).start, Window.of_day(first).start + arguments.days * DAY)
    hours = [f"{hour:%Y-%m-%d-%H:%M}" for hour in window.hours()]
    days = [str(day) for day in window.days()]
    single = [f"{window.end + number * HOUR:%Y-%m-%d-%H:%M}" for number in range(arguments.single)]
    with tempfile.TemporaryDirectory(prefix="pathstats-backfill-") as folder:
        root = pathlib.Path(folder)
        settings = (("PATHSTATS_START_DATE", str(first)), ("PATHSTATS_AUTOMATION", "off"))
        shell = Shell(root / "home", settings)
        landing = str(shell.home / "landing")
        for hour in itertools.chain(window.hours(), Window(window.end, window.end + DAY).hours()):
            land_at(landing, Load(hour, "load"), EVENTS_AN_HOUR)
        work = work_seconds(landing, root / "aside.duckdb", window)
        with serving(shell, root / "dev.log") as server:
            hourly = backfill(server, list(HOURLY), hours)
            daily = backfill(server, ["path_stats_daily"], days)
            each = one_run_each(server, shell, single)
    print(f"without Dagster: {len(hours)} hours and {len(days)} days in {work:.1f} s")
    for name, timed in (("hours", hourly), ("days", daily), ("hours, a run each", each)):
        print(f"{name}: {timed.partitions} partitions, {timed.runs} run(s), {timed.seconds:.1f} s")
    ours = hourly.overhead(work)
    peer = each.overhead(work * each.partitions / len(hours))
    verdict = "met" if ours <= GOAL_SECONDS else "missed"
    print(
        f"bench backfill_overhead ours={ours:.3f}s peer={peer:.3f}s ratio={ours / peer:.3f} "
        f"goal={GOAL_SECONDS}s {verdict}"
    )


if __name__ == "__main__":
    main()
