"""Dagster's daemon as a process, with a clock that the test sets: simulated days without waiting for them."""

import contextlib
import dataclasses
import datetime as dt
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
from commands import PROJECT, Shell
from conftest import new_bucket, s3_client_of, s3_settings
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from pathstats_pipeline.defs.jobs import UNFINISHED
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects

SENSOR = "due_runs"
SETTLE_SECONDS = 240
_FAST = """
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
"""
"""So that runs begin a second after they were asked for, and not five."""


@dataclasses.dataclass
class Site:
    """Settings, state and an instance of their own, with a clock; the daemon runs while `daemon` is open."""

    folder: pathlib.Path
    shell: Shell
    instance: dg.DagsterInstance
    objects: S3Objects
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def clock(self) -> pathlib.Path:
        """The file that says what time it is."""
        return self.folder / "clock"

    def set_clock(self, now: dt.datetime) -> None:
        """Make it so late, for all processes."""
        fresh = self.folder / "clock.new"
        fresh.write_text(now.isoformat())
        fresh.rename(self.clock)

    def start(self) -> None:
        """Start the daemon, in a session of its own."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [pathlib.Path(sys.executable).with_name("dagster-daemon"), "run", "-m", "faults.clocked", "-a", "defs"],
                cwd=self.folder,
                env=self.shell.env(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """A power cut: SIGKILL for the daemon, its code server and its run workers."""
        assert self.process
        while pids := _processes_with(f"TEST_CLOCK={self.clock}"):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            time.sleep(0.1)

    def kill_a_worker(self) -> str:
        """SIGKILL for the process of a run that is at it, and nobody else; the run's id."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            for lock in (self.folder / "dagster" / "running").glob("*.lock"):
                for pid in _holders_of(lock):
                    os.kill(pid, signal.SIGKILL)
                    return lock.stem
        raise AssertionError("no run was ever at it")

    def stop(self) -> None:
        """Stop the daemon in order, and then what it has left behind."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        self.kill()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until nothing is under way and automation, asked again, has nothing to ask for."""
        begun, end = time.time(), time.monotonic() + seconds
        while True:
            assert time.monotonic() < end, f"not settled: {self._state()}\n{self._log()}"
            time.sleep(0.5)
            if self.instance.get_runs_count(dg.RunsFilter(statuses=list(UNFINISHED))):
                begun = time.time()
            elif (tick := self._last_tick()) and tick.timestamp > begun and tick.status is TickStatus.SKIPPED:
                assert "nothing" in (tick.skip_reason or ""), tick.skip_reason
                # A run that ended right after it was asked may have left something to do.
                if "under way" not in (tick.skip_reason or ""):
                    return

    def _last_tick(self) -> InstigatorTick | None:
        states = [state for state in self.instance.all_instigator_state() if state.name == SENSOR]
        ticks = [
            tick
            for state in states
            for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        ]
        return ticks[0] if ticks else None

    def _state(self) -> str:
        runs = self.instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)))
        return f"{[(run.job_name, run.status.value) for run in runs]}, last tick {self._last_tick()}"

    def _log(self) -> str:
        return (self.folder / "daemon.log").read_text()[-3_000:]

    def materializations(self, asset: str) -> list[str]:
        """The partition of each materialisation of an asset, oldest first."""
        found: list[str] = []
        cursor = None
        while True:
            result = self.instance.fetch_materializations(dg.AssetKey(asset), limit=500, cursor=cursor, ascending=True)
            found += [record.partition_key or "" for record in result.records]
            cursor = result.cursor
            if not result.has_more:
                return found


def _processes_with(variable: str) -> list[int]:
    """The living processes that have a variable in their environment."""
    found = []
    for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def _holders_of(path: pathlib.Path) -> list[int]:
    """The processes that have a file open."""
    found = []
    for descriptor in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == path:
                found.append(int(descriptor.parts[2]))
    return found


@contextlib.contextmanager
def site(folder: pathlib.Path, server: LocalS3, first_day: dt.date, yaml: str = "", **settings: str) -> Iterator[Site]:
    """A site whose partitions begin on a day; `yaml` is put at the end of the project's `dagster.yaml`."""
    home = folder / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text() + _FAST + yaml)
    bucket = new_bucket(server)
    environment = {
        **s3_settings(server, bucket),
        **{f"PATHSTATS_{name}": value for name, value in settings.items()},
        "PATHSTATS_START_DATE": str(first_day),
        "PATHSTATS_AUTOMATION_SECONDS": "1",
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(PROJECT / "tests"),
        "TEST_CLOCK": str(folder / "clock"),
    }
    shell = Shell(folder / "home", tuple(environment.items()))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        # A fresh SQLite instance that two processes open at once is damaged for good.
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        instance.event_log_storage.get_pool_limits()
        here = Site(folder, shell, instance, S3Objects(s3_client_of(server), bucket, "archive"))
        try:
            yield here
        finally:
            if here.process:
                here.stop()
