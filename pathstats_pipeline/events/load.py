"""What a load is: one immutable file of the landing zone, all of its events inside one hour.

Loads are the identity by which events are archived and deleted. A load is named by its hour *and* its id: files
dropped by others may carry the same name in every hour.
"""

import dataclasses
import datetime as dt
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True, order=True)
class Load:
    """The identity of a load: its hour (naive UTC) and its id, the file's name without its ending."""

    hour: dt.datetime
    load_id: str

    def __str__(self) -> str:
        """`2026-11-22T05/abc`, for messages."""
        return f"{self.hour:%Y-%m-%dT%H}/{self.load_id}"


Files = Mapping[dt.date, Collection[tuple[Load, bool]]]
"""Loads by their day, and whether each is one of rejected lines."""


@dataclasses.dataclass(frozen=True)
class LoadFacts:
    """What became of a load in the warehouse.

    `rows` is the number of events that it brought, `digest` their order-free digest (see archive/jsonl.py),
    `deleted_rows` how many of them clean-up has deleted so far.
    """

    load: Load
    rows: int
    duplicates: int
    rejected: int
    digest: str
    first_event_time: dt.datetime | None = None
    last_event_time: dt.datetime | None = None
    deleted_rows: int = 0

    @property
    def received(self) -> int:
        """Lines and rows of the load, whatever became of them."""
        return self.rows + self.duplicates + self.rejected
