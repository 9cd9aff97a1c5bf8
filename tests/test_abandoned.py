"""A process that is killed in the middle of a run leaves nothing that the next one, or a sensor, would wait for."""

import datetime as dt
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest
from commands import PROJECT, Shell

from pathstats_pipeline.defs.abandoned import give_up, living
from pathstats_pipeline.sample import write_sample
from pathstats_pipeline.storage.duck import exclusive, lock_of

LIMIT_SECONDS = 120


def test_a_killed_build_is_finished_by_the_next_one(tmp_path: pathlib.Path) -> None:
    """SIGKILL while a step holds the pool's slot: the next build gives the run up, takes the slot, and is done."""
    home = tmp_path / "home"
    shell = Shell(home, (("PATHSTATS_START_DATE", "2026-02-27"),))
    end = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    shell.ok("ingest", *write_sample(tmp_path / "logs", end=end, days=1, events_per_day=500))
    build = ["build", "--from", "2026-02-28", "--to", "2026-02-28T02"]
    with exclusive(lock_of(home / "warehouse.duckdb"), timeout_seconds=5, what="this"):
        process = subprocess.Popen([sys.executable, "-m", "pathstats_pipeline", *build], env=shell.env(), cwd=PROJECT)
        assert _wait_for_slot(home), "no step ever took the slot"
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            [run] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        process.send_signal(signal.SIGKILL)
        process.wait()

    shell.ok(*build)
    # The killed one had started it, and nobody else stops it.
    shell.ok("s3", "stop")

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
        assert not instance.event_log_storage.get_concurrency_info("duckdb").claimed_slots
        assert not list((home / "dagster" / "running").iterdir())


def _wait_for_slot(home: pathlib.Path) -> bool:
    """Whether a step holds the pool's slot, waiting for it."""
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        if (home / "dagster" / "dagster.yaml").exists() and (home / "dagster" / "history").exists():
            # Two that open a fresh instance at once damage it: the command makes it while it holds this lock.
            with (home / "dagster" / ".init.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
            with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
                if instance.event_log_storage.get_concurrency_info("duckdb").claimed_slots:
                    return True
        time.sleep(0.5)
    return False


@pytest.fixture
def instance(tmp_path: pathlib.Path) -> dg.DagsterInstance:
    """A real instance in a directory."""
    (tmp_path / "instance").mkdir()
    return dg.DagsterInstance.local_temp(str(tmp_path / "instance"))


def _run(instance: dg.DagsterInstance) -> str:
    """The id of a run that has started."""

    @dg.job
    def some() -> None:
        pass

    return instance.create_run_for_job(some, status=dg.DagsterRunStatus.STARTED).run_id


def test_only_what_died_here_is_given_up(instance: dg.DagsterInstance) -> None:
    """Living runs stay, also of a process that says so twice; and those of other hosts, and of nobody knows whom."""
    mine, ended, elsewhere, dead = (_run(instance) for _ in range(4))
    _die_holding(instance, dead)
    with living(instance, ended):
        pass
    with living(instance, mine):
        with living(instance, mine):
            assert give_up(instance) == [dead]
        assert give_up(instance) == []

    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses.pop(dead) is dg.DagsterRunStatus.FAILURE
    assert statuses == dict.fromkeys([mine, ended, elsewhere], dg.DagsterRunStatus.STARTED)


def test_a_run_whose_failure_could_not_be_recorded_is_given_up(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the command ends by itself, and its run stands there as if it went on."""
    recorded, lost = _run(instance), _run(instance)

    def end_badly(run_id: str) -> None:
        with living(instance, run_id):
            if run_id == recorded:
                instance.report_run_failed(instance.get_run_by_id(run_id))  # type: ignore[arg-type]
            else:
                patched.setattr(type(instance), "get_run_by_id", _raise_full)
            raise OSError("the disk is full")

    for run_id in (recorded, lost):
        with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
            end_badly(run_id)

    assert give_up(instance) == [lost]
    assert not list((pathlib.Path(instance.root_directory) / "running").iterdir())


def _raise_full(*_: object) -> None:
    raise OSError("the disk is full")


def _die_holding(instance: dg.DagsterInstance, run_id: str) -> None:
    """A process that says that the run lives, and is killed."""
    child = os.fork()
    if not child:
        with living(instance, run_id):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_outside_of_a_checkout_commands_have_the_projects_instance_settings(tmp_path: pathlib.Path) -> None:
    """The instance is made with the project's dagster.yaml, wherever the command is run; nothing is asked or told."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PATHSTATS_", "DAGSTER_"))},
        "PATHSTATS_HOME": str(tmp_path / "home"),
        "PATHSTATS_START_DATE": "2026-02-27",
    }
    # Of another project, which has it for itself.
    (tmp_path / "dagster.yaml").write_text("run_queue:\n  max_concurrent_runs: 1\n")
    code = "from pathstats_pipeline.defs.launch import prepare_home; import pathlib, os;"
    code += "prepare_home(pathlib.Path(os.environ['PATHSTATS_HOME']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert (tmp_path / "home" / "dagster" / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()
    assert "dagster.yaml" not in done.stdout + done.stderr
