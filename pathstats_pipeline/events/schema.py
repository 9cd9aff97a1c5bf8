"""The event schema, in one place: the table, the validation and the JSONL are derived from here.

Add a column here and nowhere else. Nothing in this room reads a file, a clock or a setting.
"""

import dataclasses
from typing import Final

import polars as pl


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an event: its name, its DuckDB type, its Polars type, and what it means."""

    name: str
    sql_type: str
    dtype: pl.DataType
    meaning: str


TIME: Final = pl.Datetime("us")

EVENT_COLUMNS: Final = (
    Column("event_id", "VARCHAR", pl.String(), "identity: the producer's, or source identity and line number"),
    Column("event_time", "TIMESTAMP", TIME, "UTC, microseconds"),
    Column("host", "VARCHAR", pl.String(), "host asked for; NULL where the source has none"),
    Column("method", "VARCHAR", pl.String(), "HTTP method; NULL where the request line is not HTTP"),
    Column("path", "VARCHAR", pl.String(), "path as received, without query string and fragment"),
    Column("status", "SMALLINT", pl.Int16(), "HTTP status; NULL where the source has none"),
    Column("response_time_ms", "DOUBLE", pl.Float64(), "total time in milliseconds; NULL where unknown"),
    Column("bytes_sent", "BIGINT", pl.Int64(), "bytes sent; NULL where unknown"),
    Column("client_ip", "VARCHAR", pl.String(), "address of the client"),
    Column("user_agent", "VARCHAR", pl.String(), "user agent; NULL where the source has none"),
)
"""The columns of an event as they stand in a landing file and, in this order, in the archive."""

EVENT_SCHEMA: Final[dict[str, pl.DataType]] = {column.name: column.dtype for column in EVENT_COLUMNS}
"""Polars schema of an event frame."""

EVENT_NAMES: Final = tuple(EVENT_SCHEMA)
"""The columns of an event, in the order of the archive."""

PARSED_SCHEMA: Final[dict[str, pl.DataType]] = {**EVENT_SCHEMA, "line_number": pl.Int64()}
"""What a log format makes of its accepted lines. `event_id` is NULL where the producer gave none."""

REJECTED_SCHEMA: Final[dict[str, pl.DataType]] = {
    "line_number": pl.Int64(),
    "raw": pl.Binary(),
    "reason": pl.String(),
}
"""What a log format makes of a line that can't become an event: its number from 1, its bytes, and why."""
