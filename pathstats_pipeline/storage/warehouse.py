"""The warehouse: a DuckDB file with the hot days of events and all the statistics, behind a narrow seam.

The seam is: append a load, replace a partition, delete loads, read a window. Its parts have a file each: the file and
its lock (duck.py), the tables (tables.py), statements and transactions (session.py), loads (loads.py), events
(reading.py), statistics (statistics.py), the life of archives (archives.py), and how days stand
(overview.py). Here they come together.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from pathstats_pipeline.storage.archives import Archives
from pathstats_pipeline.storage.duck import WarehouseError, open_connection
from pathstats_pipeline.storage.overview import Overview
from pathstats_pipeline.storage.reading import Reading
from pathstats_pipeline.storage.statistics import Statistics
from pathstats_pipeline.storage.tables import TABLES


@contextlib.contextmanager
def open_warehouse(path: pathlib.Path, *, lock_timeout_seconds: float) -> Iterator["Warehouse"]:
    """The warehouse, held alone; tables that are missing in it are created. Waits and raises as `open_connection`.

    Raises WarehouseError, too, when somebody has changed the columns of a table.
    """
    with open_connection(path, lock_timeout_seconds=lock_timeout_seconds) as connection:
        warehouse = Warehouse(connection)
        warehouse.create_missing()
        if changed := warehouse.changed_columns():
            raise WarehouseError(f"{path}: somebody has changed its tables; missing: {', '.join(changed)}")
        yield warehouse


class Warehouse(Reading, Statistics, Archives, Overview):
    """An open warehouse. Obtained from `open_warehouse`; every method leaves no transaction open."""

    def create_missing(self) -> None:
        """Create the schema and the tables that aren't there."""
        self._run("CREATE SCHEMA IF NOT EXISTS pathstats")
        for table, columns in TABLES.items():
            body = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self._run(f"CREATE TABLE IF NOT EXISTS pathstats.{table} ({body})")

    def changed_columns(self) -> list[str]:
        """Columns that a table must have and hasn't, or has with another type; more than these may be there."""
        found = self._run(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = 'pathstats'"
        ).fetchall()
        expected = [(table, column.name, column.sql_type) for table, columns in TABLES.items() for column in columns]
        return [
            f"pathstats.{table}.{name} {kind}" for table, name, kind in expected if (table, name, kind) not in found
        ]
