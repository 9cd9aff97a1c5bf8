"""A server of ours on loopback: one for a directory, started once, shared by all who use it, stopped by the last.

Here: its process, its lock, its ports and its log, whatever it serves. Which program it is, and when it is ready,
stands with each server (local_s3.py, local_sqs.py); production needs nothing of this.

Whether the server of a directory lives is told by a lock that the server process itself holds for its whole life,
so neither a crash nor a re-used process id can make a stale file look like a server. Who uses it holds a share of
another lock, so nobody stops it under somebody else, and one that was left behind by a kill ends with its next use.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Final, Self

LOOPBACK: Final = "127.0.0.1"
REGION: Final = "us-east-1"
READY_LIMIT_SECONDS: Final = 30.0
STOP_LIMIT_SECONDS: Final = 15.0
KILL_LIMIT_SECONDS: Final = 5.0
LOCK_LIMIT_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.05
LAUNCH_ATTEMPTS: Final = 3
PORTS: Final = range(12_000, 22_000)
"""Below the ports that Linux (32768) and macOS (49152) hand to outgoing connections, also with the offset of weed's
second ports, so that a remembered port is rarely taken when the server comes back."""


class LocalServerError(Exception):
    """A local server can't be started, reached or stopped; one line for the person at the terminal."""


@dataclasses.dataclass(frozen=True)
class State:
    """What is remembered of a server: its ports by name, its process (None: not known), and whether it is to stay."""

    ports: Mapping[str, int]
    pid: int | None
    stays: bool = False


@dataclasses.dataclass(frozen=True)
class LocalServer:
    """The server of one directory. Who inherits says what it is called, and how it is launched and asked."""

    directory: Path
    what: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]

    def _command(self, ports: Mapping[str, int]) -> list[str | Path]:
        """The program and its arguments."""
        raise NotImplementedError

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """The whole environment of the program: nothing of the user's reaches it."""
        raise NotImplementedError

    def _choose_ports(self) -> dict[str, int]:
        """Ports for a start, the remembered ones where they are free."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """What must stand in the directory before the first start."""

    def _is_ready(self) -> bool:
        """Whether the server does what it is there for."""
        raise NotImplementedError

    def _tidy(self, ports: Mapping[str, int]) -> None:
        """Remove what the server leaves behind outside of its directory."""

    def start(self) -> bool:
        """Bring the server up, or find it up already, to stay until `stop`; whether it was this call that started it.

        Only one is started however many processes ask at once. Raises LocalServerError, with the last line of the
        server's log, when it doesn't answer in time.
        """
        with self._telling(), locked(self._start_lock_path):
            started = self._start_alone()
            if (state := self._read_state()) and not state.stays:
                self._write_state(dataclasses.replace(state, stays=True))
            return started

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Self]:
        """Have the server up inside the block; who leaves such a block last stops it, unless it is to stay.

        Raises LocalServerError as `start` does.
        """
        with contextlib.ExitStack() as held:
            with self._telling():
                users = held.enter_context(locked(self.directory / "users.lock", shared=True))
                with locked(self._start_lock_path):
                    self._start_alone()
            try:
                yield self
            finally:
                with locked(self._start_lock_path):
                    state = self._read_state()
                    if state and not state.stays and try_lock(users):
                        self._stop()

    def stop(self) -> None:
        """Stop the server that was started in this directory, by whichever process; without one, do nothing."""
        if not self._lives():
            return
        with locked(self._start_lock_path):
            self._stop()

    @property
    def log_path(self) -> Path:
        """The server's log since its last start; the one before stands beside it as `server.log.1`."""
        return self.directory / "server.log"

    def _address(self, name: str) -> str:
        """Where the server listens; known once it has been started for the first time."""
        state = self._read_state()
        if state is None:
            raise LocalServerError(f"the {self.what} of {self.directory} has never been started")
        return f"http://{LOOPBACK}:{state.ports[name]}"

    @property
    def _state_path(self) -> Path:
        return self.directory / "server.json"

    @property
    def _server_lock_path(self) -> Path:
        return self.directory / "server.lock"

    @property
    def _start_lock_path(self) -> Path:
        return self.directory / "start.lock"

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Have a directory, and tell what the system refuses as what it is here."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            yield
        except OSError as error:
            raise LocalServerError(f"the {self.what} of {self.directory} can't be started: {error}") from error

    def _start_alone(self) -> bool:
        self._prepare()
        if self._lives() and self._wait_ready():
            return False
        if self._lives():
            raise LocalServerError(f"the {self.what} of {self.directory} lives but doesn't answer{self._log_end()}")
        self._launch()  # there was none, or it died while it was waited for
        return True

    def _launch(self) -> None:
        """Start a process and wait until it answers; another one may snatch a port in between, so more than once."""
        for _ in range(LAUNCH_ATTEMPTS):
            self._spawn(self._choose_ports())
            if self._wait_ready():
                return
            if self._lives():
                self._stop()
                break
        raise LocalServerError(f"the {self.what} of {self.directory} doesn't come up{self._log_end()}")

    def _wait_ready(self) -> bool:
        def up() -> bool:
            # All the ports: a server ends when a late one can't be had, and would take the others with it.
            state = self._read_state()
            return self._is_ready() and state is not None and not any(map(is_free, state.ports.values()))

        return wait_until(lambda: up() or not self._lives(), READY_LIMIT_SECONDS) and self._lives() and up()

    def _spawn(self, ports: Mapping[str, int]) -> None:
        """Start the server, detached: it hands over its lock, which then lasts exactly as long as the process."""
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        # The process id is forgotten first: a crash of ours before the new one is known must not leave an old one.
        self._write_state(State(ports, pid=None))
        with locked(self._server_lock_path) as lock, self.log_path.open("wb") as log:
            process = subprocess.Popen(
                self._command(ports),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(ports),
                pass_fds=(lock.fileno(),),
                # Out of the terminal's process group: Ctrl-C in `make dev` must not take it from under a run.
                start_new_session=True,
            )
            self._write_state(State(ports, process.pid))
        # Reaps it if it ends before we do, so that it neither stays a zombie nor warns about itself.
        threading.Thread(target=process.wait, name="local-server-reaper", daemon=True).start()

    def _stop(self) -> None:
        state = self._read_state()
        if not self._lives() or state is None:
            return
        if state.pid is None:
            raise LocalServerError(f"the process of the {self.what} of {self.directory} is not known; stop it by hand")
        for number, limit in ((signal.SIGTERM, STOP_LIMIT_SECONDS), (signal.SIGKILL, KILL_LIMIT_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, number)
            if wait_until(lambda: not self._lives(), limit):
                self._tidy(state.ports)
                return
        raise LocalServerError(f"the {self.what} of {self.directory}, process {state.pid}, doesn't end")

    def _lives(self) -> bool:
        try:
            with self._server_lock_path.open("rb") as lock:
                # Shared, so that two who look at once don't take each other for the server.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _read_state(self) -> State | None:
        try:
            stored = json.loads(self._state_path.read_text())
            ports = {name: int(stored["ports"][name]) for name in self.port_names}
            return State(ports, stored["pid"], stored.get("stays", False))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise LocalServerError(f"{self._state_path} is damaged; stop the server and remove the file") from None

    def _write_state(self, state: State) -> None:
        write_private(self._state_path, json.dumps(dataclasses.asdict(state)))

    def _log_end(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
        return f": {last} (log: {self.log_path})"


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[IO[bytes]]:
    """Hold the lock file, alone or with others who share it; wait for it, but not for ever."""
    with path.open("ab") as lock:
        if not wait_until(lambda: try_lock(lock, shared=shared), LOCK_LIMIT_SECONDS):
            raise LocalServerError(f"{path} has been held by another process for {LOCK_LIMIT_SECONDS:.0f} seconds")
        yield lock


def try_lock(lock: IO[Any], *, shared: bool = False) -> bool:
    """Take the kernel's lock on an open file; whether nobody is in the way. It is held until all copies are closed.

    A share that is made an exclusive lock is lost where that fails.
    """
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_until(condition: Callable[[], bool], limit_seconds: float) -> bool:
    """Whether a condition came true in time; it is looked at again and again."""
    deadline = time.monotonic() + limit_seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return met


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        # As weed itself binds: connections of a server just stopped, still waiting to be forgotten, are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - with a mode
        file.write(text)
    temporary.replace(path)
