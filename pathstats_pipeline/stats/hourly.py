"""Hourly statistics: events of one or many hours to one row for each (hour, path template, method).

The columns of the statistics tables are derived from here: add a measure to `MEASURES`, to `path_statistics` and to
`rollup.merge_statistics`. Merging rows is rollup.py's; `revision` and `computed_at` are the storage's; no clock here.
"""

import concurrent.futures
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events import templates
from pathstats_pipeline.events.schema import TIME, Column
from pathstats_pipeline.stats import fallback, gathering, latency, pairs, tally, visitors

EVENT_INPUT: Final = ("event_time", "method", "path", "status", "response_time_ms", "bytes_sent", "client_ip")
"""The columns of events that statistics are made of."""


def event_input(sketches: pairs.SketchChoice) -> tuple[str, ...]:
    """The columns of events that statistics with these sketches are made of: reservoirs sample events by their ids."""
    return EVENT_INPUT if sketches is pairs.SketchChoice.TDIGEST_HLL else (*EVENT_INPUT, "event_id")


PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

MEASURES: Final = (
    Column("requests", "BIGINT", pl.Int64(), "events, whatever their status"),
    Column("status_2xx", "BIGINT", pl.Int64(), "events with status 200 to 299"),
    Column("status_3xx", "BIGINT", pl.Int64(), "events with status 300 to 399"),
    Column("status_4xx", "BIGINT", pl.Int64(), "events with status 400 to 499"),
    Column("status_5xx", "BIGINT", pl.Int64(), "events with status 500 to 599"),
    Column("bytes_sent", "BIGINT", pl.Int64(), "sum of the known sizes; 0 where none is known"),
    Column("response_time_ms_count", "BIGINT", pl.Int64(), "events with a usable response time"),
    Column("response_time_ms_sum", "DOUBLE", pl.Float64(), "their sum; NULL where there is none"),
    Column("response_time_ms_min", "DOUBLE", pl.Float64(), "the fastest; NULL where there is none"),
    Column("response_time_ms_max", "DOUBLE", pl.Float64(), "the slowest; NULL where there is none"),
    *(
        Column(f"response_time_ms_{name}", "DOUBLE", pl.Float64(), f"{name} of the response time, from latency_sketch")
        for name in PERCENTILES
    ),
    Column("unique_ips", "BIGINT", pl.Int64(), "distinct client addresses, from visitors_sketch"),
    Column("latency_sketch", "BLOB", pl.Binary(), "mergeable state; NULL where no event had a response time"),
    Column("visitors_sketch", "BLOB", pl.Binary(), "mergeable state; NULL where no event had an address"),
)
"""What every row of statistics holds besides its key, whatever its grain."""

_PATH: Final = Column("path", "VARCHAR", pl.String(), "path template")
_METHOD: Final = Column("method", "VARCHAR", pl.String(), "registered HTTP method, or -")

HOURLY_COLUMNS: Final = (
    Column("hour", "TIMESTAMP", TIME, "start of the hour, UTC"),
    _PATH,
    _METHOD,
    *MEASURES,
)
"""Columns of `path_stats_hourly` that are computed here."""

DAILY_COLUMNS: Final = (
    Column("day", "DATE", pl.Date(), "day, UTC"),
    _PATH,
    _METHOD,
    *MEASURES,
)
"""Columns of `path_stats_daily` that are computed from the hourly ones."""

HOURLY_SCHEMA: Final[dict[str, pl.DataType]] = {column.name: column.dtype for column in HOURLY_COLUMNS}
DAILY_SCHEMA: Final[dict[str, pl.DataType]] = {column.name: column.dtype for column in DAILY_COLUMNS}

OTHER_METHOD: Final = "-"
# fmt: off
METHODS: Final = (
    "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL",
    "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS",
    "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT",
    "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
)
# fmt: on
"""The IANA registry of HTTP methods, and PURGE, which caches took up without registering it.

A closed set: clients can send any token, and each would make rows of its own.
"""

_BLOCK_EVENTS: Final = 500_000

Codes = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class _Grouping:
    """Which group each cell [row] belongs to, how many events each group has, and the groups' key columns [group]."""

    groups: Codes
    requests: Codes
    keys: pl.DataFrame


def path_statistics(
    events: pl.DataFrame | tally.Tally,
    *,
    rules: Sequence[templates.PathRule] = (),
    max_templates: int = 10_000,
    sketches: pairs.SketchChoice = pairs.SketchChoice.TDIGEST_HLL,
) -> pl.DataFrame:
    """Statistics of events: one row for each (hour, path template, method), in `HOURLY_SCHEMA`.

    `events` are a tally, which passes in batches, or a frame with event_time (not NULL), method, path, status,
    response_time_ms, bytes_sent and client_ip: of any number of hours, in any order, in any batches; none of that
    changes a byte of the result. An hour keeps its `max_templates` templates with the most requests that were not
    answered 4xx, then with the most requests, then by name: what scanners probe can't push out what the site serves.
    The rest are counted in `__other__`, sketches and all. Methods outside `METHODS` are counted under `-`. Over the
    rows of an hour, `requests` sums up to its events. Rows come by hour, then most requests first, then path and
    method. With `sketches` other than the default, see fallback.py: events have their event_id, and are held at once.
    """
    counted = events if isinstance(events, tally.Tally) else tally.tally([events])
    if counted.cells.is_empty():
        return pl.DataFrame(schema=HOURLY_SCHEMA)
    grouping = _group(counted.cells, rules, max_templates)
    if sketches is pairs.SketchChoice.TDIGEST_HLL:
        gathered = _gather(grouping, counted.batches)
        measures = _measures(gathered)
    else:
        whole = pl.concat(counted.batches)
        gathered = _gather(grouping, [whole])
        groups = grouping.groups[whole[tally.CELL].to_numpy()]
        measures = sketch_measures(*fallback.sketch(whole, groups, grouping.keys.height), pairs.PAIRS[sketches])
    return (
        pl.concat([grouping.keys, _counts(gathered), measures], how="horizontal")
        .sort("hour", "requests", "path", "method", descending=[False, True, False, False])
        .select(pl.col(name).cast(dtype) for name, dtype in HOURLY_SCHEMA.items())
    )


def sketch_measures(
    latencies: Any, clients: Any, pair: pairs.Pair = pairs.PAIRS[pairs.SketchChoice.TDIGEST_HLL]
) -> pl.DataFrame:
    """The measures [group] that are read off the sketches of a pair, and the states themselves."""
    percentiles = pair.latency.percentiles(latencies, list(PERCENTILES.values()))
    return pl.DataFrame(
        {
            "response_time_ms_count": latencies.count,
            "response_time_ms_sum": latencies.sum,
            "response_time_ms_min": latencies.min,
            "response_time_ms_max": latencies.max,
            **{f"response_time_ms_{name}": percentiles[:, at] for at, name in enumerate(PERCENTILES)},
            "unique_ips": pair.visitors.estimate(clients),
            "latency_sketch": pair.latency.encode(latencies),
            "visitors_sketch": pair.visitors.encode(clients),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def _group(cells: pl.DataFrame, rules: Sequence[templates.PathRule], max_templates: int) -> _Grouping:
    method = pl.col("method")
    named = cells.select(
        "hour",
        templates.fold(cells["path"], rules).alias("path"),
        pl.when(method.is_in(METHODS)).then(method).otherwise(pl.lit(OTHER_METHOD)).alias("method"),
        "requests",
        "status_4xx",
    )
    capped = templates.cap(named, ["hour"], max_templates)
    key = ["hour", "path", "method"]
    keys = capped.group_by(key).agg(pl.col("requests").sum()).sort(key)
    numbered = keys.select(key).with_row_index("group")
    groups = capped.select(key).join(numbered, on=key, how="left", maintain_order="left")["group"]
    # 32 bits an event are read and written several times over.
    return _Grouping(groups.to_numpy().astype(np.int32), keys["requests"].to_numpy(), keys.select(key))


def _gather(grouping: _Grouping, batches: Iterable[pl.DataFrame]) -> gathering.Gathering:
    """All batches by group; while one is put in its place, the next is read."""
    gathered = gathering.Gathering(grouping.requests)
    with concurrent.futures.ThreadPoolExecutor(1) as worker:
        running: concurrent.futures.Future[None] | None = None
        for batch in batches:
            if running is not None:
                running.result()
            running = worker.submit(gathered.add, grouping.groups, batch)
        if running is not None:
            running.result()
    return gathered


def _counts(gathered: gathering.Gathering) -> pl.DataFrame:
    by_class = gathered.by_class
    return pl.DataFrame(
        {
            "requests": by_class.sum(axis=1),
            **{f"status_{each}xx": by_class[:, each] for each in range(2, gathering.STATUS_CLASSES)},
            "bytes_sent": gathered.bytes_sent,
        }
    )


def _measures(gathered: gathering.Gathering) -> pl.DataFrame:
    """Sketches of a block of groups at a time: a bound on memory, work for every core, arrays that fit its cache."""

    def measure(block: npt.NDArray[np.int64]) -> pl.DataFrame:
        times, hashes = gathered.times(block), gathered.hashes(block)
        return sketch_measures(latency.build_grouped(*times), visitors.build_grouped(*hashes))

    with concurrent.futures.ThreadPoolExecutor(pl.thread_pool_size()) as workers:
        return pl.concat(workers.map(measure, gathered.blocks(_BLOCK_EVENTS)))
