"""The DuckDB file: who may have it open, and the connection. What is in it is not known here.

One process at a time holds the file. Others queue behind a kernel lock beside it, so that nobody ever meets DuckDB's
own lock error; the kernel frees the lock when its holder dies.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import pathlib
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import duckdb

_log = logging.getLogger(__name__)

_LOCK_POLL_SECONDS: Final = 0.05
_LOCK_LOG_SECONDS: Final = 10.0
_TURN_BYTES: Final = 8
_LOCKED: Final = "Could not set lock on file"
"""DuckDB's words for a file that another process holds; the path may contain any others."""


class WarehouseError(RuntimeError):
    """The warehouse can't be used; one line that names the file."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One holding of a lock, and the one before it, whoever held it then."""

    name: str
    before: str


@contextlib.contextmanager
def exclusive(path: pathlib.Path, *, timeout_seconds: float, what: str) -> Iterator[None]:
    """Hold the kernel lock on a file, waiting for it; raises WarehouseError when the time is up."""
    with _held(path, timeout_seconds=timeout_seconds, what=what):
        yield


@contextlib.contextmanager
def in_turn(path: pathlib.Path, *, timeout_seconds: float, what: str) -> Iterator[Turn]:
    """As `exclusive`; each turn leaves its name in the file.

    So whoever has the lock again can tell whether others had it meanwhile.
    """
    with _held(path, timeout_seconds=timeout_seconds, what=what) as descriptor:
        yield _turn(descriptor)


@contextlib.contextmanager
def _held(path: pathlib.Path, *, timeout_seconds: float, what: str) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        started = time.monotonic()
        logged = started
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now - started > timeout_seconds:
                    raise WarehouseError(f"{what} was in use for {timeout_seconds:.0f} s; gave up") from None
                if now - logged > _LOCK_LOG_SECONDS:
                    logged = now
                    _log.info("waiting for %s: %.0f s so far", what, now - started)
                time.sleep(_LOCK_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _turn(descriptor: int) -> Turn:
    """Begin a turn on a lock that is held. On a full disk it is left without a name, which nobody takes for theirs."""
    before = os.pread(descriptor, 2 * _TURN_BYTES, 0).decode("ascii", "replace")
    turn = Turn(secrets.token_hex(_TURN_BYTES), before)
    try:
        os.pwrite(descriptor, turn.name.encode(), 0)
    except OSError:
        os.ftruncate(descriptor, 0)
    return turn


def lock_of(path: pathlib.Path) -> pathlib.Path:
    """The file beside a DuckDB file whose kernel lock says who holds it."""
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def open_connection(
    path: pathlib.Path, *, lock_timeout_seconds: float, config: Mapping[str, str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the DuckDB file, held alone, and closed whatever happens.

    Waits up to `lock_timeout_seconds` for others to be done; then raises WarehouseError.
    """
    with exclusive(lock_of(path), timeout_seconds=lock_timeout_seconds, what=str(path)):
        connection = _connect(path, lock_timeout_seconds, dict(config or {}))
        try:
            # It would stand in the middle of what a command prints.
            connection.execute("SET enable_progress_bar = false")
            # Short strings, such as addresses, then come without a copy; it reads them in three quarters of the time.
            connection.execute("SET arrow_output_version = '1.4'")
            connection.execute("SET produce_arrow_string_view = true")
            yield connection
        finally:
            connection.close()


def _connect(path: pathlib.Path, timeout_seconds: float, config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Connect, waiting also for those who hold the file without our lock: a DuckDB shell, a dashboard."""
    end = time.monotonic() + timeout_seconds
    while True:
        try:
            return duckdb.connect(str(path), config=config)
        except duckdb.IOException as error:
            if _LOCKED not in str(error) or time.monotonic() > end:
                raise WarehouseError(f"cannot open {path}: {str(error).splitlines()[0]}") from error
            time.sleep(_LOCK_POLL_SECONDS * 10)
        except duckdb.Error as error:
            raise WarehouseError(f"cannot open {path}: {str(error).splitlines()[0]}") from error
