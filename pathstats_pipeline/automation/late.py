"""What is due and isn't asked for now, in words: what is late, why, and when it is tried next. Pure.

A line each, for the sensor's tick, where an operator looks first. When something is tried again is decided in due.py.
"""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final

from pathstats_pipeline.automation.due import RETRY_AFTER, Ask, may_be_asked
from pathstats_pipeline.events.window import HOUR

MOST_LINES: Final = 12
"""Of more, it is said how many."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """The runs that one fact has called for, the newest first: when those ended that failed, and what became of others.

    `newest` is a run's id; `other` says of the newest one that didn't fail how it stands, such as `canceled`.
    """

    failures: Sequence[dt.datetime] = ()
    newest: str = ""
    other: str | None = None

    def may_be_asked(self, now: dt.datetime) -> bool:
        """Whether none was asked for, or only such as failed long enough ago."""
        return self.other is None and may_be_asked(self.failures, now)


def lines(waiting: Sequence[tuple[Ask, Tried]]) -> Iterator[str]:
    """A line for each thing that is late, oldest first as they come, and one that says how many more there are.

    Each begins with a bullet: the UI's page of a tick runs lines together.
    """
    for ask, tried in waiting[:MOST_LINES]:
        yield f"• {_what(ask)}: {ask.reason}; {_next(tried)}"
    if (more := len(waiting) - MOST_LINES) > 0:
        yield f"• and {more} more"


def _what(ask: Ask) -> str:
    """The job and its partitions, under their keys in the UI."""
    first, last = ask.window.start, ask.window.end - HOUR
    if ask.job != "hourly":
        return f"{ask.job} {first:%Y-%m-%d}"
    return f"{ask.job} {first:%Y-%m-%d-%H:%M}" + (f" to {last:%Y-%m-%d-%H:%M}" if last > first else "")


def _next(tried: Tried) -> str:
    if tried.other is not None:
        return f"its run {tried.newest[:8]} is {tried.other}, so it is asked for again when something new comes"
    times = "once" if len(tried.failures) == 1 else f"{len(tried.failures)} times"
    return (
        f"failed {times}, last in run {tried.newest[:8]}; tried again at {_next_try(tried.failures):%Y-%m-%d %H:%M} UTC"
    )


def _next_try(failures: Sequence[dt.datetime]) -> dt.datetime:
    """The first of the moments at which retries come that may_be_asked agrees to."""
    last = max(failures)
    return next(at for patience in RETRY_AFTER if may_be_asked(failures, at := last + patience))
