"""The warehouse: a DuckDB file with the hot days of events and all the statistics, behind a narrow seam.

The seam is: append a load, replace a partition, delete loads, read a window. Statements stay plain SQL without primary
keys, unique indexes, ON CONFLICT, RETURNING, sequences or CHECK: the event table is several times smaller and faster
without them, and the store that comes after DuckDB for a fleet has none of them.

One process at a time holds the file. `open_warehouse` queues behind a kernel lock beside the file, so that nobody ever
meets DuckDB's own lock error; the kernel frees the lock when its holder dies.
"""

import contextlib
import datetime as dt
import fcntl
import itertools
import logging
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.schema import EVENT_COLUMNS, Column
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.stats.hourly import DAILY_COLUMNS, HOURLY_COLUMNS
from pathstats_pipeline.stats.tally import CELL, Tally

_log = logging.getLogger(__name__)

_LOCK_POLL_SECONDS: Final = 0.05
_LOCK_LOG_SECONDS: Final = 10.0
_TALLY_ROWS: Final = 200_000
"""Events of one batch of a tally: large enough for array code, small enough to stay out of the way of memory."""
_TALLY_MEMORY_MB: Final = 600
"""For DuckDB's blocks and hash tables while a tally is read; distinct paths beyond that go to its temporary files."""
_GROUPED_BATCHES: Final = 4
"""Small loads are read, and sorted, together: a day of 2,000 loads took a third of the time of one batch a query."""
_LOCKED: Final = "Could not set lock on file"
"""DuckDB's words for a file that another process holds; the path may contain any others."""
_BUILT_COLUMNS: Final = (
    Column("revision", "BIGINT", pl.Int64(), "1 the first time, +1 on each rebuild of that partition"),
    Column("computed_at", "TIMESTAMP", pl.Datetime("us"), "when the partition was built, UTC"),
)
_LOAD_ID: Final = Column("load_id", "VARCHAR", pl.String(), "the load that brought it")

TABLES: Final[Mapping[str, tuple[Column, ...]]] = {
    "traffic_events": (*EVENT_COLUMNS, _LOAD_ID),
    "rejected_events": (
        _LOAD_ID,
        Column("source", "VARCHAR", pl.String(), "the file that the line stands in"),
        Column("line_number", "BIGINT", pl.Int64(), "from 1; the row number in a Parquet load"),
        Column("raw", "BLOB", pl.Binary(), "the line's bytes, lossless"),
        Column("reason", "VARCHAR", pl.String(), "why it could not become an event"),
        Column("rejected_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
    ),
    "path_stats_hourly": (*HOURLY_COLUMNS, *_BUILT_COLUMNS),
    "path_stats_daily": (*DAILY_COLUMNS, *_BUILT_COLUMNS),
    "loads": (
        Column("hour", "TIMESTAMP", pl.Datetime("us"), "the load's hour, UTC"),
        _LOAD_ID,
        Column("rejected_load", "BOOLEAN", pl.Boolean(), "whether it is a load of rejected lines"),
        Column("rows", "BIGINT", pl.Int64(), "events that it brought"),
        Column("duplicates", "BIGINT", pl.Int64(), "events of it that were there before"),
        Column("rejected", "BIGINT", pl.Int64(), "lines of it that went to rejected_events"),
        Column("digest", "VARCHAR", pl.String(), "order-free digest of its events"),
        Column("first_event_time", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("last_event_time", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("deleted_rows", "BIGINT", pl.Int64(), "events of it that clean-up has deleted"),
        Column("loaded_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
    ),
    "archives": (
        Column("date", "DATE", pl.Date(), "the archived day, UTC"),
        Column("generation", "BIGINT", pl.Int64(), "1 the first time, +1 for each batch of late loads"),
        Column("uri", "VARCHAR", pl.String(), "where the object is"),
        Column("strategy", "VARCHAR", pl.String(), "single_put or multipart"),
        Column("rows", "BIGINT", pl.Int64(), "events in the object"),
        Column("bytes", "BIGINT", pl.Int64(), "size of the object"),
        Column("raw_bytes", "BIGINT", pl.Int64(), "size of the JSON lines in it"),
        Column("sha256", "VARCHAR", pl.String(), "of the object"),
        Column("digest", "VARCHAR", pl.String(), "order-free digest of its rows"),
        Column("first_event_time", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("last_event_time", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("archived_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("verified_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
    ),
}
"""Every table of schema `pathstats`, in the order of its columns."""


class WarehouseError(RuntimeError):
    """The warehouse can't be used; one line that names the file."""


class TooWideError(WarehouseError):
    """Rows are too wide for the memory that work which streams was given."""


@contextlib.contextmanager
def exclusive(path: pathlib.Path, *, timeout_seconds: float, what: str) -> Iterator[None]:
    """Hold the kernel lock on a file, waiting for it; raises WarehouseError when the time is up."""
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
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_connection(
    path: pathlib.Path, *, lock_timeout_seconds: float, config: Mapping[str, str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the DuckDB file, held alone, and closed whatever happens.

    Waits up to `lock_timeout_seconds` for others to be done; then raises WarehouseError.
    """
    with exclusive(path.with_name(path.name + ".lock"), timeout_seconds=lock_timeout_seconds, what=str(path)):
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


@contextlib.contextmanager
def open_warehouse(path: pathlib.Path, *, lock_timeout_seconds: float) -> Iterator["Warehouse"]:
    """The warehouse, held alone; what is missing in it is created. Waits and raises as `open_connection`."""
    with open_connection(path, lock_timeout_seconds=lock_timeout_seconds) as connection:
        warehouse = Warehouse(connection)
        warehouse.create_missing()
        yield warehouse


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


class Warehouse:
    """An open warehouse. Obtained from `open_warehouse`; every method leaves no transaction open."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        [(self._memory_limit,)] = self._run("SELECT current_setting('memory_limit')").fetchall()

    # -- plumbing ------------------------------------------------------------------------------------------------

    def create_missing(self) -> None:
        """Create the schema and the tables that aren't there."""
        self._run("CREATE SCHEMA IF NOT EXISTS pathstats")
        for table, columns in TABLES.items():
            body = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self._run(f"CREATE TABLE IF NOT EXISTS pathstats.{table} ({body})")

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(sql, list(parameters))

    def _frame(self, sql: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
        frame = pl.from_arrow(self._run(sql, parameters).to_arrow_table())
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type; a table is never a Series
        return frame

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def _insert(self, table: str, rows: pl.DataFrame) -> None:
        names = ", ".join(rows.columns)
        self._connection.register("incoming", rows.to_arrow())
        try:
            self._run(f"INSERT INTO pathstats.{table} ({names}) SELECT {names} FROM incoming")
        finally:
            self._connection.unregister("incoming")

    # -- loads ---------------------------------------------------------------------------------------------------

    def loads(self, window: Window) -> list[LoadFacts]:
        """What is known of the loads of events in a window, in the order of their identity."""
        return [_load_facts(row) for row in self._loads(window, rejected=False)]

    def known_loads(self, window: Window) -> set[tuple[Load, bool]]:
        """Identity of every load in a window, and whether it is one of rejected lines."""
        events, rejected = (self._loads(window, rejected=kind) for kind in (False, True))
        return {(_load_facts(row).load, kind) for kind, rows in ((False, events), (True, rejected)) for row in rows}

    def _loads(self, window: Window, *, rejected: bool) -> list[tuple[Any, ...]]:
        return self._run(
            "SELECT hour, load_id, rows, duplicates, rejected, digest, first_event_time, last_event_time, deleted_rows "
            "FROM pathstats.loads WHERE hour >= ? AND hour < ? AND rejected_load = ? ORDER BY hour, load_id",
            (window.start, window.end, rejected),
        ).fetchall()

    def append_load(
        self,
        load: Load,
        chunks: Iterable[tuple[pl.DataFrame, pl.DataFrame]],
        digest_of: Callable[[pl.DataFrame], Digest],
        now: dt.datetime,
    ) -> LoadFacts:
        """Append a load of events: all of it and its ledger row, or nothing.

        `chunks` are pairs of events (event schema) and rejected rows (of `rejected_events`, without `load_id` and
        `rejected_at`). Events whose id the hour holds already are counted as duplicates and not inserted.
        """
        digest, duplicates, rejected = Digest(), 0, 0
        first: dt.datetime | None = None
        last: dt.datetime | None = None
        with self._transaction():
            for events, refused in chunks:
                fresh = self._without_known(load.hour, events)
                duplicates += len(events) - len(fresh)
                rejected += len(refused)
                digest += digest_of(fresh)
                if len(fresh):
                    low, high = fresh.select(low=pl.col("event_time").min(), high=pl.col("event_time").max()).row(0)
                    first, last = min(first or low, low), max(last or high, high)
                    self._insert("traffic_events", fresh.with_columns(load_id=pl.lit(load.load_id)))
                self._insert_rejected(load, refused, now)
            facts = LoadFacts(load, digest.rows, duplicates, rejected, digest.hex, first, last)
            self._record_load(facts, now, rejected_load=False)
        return facts

    def append_rejected(self, load: Load, rows: pl.DataFrame, now: dt.datetime) -> LoadFacts:
        """Append a load of rejected lines (source, line_number, raw, reason): all of it, or nothing."""
        facts = LoadFacts(load, 0, 0, len(rows), Digest().hex)
        with self._transaction():
            self._insert_rejected(load, rows, now)
            self._record_load(facts, now, rejected_load=True)
        return facts

    def _insert_rejected(self, load: Load, rows: pl.DataFrame, now: dt.datetime) -> None:
        if len(rows):
            columns = pl.lit(load.load_id).alias("load_id"), pl.lit(now, pl.Datetime("us")).alias("rejected_at")
            self._insert("rejected_events", rows.with_columns(*columns))

    def _record_load(self, facts: LoadFacts, now: dt.datetime, *, rejected_load: bool) -> None:
        load = facts.load
        values = (load.hour, load.load_id, rejected_load, facts.rows, facts.duplicates, facts.rejected, facts.digest)
        self._run(
            "INSERT INTO pathstats.loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (*values, facts.first_event_time, facts.last_event_time, now),
        )

    def _without_known(self, hour: dt.datetime, events: pl.DataFrame) -> pl.DataFrame:
        """The events whose id is neither in the hour nor earlier in the frame, in their order."""
        events = events.unique("event_id", keep="first", maintain_order=True)
        if not len(events):
            return events
        self._connection.register("incoming", events.select("event_id").to_arrow())
        try:
            window = Window.of_hour(hour)
            known = self._frame(
                "SELECT event_id FROM pathstats.traffic_events "
                "WHERE event_time >= ? AND event_time < ? AND event_id IN (SELECT event_id FROM incoming)",
                (window.start, window.end),
            )
        finally:
            self._connection.unregister("incoming")
        return events.join(known, on="event_id", how="anti", maintain_order="left") if len(known) else events

    # -- events --------------------------------------------------------------------------------------------------

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
        self._connection.register("excluded", excluded.to_arrow())
        try:
            where += " AND (date_trunc('hour', event_time), load_id) NOT IN (SELECT (hour, load_id) FROM excluded)"
            yield where, parameters
        finally:
            self._connection.unregister("excluded")

    def tally_events(self, window: Window, columns: Sequence[str], *, without: Sequence[Load] = ()) -> Tally:
        """The events of a window for `path_statistics`, with these columns, leaving out those of some loads.

        Strings of paths and methods are read once a distinct one: DuckDB keeps them in dictionaries, and numbering the
        events there costs less than handing their paths over. Nothing else may be asked of the warehouse until the
        batches were read.
        """
        # One hour is what is built all day long, and has no need of a look at every event's time.
        hour = "date_trunc('hour', event_time)" if window.end - window.start > HOUR else "CAST(? AS TIMESTAMP)"
        given = [window.start] if hour.startswith("CAST") else []
        with self._bounded(), self._excluding(window, without) as (where, parameters):
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
        with self._bounded(), self._excluding(window, without) as (where, parameters):
            reader = self._run(
                f"SELECT hash({parts}, {salt}) AS key, {', '.join(columns)} "
                f"FROM pathstats.traffic_events WHERE {where}",
                parameters,
            ).to_arrow_reader(_TALLY_ROWS)
            for batch in reader:
                cell = pc.index_in(batch.column("key"), value_set=cell_keys)
                frame = pl.from_arrow(batch.set_column(0, CELL, cell))
                assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type
                yield frame

    def _cell_keys(self, cells: pl.DataFrame, parts: str) -> tuple[int, pl.Series]:
        """A salt, and the hash of these parts and the salt [cell], which differs from cell to cell.

        DuckDB hashes a string of a dictionary once, so a number costs a tenth of handing the strings over. In 64 bits,
        a million cells collide once in 10^7 hours; the next salt tells them apart.
        """
        self._connection.register("cells", cells.to_arrow())
        try:
            for salt in itertools.count():
                keys = self._frame(f"SELECT hash({parts}, {salt}) AS key FROM cells").to_series()
                if keys.n_unique() == keys.len():
                    return salt, keys
        finally:
            self._connection.unregister("cells")
        raise AssertionError("count() has no end")

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        """Bound what DuckDB keeps of the file it reads, for work that passes over it once."""
        self._run(f"SET memory_limit = '{_TALLY_MEMORY_MB}MB'")
        try:
            yield
        finally:
            self._run(f"SET memory_limit = '{self._memory_limit}'")

    def stream_loads(self, loads: Iterable[Load], batch_rows: int) -> Iterator[pl.DataFrame]:
        """The events of these loads in batches, loads in the order of their identity, rows as they were inserted.

        Raises TooWideError when rows are so wide that a batch of them doesn't fit `limit_memory`.
        """
        try:
            yield from self._stream(loads, batch_rows)
        except (duckdb.OutOfMemoryException, pa.ArrowException) as error:
            raise TooWideError(f"a batch of events does not fit: {str(error).splitlines()[0]}") from error

    def _stream(self, loads: Iterable[Load], batch_rows: int) -> Iterator[pl.DataFrame]:
        names = ", ".join(column.name for column in EVENT_COLUMNS)
        for together in self._in_groups(sorted(loads), _GROUPED_BATCHES * batch_rows):
            window = Window.of_hour(together[0].hour)
            # Rows of one load come as they were inserted without a sort, which would hold all of them.
            order = "ORDER BY load_id, rowid" if together[1:] else ""
            reader = self._run(
                f"SELECT {names} FROM pathstats.traffic_events "
                f"WHERE event_time >= ? AND event_time < ? AND load_id IN ({_marks(together)}) {order}",
                (window.start, window.end, *(load.load_id for load in together)),
            ).to_arrow_reader(batch_rows)
            for batch in reader:
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type
                yield frame

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

    def delete_load(self, load: Load, batch_rows: int) -> int:
        """Delete a load's events in batches, each with its progress in one transaction; returns how many now."""
        window, deleted = Window.of_hour(load.hour), 0
        while True:
            with self._transaction():
                [(count,)] = self._run(
                    "DELETE FROM pathstats.traffic_events WHERE rowid IN (SELECT rowid FROM pathstats.traffic_events "
                    "WHERE event_time >= ? AND event_time < ? AND load_id = ? LIMIT ?)",
                    (window.start, window.end, load.load_id, batch_rows),
                ).fetchall()
                if count:
                    self._run(
                        "UPDATE pathstats.loads SET deleted_rows = deleted_rows + ? "
                        "WHERE hour = ? AND load_id = ? AND NOT rejected_load",
                        (count, load.hour, load.load_id),
                    )
            deleted += int(count)
            if count < batch_rows:
                return deleted

    def checkpoint(self) -> None:
        """Give the space of deleted rows back to the file."""
        self._run("CHECKPOINT")

    def limit_memory(self, megabytes: int | None) -> None:
        """Bound DuckDB's buffers from now on, for work that streams; None for DuckDB's own limit."""
        # RESET shows the old limit again, but DuckDB 1.5.5 goes on working with the new one.
        self._run(f"SET memory_limit = '{f'{megabytes}MB' if megabytes else self._memory_limit}'")
        # Each thread holds decompressed blocks of its own, which the limit doesn't count.
        self._run("SET threads = 1")

    # -- statistics ----------------------------------------------------------------------------------------------

    def replace_hourly(self, window: Window, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Replace the hourly statistics of a window; each hour's revision goes up by one."""
        self._replace("path_stats_hourly", "hour", (window.start, window.end), rows, now)

    def replace_daily(self, window: Window, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Replace the daily statistics of a window of whole days; each day's revision goes up by one."""
        self._replace("path_stats_daily", "day", (window.start.date(), window.end.date()), rows, now)

    def _replace(
        self, table: str, key: str, span: tuple[dt.date, dt.date], rows: pl.DataFrame, now: dt.datetime
    ) -> None:
        with self._transaction():
            before = self._frame(
                f"SELECT {key}, max(revision) AS before FROM pathstats.{table} "
                f"WHERE {key} >= ? AND {key} < ? GROUP BY {key}",
                span,
            )
            built = rows.join(before, on=key, how="left").with_columns(
                (pl.col("before").fill_null(0) + 1).alias("revision"),
                pl.lit(now, pl.Datetime("us")).alias("computed_at"),
            )
            self._run(f"DELETE FROM pathstats.{table} WHERE {key} >= ? AND {key} < ?", span)
            if len(built):
                self._insert(table, built.drop("before"))

    def hourly(self, window: Window) -> pl.DataFrame:
        """The hourly statistics of a window."""
        return self._frame(
            "SELECT * FROM pathstats.path_stats_hourly WHERE hour >= ? AND hour < ? ORDER BY hour, path, method",
            (window.start, window.end),
        )

    def daily(self, window: Window) -> pl.DataFrame:
        """The daily statistics of the days of a window."""
        return self._frame(
            "SELECT * FROM pathstats.path_stats_daily WHERE day >= ? AND day < ? ORDER BY day, path, method",
            (window.start.date(), window.end.date()),
        )

    def requests_by_hour(self, window: Window) -> dict[dt.datetime, int]:
        """Requests that the hourly statistics of a window count, hour by hour."""
        return dict(
            self._run(
                "SELECT hour, sum(requests)::BIGINT FROM pathstats.path_stats_hourly "
                "WHERE hour >= ? AND hour < ? GROUP BY hour",
                (window.start, window.end),
            ).fetchall()
        )

    def rejected_lines(self, window: Window) -> int:
        """Lines of the loads of a window that went to `rejected_events`."""
        [(count,)] = self._run(
            "SELECT coalesce(sum(rejected), 0)::BIGINT FROM pathstats.loads WHERE hour >= ? AND hour < ?",
            (window.start, window.end),
        ).fetchall()
        return int(count)

    def statistics_span(self) -> Window | None:
        """From the first to the end of the last hour that has statistics; None when there are none."""
        [(first, last)] = self._run("SELECT min(hour), max(hour) FROM pathstats.path_stats_hourly").fetchall()
        return None if first is None else Window(first, Window.of_hour(last).end)

    # -- archives ------------------------------------------------------------------------------------------------

    def record_archives(self, date: dt.date, manifests: Sequence[Manifest], uris: Sequence[str]) -> None:
        """Replace what the warehouse says of a day's archive by what its manifests say."""
        rows = [
            {
                **{name: getattr(manifest, name) for name in _MANIFEST_FIELDS},
                "uri": uri,
                "bytes": manifest.size_bytes,
                "strategy": manifest.strategy.value,
                "digest": manifest.digest.hex,
            }
            for manifest, uri in zip(manifests, uris, strict=True)
        ]
        schema = {column.name: column.dtype for column in TABLES["archives"]}
        with self._transaction():
            self._run("DELETE FROM pathstats.archives WHERE date = ?", (date,))
            if rows:
                self._insert("archives", pl.DataFrame(rows, schema=schema))

    def archives(self) -> pl.DataFrame:
        """Every archived generation, by day."""
        return self._frame("SELECT * FROM pathstats.archives ORDER BY date, generation")


_MANIFEST_FIELDS: Final = (
    "date",
    "generation",
    "rows",
    "raw_bytes",
    "sha256",
    "first_event_time",
    "last_event_time",
    "archived_at",
    "verified_at",
)


def _marks(values: Sequence[Any]) -> str:
    """A parameter mark for each value."""
    return ", ".join("?" * len(values))


def _load_facts(row: tuple[Any, ...]) -> LoadFacts:
    hour, load_id, *facts = row
    return LoadFacts(Load(hour, load_id), *facts)
