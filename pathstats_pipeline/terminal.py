"""What commands share: times and days, the clock, stopping, and how they come by S3, intake and warehouse."""

import contextlib
import datetime as dt
import os
import select
import signal
import types
from collections.abc import Iterator
from typing import Any, Final

import click

from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.duck import Turn, in_turn
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

_TIME_FORMS: Final = ("%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")


class Moment(click.ParamType[dt.datetime]):
    """A time of a command: `2026-11-22`, `2026-11-22T05` or `2026-11-22T05:00`, UTC, with or without `Z`."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        """Naive UTC, at a whole hour."""
        if isinstance(value, dt.datetime):
            return value
        for form in _TIME_FORMS:
            with contextlib.suppress(ValueError):
                moment = dt.datetime.strptime(str(value).removesuffix("Z"), form)  # noqa: DTZ007 - times are UTC here
                if (moment.minute, moment.second) == (0, 0):
                    return moment
        self.fail(f"{value!r} is no whole hour such as 2026-11-22 or 2026-11-22T05:00 (UTC)", param, ctx)


class Day(click.ParamType[dt.date]):
    """A day of a command: `2026-11-22`, UTC."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        """A date."""
        try:
            return dt.date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no date such as 2026-11-22", param, ctx)


def now() -> dt.datetime:
    """The wall clock, naive UTC; the only place of the command line that reads it."""
    return naive_utc(dt.datetime.now(dt.UTC))


@contextlib.contextmanager
def s3_of(settings: Settings) -> Iterator[None]:
    """S3 to work with: the local server is started for the command where it doesn't run; any other is just used."""
    needs_local = settings.uses_local_s3
    with LocalS3(settings.local_s3_directory).in_use() if needs_local else contextlib.nullcontext() as server:
        if server:
            server.ensure_bucket(settings.bucket)
        yield


@contextlib.contextmanager
def sqs_of(settings: Settings) -> Iterator[None]:
    """A queue to work with: the local server is started for the command where it doesn't run."""
    with LocalSqs(settings.local_sqs_directory).in_use() if settings.uses_local_queue else contextlib.nullcontext():
        yield


def intake_lock(settings: Settings, timeout_seconds: float | None = None) -> contextlib.AbstractContextManager[Turn]:
    """The intake, held alone; waits for it. Two processes that meet the same file must agree on its identity."""
    lock = settings.intake_lock_path
    seconds = settings.lock_timeout_seconds if timeout_seconds is None else timeout_seconds
    return in_turn(lock, timeout_seconds=seconds, what=str(lock))


class Stop:
    """Whether a signal has asked to stop; waiting ends with it."""

    def __init__(self, readable: int, writable: int) -> None:
        self._readable, self._writable = readable, writable
        self._asked = False

    def ask(self) -> None:
        """Ask to stop; safe in a handler of signals, which may interrupt anything."""
        self._asked = True
        os.write(self._writable, b"x")

    def asked(self) -> bool:
        """Whether to stop."""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait, and at most until a signal asks to stop; whether one has."""
        if not self._asked:
            select.select([self._readable], [], [], seconds)
        return self._asked


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let the first SIGTERM or SIGINT ask to stop, and the second do what it does elsewhere."""
    readable, writable = os.pipe()
    stop = Stop(readable, writable)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _frame: types.FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop.ask()

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


@contextlib.contextmanager
def warehouse_of(settings: Settings) -> Iterator[Warehouse]:
    """The warehouse that the settings name, held alone; waits for it."""
    with open_warehouse(settings.warehouse_path, lock_timeout_seconds=settings.lock_timeout_seconds) as warehouse:
        yield warehouse
