"""Events out of the warehouse: whole, as a tally for the statistics, or in batches for the archive. No writing here."""

import contextlib
import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.stats.tally import CELL, Tally
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.json_lines import line_of
from pathstats_pipeline.storage.loads import Loads
from pathstats_pipeline.storage.session import frame_of

_TALLY_ROWS: Final = 200_000
"""Events of one batch of a tally: large enough for array code, small enough to stay out of the way of memory."""
_GROUPED_BATCHES: Final = 4
"""Small loads are read, and sorted, together: a day of 2,000 loads took a third of the time of one batch a query."""
_PASS_MEMORY_MB: Final = 600
"""For DuckDB's blocks and hash tables while a tally is read; distinct paths beyond that go to its temporary files."""


class TooWideError(WarehouseError):
    """Rows are too wide for the memory that work which streams was given."""


class Reading(Loads):
    """Read the events of a window, or of loads."""

    def read_events(self, window: Window, columns: Sequence[str], *, without: Sequence[Load] = ()) -> pl.DataFrame:
        """The events of a window, these columns, leaving out those of some loads."""
        with self._excluding(window, without) as (where, parameters):
            return self._frame(f"SELECT {', '.join(columns)} FROM pathstats.traffic_events WHERE {where}", parameters)

    @contextlib.contextmanager
    def _excluding(self, window: Window, loads: Sequence[Load]) -> Iterator[tuple[str, list[Any]]]:
        """A condition on the events of a window, without those of some loads, and its parameters."""
        where, parameters = "event_time >= ? AND event_time < ?", [window.start, window.end]
        if not loads:
            yield where, parameters
            return
        excluded = pl.DataFrame(
            {"hour": [load.hour for load in loads], "load_id": [load.load_id for load in loads]},
            schema={"hour": pl.Datetime("us"), "load_id": pl.String()},
        )
        where += " AND (date_trunc('hour', event_time), load_id) NOT IN (SELECT (hour, load_id) FROM excluded)"
        with self._registered("excluded", excluded):
            yield where, parameters

    def tally_events(self, window: Window, columns: Sequence[str], *, without: Sequence[Load] = ()) -> Tally:
        """The events of a window for `path_statistics`, with these columns, leaving out those of some loads.

        Strings of paths and methods are read once a distinct one: DuckDB keeps them in dictionaries, and numbering the
        events there costs less than handing their paths over. Nothing else may be asked of the warehouse until the
        batches were read.
        """
        # One hour is what is built all day long, and has no need of a look at every event's time.
        hour = "date_trunc('hour', event_time)" if window.end - window.start > HOUR else "CAST(? AS TIMESTAMP)"
        given = [window.start] if hour.startswith("CAST") else []
        with self.limited(_PASS_MEMORY_MB), self._excluding(window, without) as (where, parameters):
            cells = self._frame(
                f"SELECT {hour} AS hour, path, method, count(*) AS requests, "
                "count(*) FILTER (status BETWEEN 400 AND 499) AS status_4xx "
                f"FROM pathstats.traffic_events WHERE {where} GROUP BY ALL",
                [*given, *parameters],
            )
        return Tally(cells, self._events_of_cells(cells, window, columns, without))

    def _events_of_cells(
        self, cells: pl.DataFrame, window: Window, columns: Sequence[str], without: Sequence[Load]
    ) -> Iterator[pl.DataFrame]:
        parts = "path, method" if window.end - window.start <= HOUR else "path, method, date_trunc('hour', event_time)"
        salt, keys = self._cell_keys(cells, parts.replace("event_time", "hour"))
        cell_keys = keys.to_arrow()
        with self.limited(_PASS_MEMORY_MB), self._excluding(window, without) as (where, parameters):
            reader = self._run(
                f"SELECT hash({parts}, {salt}) AS key, {', '.join(columns)} "
                f"FROM pathstats.traffic_events WHERE {where}",
                parameters,
            ).to_arrow_reader(_TALLY_ROWS)
            for batch in reader:
                cell = pc.index_in(batch.column("key"), value_set=cell_keys)
                yield frame_of(batch.set_column(0, CELL, cell))

    def _cell_keys(self, cells: pl.DataFrame, parts: str) -> tuple[int, pl.Series]:
        """A salt, and the hash of these parts and the salt [cell], which differs from cell to cell.

        DuckDB hashes a string of a dictionary once, so a number costs a tenth of handing the strings over. In 64 bits,
        a million cells collide once in 10^7 hours; the next salt tells them apart.
        """
        with self._registered("cells", cells):
            for salt in itertools.count():
                keys = self._frame(f"SELECT hash({parts}, {salt}) AS key FROM cells").to_series()
                if keys.n_unique() == keys.len():
                    return salt, keys
        raise AssertionError("count() has no end")

    def stream_loads(self, loads: Iterable[Load], batch_rows: int) -> Iterator[pl.DataFrame]:
        """The events of these loads in batches, loads in the order of their identity, rows as they were inserted.

        Raises TooWideError when rows are so wide that a batch of them doesn't fit the limit of `limited`.
        """
        names = ", ".join(EVENT_NAMES)
        return (frame_of(batch) for _, batch in self._stream(loads, batch_rows, lambda _: names))

    def stream_lines(self, loads: Iterable[Load], batch_rows: int) -> Iterator[tuple[dt.datetime, pa.StringViewArray]]:
        """The same events as lines for `jsonl.split_text`, in batches of one hour; raises the same."""
        return ((hour, batch.column(0)) for hour, batch in self._stream(loads, batch_rows, line_of))

    def _stream(
        self, loads: Iterable[Load], batch_rows: int, columns: Callable[[dt.datetime], str]
    ) -> Iterator[tuple[dt.datetime, pa.RecordBatch]]:
        """What `columns` asks for in an hour, of the events of these loads, in batches."""
        try:
            for together in self._in_groups(sorted(loads), _GROUPED_BATCHES * batch_rows):
                hour = together[0].hour
                for batch in self._events_of(together, columns(hour)).to_arrow_reader(batch_rows):
                    yield hour, batch
        except (duckdb.OutOfMemoryException, pa.ArrowException) as error:
            raise TooWideError(f"a batch of events does not fit: {str(error).splitlines()[0]}") from error

    def _events_of(self, loads: Sequence[Load], columns: str) -> duckdb.DuckDBPyConnection:
        """Ask for these columns of the events of loads of one hour."""
        window = Window.of_hour(loads[0].hour)
        # Rows of one load come as they were inserted without a sort, which would hold all of them.
        order = "ORDER BY load_id, rowid" if loads[1:] else ""
        # Sorted before anything is made of them: lines are wider than events.
        events = (
            f"SELECT {', '.join(EVENT_NAMES)} FROM pathstats.traffic_events "
            f"WHERE event_time >= ? AND event_time < ? AND load_id IN ({_marks(loads)}) {order}"
        )
        parameters = (window.start, window.end, *(load.load_id for load in loads))
        return self._run(f"SELECT {columns} FROM ({events})", parameters)

    def _in_groups(self, loads: Sequence[Load], rows: int) -> Iterator[list[Load]]:
        """Loads, sorted, in groups of one hour with at most so many events; one that has more stands alone.

        A query a load would cost a day of thousands of small loads minutes.
        """
        if not loads:
            return
        ledger = self.loads(Window(loads[0].hour, Window.of_hour(loads[-1].hour).end))
        rows_of = {facts.load: facts.rows for facts in ledger}
        group: list[Load] = []
        left = rows
        for load in loads:
            if group and (load.hour != group[0].hour or rows_of.get(load, 0) > left):
                yield group
                group, left = [], rows
            group.append(load)
            left -= rows_of.get(load, 0)
        yield group


def _marks(values: Sequence[Any]) -> str:
    """A parameter mark for each value."""
    return ", ".join("?" * len(values))
