"""Dagster's servers of `pathstats dev`: one set for a home, and none of them outlives the command.

Two daemons on one home would both ask for every run. The servers are a process group of their own, and a minder ends
what is left of it as soon as the command is done, or killed. Nothing here imports Dagster: a refusal takes no time.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

from pathstats_pipeline.storage.local_server import try_lock, wait_until

LOCK_NAME: Final = "dev.lock"
LEADER_SECONDS: Final = 30.0
"""How long `dagster dev` may take to stop its servers in order."""
REST_SECONDS: Final = 10.0
"""How long what is left of the group may take then: a run in hand, which the next one finishes."""
KILLED_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
_MIND: Final = "from pathstats_pipeline.defs.serving import mind; mind()"
_SUPERSEDED: Final = "ignore:Function `dev_command` is superseded"
"""`dg dev`, which Dagster recommends, is a package more and wants a project laid out for it."""


class AlreadyServingError(RuntimeError):
    """Servers of `pathstats dev` run on this home; one line that says how to stop them."""


@contextlib.contextmanager
def alone(home: pathlib.Path, url: str) -> Iterator[IO[str]]:
    """Hold the home's lock while the context is open; raises AlreadyServingError where others have it.

    The servers of a command that was killed are being stopped by their minder: they are waited for. The lock is handed
    to `dagster dev` and to the minder, and so is held until both of them are gone, too.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_NAME).open("a+") as lock:
        deadline = time.monotonic() + LEADER_SECONDS + REST_SECONDS + KILLED_SECONDS
        while not try_lock(lock):
            holder = _read(lock)
            if _lives(holder.get("pid")) or time.monotonic() > deadline:
                raise AlreadyServingError(_in_words(holder))
            time.sleep(_POLL_SECONDS)
        _write(lock, {"pid": os.getpid(), "url": url})
        yield lock


def _in_words(holder: Mapping[str, Any]) -> str:
    pid, url, group = holder.get("pid"), holder.get("url"), holder.get("group")
    if _lives(pid):
        return f"pathstats dev already runs on this home (pid {pid}, {url}); stop it first"
    how = f"stop them with: kill -- -{group}" if group else "stop them first"
    return f"servers of a pathstats dev that was killed (pid {pid}, {url}) still run on this home; {how}"


def serve(host: str, port: int, environment: Mapping[str, str], lock: IO[str]) -> int:
    """Run Dagster's web server and daemon until they are told to stop; their exit code.

    `environment` holds the settings with paths that mean the same in any working directory.
    """
    workspace = pathlib.Path("workspace.yaml").absolute()
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "pathstats_pipeline.definitions", "-a", "defs"]
    command = [sys.executable, "-W", _SUPERSEDED, "-m", "dagster", "dev", *where, "-h", host, "-p", str(port)]
    with _minder(lock) as tell_minder, _forwarding() as receivers:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # From its home: beside a dagster.yaml that is not the instance's, it would warn that it doesn't use that.
            cwd=os.environ["DAGSTER_HOME"],
            env={**os.environ, **environment},
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        receivers.append(server)
        tell_minder(server.pid)
        _write(lock, {**_read(lock), "group": server.pid})
        return server.wait()


@contextlib.contextmanager
def _minder(lock: IO[str]) -> Iterator[Callable[[int], None]]:
    """Have a process that ends the group it is told of when the context is over, or this process gone."""
    with subprocess.Popen(
        [sys.executable, "-c", _MIND],
        # Nobody else has the other end of this pipe, so it ends with this process at the latest.
        stdin=subprocess.PIPE,
        text=True,
        pass_fds=(lock.fileno(),),
        start_new_session=True,
    ) as minder:

        def tell(group: int) -> None:
            assert minder.stdin is not None  # noqa: S101 - narrows the type
            minder.stdin.write(str(group))
            minder.stdin.flush()

        yield tell


def mind() -> None:
    """Wait until the command at the other end of stdin is done or dead; then end the group that it named."""
    if group := sys.stdin.read():
        end_group(int(group))


def end_group(group: int) -> None:
    """End a process group: its leader first, which stops its servers in order, then what is left of it."""
    if _signal(os.killpg, group, 0) and _signal(os.kill, group, signal.SIGTERM):
        wait_until(lambda: not _signal(os.kill, group, 0), LEADER_SECONDS)
    for number, seconds in ((signal.SIGTERM, REST_SECONDS), (signal.SIGKILL, KILLED_SECONDS)):
        if not _signal(os.killpg, group, number):
            return
        wait_until(lambda: not _signal(os.killpg, group, 0), seconds)


def _signal(send: Callable[[int, int], None], to: int, number: int) -> bool:
    """Send a signal, or with 0 none; whether there was somebody to send it to."""
    try:
        send(to, number)
    except (ProcessLookupError, PermissionError):  # the latter is macOS's word for a group of zombies
        return False
    return True


@contextlib.contextmanager
def _forwarding() -> Iterator["list[subprocess.Popen[bytes]]"]:
    """Pass signals on to who is put into the list, and don't die of them before it has stopped its servers.

    It is to be started in here: of what a shell ignores for a job in the background, it would never stop otherwise.
    """
    receivers: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _frame: types.FrameType | None) -> None:
        if not receivers:
            sys.exit(128 + number)
        for receiver in receivers:
            receiver.send_signal(number if number == signal.SIGINT else signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield receivers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lives(pid: int | None) -> bool:
    return pid is not None and _signal(os.kill, pid, 0)


def _read(lock: IO[str]) -> dict[str, Any]:
    """Who has the lock; empty in the moment before it is written."""
    lock.seek(0)
    try:
        return dict(json.loads(lock.read() or "{}"))
    except ValueError:
        return {}


def _write(lock: IO[str], holder: Mapping[str, Any]) -> None:
    lock.truncate(0)
    lock.write(json.dumps(holder))
    lock.flush()
