"""Runs of commands that died in the middle: nobody else would ever end them, or give their slots of the pool back.

A command runs its jobs in its own process, which no run monitoring looks after. So it holds a lock for as long as it
lives, and its runs name it: a run whose command is dead on this host is given up by whoever comes next, a command or a
sensor.
"""

import contextlib
import fcntl
import pathlib
import secrets
import socket
from collections.abc import Iterator
from typing import Final

import dagster as dg

from pathstats_pipeline.defs.jobs import UNFINISHED

COMMAND_TAG: Final = "pathstats/command"
_FOLDER: Final = "commands"
_LOOKED_AT: Final = 100


@contextlib.contextmanager
def living(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """The tags of the runs of this process; while the context is open, nobody takes them for dead."""
    name = secrets.token_hex(8)
    path = _lock_of(instance, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield {COMMAND_TAG: f"{socket.gethostname()}/{name}"}
        finally:
            path.unlink(missing_ok=True)


def give_up(instance: dg.DagsterInstance) -> list[str]:
    """End the runs of commands that died on this host, and free their slots; their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)), limit=_LOOKED_AT):
        host, _, name = run.tags.get(COMMAND_TAG, "").partition("/")
        if name and host == socket.gethostname() and not _lives(_lock_of(instance, name)):
            instance.report_run_failed(run, "the command that ran it died")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            _lock_of(instance, name).unlink(missing_ok=True)
            ended.append(run.run_id)
    return ended


def _lock_of(instance: dg.DagsterInstance, name: str) -> pathlib.Path:
    return pathlib.Path(instance.root_directory) / _FOLDER / f"{name}.lock"


def _lives(lock_path: pathlib.Path) -> bool:
    try:
        with lock_path.open("rb") as lock:
            # Shared, so that two who look at once don't take each other for the command.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
