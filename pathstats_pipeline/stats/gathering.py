"""The events of a tally brought together by group, batch by batch, in two flat arrays: times and hashes of addresses.

16 bytes an event is all that stays of it, so an hour of tens of millions fits. The room of every group is known before
its events come: they are written straight to where they belong. What is made of them is hourly.py's.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.stats import ordering, tally, visitors

STATUS_CLASSES: Final = 6
"""Columns of `by_class`: 2 to 5 are the classes of those names, 0 is all else."""

Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(eq=False)
class Column:
    """One value of every event, by group; `known` says which have one, and is None while all do."""

    values: npt.NDArray[Any]
    known: npt.NDArray[np.bool_] | None = None

    def put(self, places: Integers, values: pl.Series, order: Integers) -> None:
        """Write values [row], taken in this order, to their places."""
        if values.null_count():
            if self.known is None:
                self.known = np.ones(self.values.size, np.bool_)
            self.known[places] = values.is_not_null().to_numpy()[order]
            values = values.fill_null(0)
        self.values[places] = values.to_numpy()[order]

    def part(self, offsets: Integers) -> tuple[npt.NDArray[Any], Integers]:
        """The known values between the first and the last offset, and where each group of them begins in what is given.

        They may be written to.
        """
        part = slice(offsets[0], offsets[-1])
        offsets = offsets - offsets[0]
        if self.known is None:
            return self.values[part], offsets
        known = self.known[part]
        return self.values[part][known], ordering.offsets_of(known)[offsets]


class Gathering:
    """Counts [group], and times and hashes by group, of the batches added so far."""

    def __init__(self, room: Integers) -> None:
        """Make room for so many events [group]."""
        self._offsets = ordering.offsets_of(room)
        self._next = self._offsets[:-1].copy()
        self.by_class = np.zeros((room.size, STATUS_CLASSES), np.int64)
        self.bytes_sent = np.zeros(room.size, np.int64)
        self._times = Column(np.empty(self._offsets[-1], np.float64))
        self._hashes = Column(np.empty(self._offsets[-1], np.uint64))

    def add(self, group_of: npt.NDArray[Any], events: pl.DataFrame) -> None:
        """Add events [row], with a cell and the columns of `tally.SAMPLED`; cell i belongs to group `group_of[i]`."""
        groups = group_of[events[tally.CELL].to_numpy()]
        status = events["status"].fill_null(0).to_numpy() // 100
        status[(status < 2) | (status >= STATUS_CLASSES)] = 0  # noqa: PLR2004 - 2xx to 5xx
        classes = np.bincount(groups * STATUS_CLASSES + status, minlength=self.by_class.size)
        self.by_class += classes.reshape(self.by_class.shape)
        np.add.at(self.bytes_sent, groups, events["bytes_sent"].fill_null(0).to_numpy())
        order, offsets = ordering.partition(groups, self._next.size)
        if order is None:
            order = np.arange(groups.size)
        # In this order, group i's rows stand from offsets[i] on, and go to next[i] on.
        places = (self._next - offsets[:-1])[groups[order]]
        places += np.arange(groups.size)
        self._next += np.diff(offsets)
        self._times.put(places, events["response_time_ms"], order)
        self._hashes.put(places, visitors.hash_clients(events["client_ip"]), order)

    def blocks(self, rows: int) -> Iterator[Integers]:
        """Offsets of consecutive groups that have about so many events together; a larger group stands alone."""
        first = 0
        while first < self._next.size:
            last = int(np.searchsorted(self._offsets, self._offsets[first] + rows, side="right")) - 1
            last = min(max(last, first + 1), self._next.size)
            yield self._offsets[first : last + 1]
            first = last

    def times(self, block: Integers) -> tuple[npt.NDArray[Any], Integers]:
        """Known response times of a block of `blocks`, in ms, and the offsets of its groups; for one reader."""
        return self._times.part(block)

    def hashes(self, block: Integers) -> tuple[npt.NDArray[Any], Integers]:
        """Hashes of the known addresses of a block of `blocks`, and the offsets of its groups; for one reader."""
        return self._hashes.part(block)
