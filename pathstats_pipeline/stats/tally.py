"""Events on their way into statistics: first what they are counted under, then they themselves, by number.

A cell is a distinct (hour, raw path, method). Strings are met once a cell, and an hour of any size passes in batches.
The warehouse makes a tally in SQL (storage/reading.py), `tally` makes one of frames; hourly.py takes either. No
templates here, no sketches.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl

from pathstats_pipeline.events.schema import EVENT_SCHEMA, TIME

CELL: Final = "cell"
CELL_SCHEMA: Final[dict[str, pl.DataType]] = {
    "hour": TIME,
    "path": EVENT_SCHEMA["path"],
    "method": EVENT_SCHEMA["method"],
    "requests": pl.Int64(),
    "status_4xx": pl.Int64(),
}
COUNTED: Final = ("event_time", "path", "method")
"""What the cell stands for."""

SAMPLED: Final = ("status", "bytes_sent", "response_time_ms", "client_ip")
"""What is known of each event besides its cell."""

_KEYS: Final = ("hour", "path", "method")


@dataclasses.dataclass(frozen=True)
class Tally:
    """Events by cell.

    `cells` has the columns of `CELL_SCHEMA`; the same key may stand in several rows. `batches` are read once: frames of
    `cell` (a row of `cells`) and `SAMPLED`, of all events, in any order.
    """

    cells: pl.DataFrame
    batches: Iterable[pl.DataFrame]


def tally(frames: Iterable[pl.DataFrame]) -> Tally:
    """Tally of frames of events: event_time (not NULL), path, method, `SAMPLED`, and what else is to stay in batches.

    Holds the batches until they are read: 4 bytes an event for the cell, and the sampled columns.
    """
    cells, batches, first = [pl.DataFrame(schema=CELL_SCHEMA)], [], 0
    for frame in frames:
        if not frame.is_empty():
            of_frame, batch = _number(frame, first)
            first += of_frame.height
            cells.append(of_frame)
            batches.append(batch)
    return Tally(pl.concat(cells), _release(batches))


def join(parts: Sequence[Tally]) -> Tally:
    """All events of all parts."""
    return Tally(pl.concat([part.cells for part in parts]), _renumbered(parts))


def _number(frame: pl.DataFrame, first: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cells of a frame, and the frame with their numbers, which begin with `first`, in place of their keys."""
    hour = pl.col("event_time").cast(TIME).dt.truncate("1h").alias("hour")
    found = (
        frame.select(hour, "path", "method", "status")
        .with_row_index("row")
        .group_by(_KEYS)
        .agg(
            requests=pl.len().cast(pl.Int64),
            status_4xx=pl.col("status").is_between(400, 499).sum().cast(pl.Int64),
            row=pl.col("row"),
        )
    )
    cell = np.empty(frame.height, np.int32)
    cell[found["row"].explode().to_numpy()] = np.repeat(
        np.arange(first, first + found.height, dtype=np.int32), found["requests"].to_numpy()
    )
    batch = frame.drop(COUNTED).with_columns(pl.Series(CELL, cell))
    return found.select(*CELL_SCHEMA), batch


def _release(batches: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    batches.reverse()
    while batches:
        yield batches.pop()


def _renumbered(parts: Sequence[Tally]) -> Iterator[pl.DataFrame]:
    first = 0
    for part in parts:
        for batch in part.batches:
            yield batch.with_columns(pl.col(CELL) + first)
        first += part.cells.height
