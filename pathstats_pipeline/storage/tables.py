"""The tables of schema `pathstats`: their columns, in order, with type and meaning.

No primary keys, unique indexes, sequences or CHECK: the event table is several times smaller and faster without them,
and the store that comes after DuckDB for a fleet has none of them.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from pathstats_pipeline.events.schema import EVENT_COLUMNS, Column
from pathstats_pipeline.stats.hourly import DAILY_COLUMNS, HOURLY_COLUMNS

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
    "archive_steps": (
        Column("date", "DATE", pl.Date(), "the archived day, UTC"),
        Column("generation", "BIGINT", pl.Int64(), "its number"),
        Column(
            "state", "VARCHAR", pl.String(), "planned, uploaded, verified, manifested, deleting, deleted, abandoned"
        ),
        Column("document", "VARCHAR", pl.String(), "the plan, what was sent, or the manifest, as JSON; NULL elsewhere"),
        Column("recorded_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
        Column("step", "BIGINT", pl.Int64(), "from 1 for each generation; the last one counts"),
    ),
    "holds": (
        Column("date", "DATE", pl.Date(), "a day that clean-up leaves alone, UTC"),
        Column("reason", "VARCHAR", pl.String(), "why"),
        Column("placed_at", "TIMESTAMP", pl.Datetime("us"), "UTC"),
    ),
}
"""Every table of schema `pathstats`, in the order of its columns."""
