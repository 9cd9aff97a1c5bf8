"""Plumbing of an open warehouse: statements, frames in and out, transactions, memory. No table is named here.

Statements stay plain SQL without ON CONFLICT and RETURNING, for the reason that tables.py gives.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa


class Session:
    """A connection, and how the rooms of the warehouse use it; every method leaves no transaction open."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        [(self._memory_limit,)] = self._run("SELECT current_setting('memory_limit')").fetchall()

    def checkpoint(self) -> None:
        """Give the space of deleted rows back to the file."""
        self._run("CHECKPOINT")

    @contextlib.contextmanager
    def limited(self, megabytes: int, threads: int | None = None) -> Iterator[None]:
        """Bound DuckDB's buffers for work that passes over rows once; afterwards they are as before.

        They must be: a checkpoint needs more than a stream. Each thread holds decompressed blocks of its own, which the
        limit doesn't count.
        """
        [(had,)] = self._run("SELECT current_setting('threads')").fetchall()
        try:
            self._run(f"SET memory_limit = '{megabytes}MB'")
            self._run(f"SET threads = {threads or had}")
            yield
        finally:
            # RESET shows the old limit again, but DuckDB 1.5.5 goes on working with the new one.
            self._run(f"SET memory_limit = '{self._memory_limit}'")
            self._run(f"SET threads = {had}")

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(sql, list(parameters))

    def _frame(self, sql: str, parameters: Sequence[Any] = ()) -> pl.DataFrame:
        return frame_of(self._run(sql, parameters).to_arrow_table())

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
        with self._registered("incoming", rows):
            self._run(f"INSERT INTO pathstats.{table} ({names}) SELECT {names} FROM incoming")

    @contextlib.contextmanager
    def _registered(self, name: str, rows: pl.DataFrame) -> Iterator[None]:
        """A frame as a table of this name, while the context is open."""
        self._connection.register(name, rows.to_arrow())
        try:
            yield
        finally:
            self._connection.unregister(name)


def frame_of(arrow: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """A table or batch of DuckDB as a frame."""
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type; a table is never a Series
    return frame
