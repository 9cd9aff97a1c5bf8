"""Clocks that tests set."""

import datetime as dt
import pathlib

from pathstats_pipeline.defs.resources import Clock


class SetClock(Clock):
    """A clock that stands."""

    at: str

    def now(self) -> dt.datetime:
        """Where it stands."""
        return dt.datetime.fromisoformat(self.at)


class FileClock(Clock):
    """A clock that stands where a file says, so that many processes have the same time, and one sets it for all."""

    path: str

    def now(self) -> dt.datetime:
        """What the file says."""
        return dt.datetime.fromisoformat(pathlib.Path(self.path).read_text())
