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
    """Values of all groups in one array; group i has room from `offsets[i]`, of which `filled[i]` is in use."""

    offsets: Integers
    filled: Integers
    values: npt.NDArray[Any]

    def append(self, groups: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Add values [row] to groups [row], which ascend."""
        sizes = np.bincount(groups, minlength=self.filled.size)
        # Group i's values stand from first[i] in the batch and go to offsets[i] + filled[i].
        shift = self.offsets[:-1] + self.filled - ordering.offsets_of(sizes)[:-1]
        place = shift[groups]
        place += np.arange(groups.size)
        self.values[place] = values
        self.filled += sizes

    def part(self, first: int, last: int) -> tuple[npt.NDArray[Any], Integers]:
        """Values of the groups from first to before last, and where each begins; may be written to."""
        values = self.values[self.offsets[first] : self.offsets[last]]
        filled = self.filled[first:last]
        room = np.diff(self.offsets[first : last + 1])
        if bool((filled < room).any()):
            within = np.arange(values.size) - np.repeat(self.offsets[first:last] - self.offsets[first], room)
            values = values[within < np.repeat(filled, room)]
        return values, ordering.offsets_of(filled)


class Gathering:
    """Counts [group], and times and hashes by group, of the batches added so far."""

    def __init__(self, room: Integers) -> None:
        """Make room for so many events [group]."""
        offsets = ordering.offsets_of(room)
        self._n_groups = room.size
        self.by_class = np.zeros((room.size, STATUS_CLASSES), np.int64)
        self.bytes_sent = np.zeros(room.size, np.int64)
        self.times = Column(offsets, np.zeros(room.size, np.int64), np.empty(offsets[-1], np.float64))
        self.hashes = Column(offsets, np.zeros(room.size, np.int64), np.empty(offsets[-1], np.uint64))

    def add(self, group_of: npt.NDArray[Any], events: pl.DataFrame) -> None:
        """Add events [row], with a cell and the columns of `tally.SAMPLED`; cell i belongs to group `group_of[i]`."""
        groups = group_of[events[tally.CELL].to_numpy()]
        status = events["status"].fill_null(0).to_numpy() // 100
        status[(status < 2) | (status >= STATUS_CLASSES)] = 0  # noqa: PLR2004 - 2xx to 5xx
        classes = np.bincount(groups * STATUS_CLASSES + status, minlength=self.by_class.size)
        self.by_class += classes.reshape(self.by_class.shape)
        np.add.at(self.bytes_sent, groups, events["bytes_sent"].fill_null(0).to_numpy())
        order, _ = ordering.partition(groups, self._n_groups)
        if order is None:
            order = np.arange(groups.size)
        groups = groups[order]
        _append(self.times, groups, order, events["response_time_ms"])
        _append(self.hashes, groups, order, visitors.hash_clients(events["client_ip"]))

    def blocks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Ranges of consecutive groups with about so many events each, or one group."""
        offsets, first = self.times.offsets, 0
        while first < self._n_groups:
            last = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
            last = min(max(last, first + 1), self._n_groups)
            yield first, last
            first = last


def _append(column: Column, groups: npt.NDArray[Any], order: Integers, values: pl.Series) -> None:
    """Add a batch's values [row] in this order, by groups that ascend in it; NULL is nothing to add."""
    if values.null_count():
        known = values.is_not_null().to_numpy()[order]
        groups, order = groups[known], order[known]
        values = values.fill_null(0)
    column.append(groups, values.to_numpy()[order])
