"""Hourly statistics: events of one or many hours to one row for each (hour, path template, method).

The columns of the statistics tables are derived from here: add a measure to `MEASURES`, to `path_statistics` and to
`rollup.merge_statistics`. Merging rows is rollup.py's; `revision` and `computed_at` are the storage's; no clock here.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events import templates
from pathstats_pipeline.events.schema import TIME, Column
from pathstats_pipeline.stats import fallback, latency, ordering, pairs, visitors

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

_HOUR_US: Final = 3_600_000_000
_TABLE_FACTOR: Final = 4

Codes = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Grouping:
    """Which group each event [row] belongs to, and the key columns of the groups [group]."""

    groups: Codes
    keys: pl.DataFrame


def path_statistics(
    events: pl.DataFrame,
    *,
    rules: Sequence[templates.PathRule] = (),
    max_templates: int = 10_000,
    sketches: pairs.SketchChoice = pairs.SketchChoice.TDIGEST_HLL,
) -> pl.DataFrame:
    """Statistics of events: one row for each (hour, path template, method), in `HOURLY_SCHEMA`.

    `events` has event_time (not NULL), method, path, status, response_time_ms, bytes_sent and client_ip, of any number
    of hours in any order; the order doesn't change a byte of the result. An hour keeps its `max_templates` templates
    with the most requests, ties by name; the rest are counted in `__other__`, sketches and all. Methods outside
    `METHODS` are counted under `-`. Over the rows of an hour, `requests` sums up to its events. Rows come by hour, then
    most requests first, then path and method. With `sketches` other than the default, see fallback.py, and events have
    their event_id.
    """
    if events.is_empty():
        return pl.DataFrame(schema=HOURLY_SCHEMA)
    grouping = _group(events, rules, max_templates)
    n_groups = grouping.keys.height
    order, _ = ordering.partition(grouping.groups, n_groups)
    groups = grouping.groups if order is None else grouping.groups[order]
    return (
        pl.concat(
            [
                grouping.keys,
                _counts(events, grouping.groups, n_groups),
                sketch_measures(
                    _latencies(events["response_time_ms"], order, groups, n_groups),
                    _visitors(events["client_ip"], order, groups, n_groups),
                )
                if sketches is pairs.SketchChoice.TDIGEST_HLL
                else sketch_measures(*fallback.sketch(events, grouping.groups, n_groups), pairs.PAIRS[sketches]),
            ],
            how="horizontal",
        )
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


def _group(events: pl.DataFrame, rules: Sequence[templates.PathRule], max_templates: int) -> _Grouping:
    hour_of, hours = _dense_codes(events["event_time"].cast(TIME).to_physical().to_numpy() // _HOUR_US)
    path_of, paths = _distinct(events["path"])
    method_of, methods = _distinct(events["method"])
    template_of, names = _named_codes(templates.fold(paths, rules), path_of)
    known = methods.to_frame("method").select(
        pl.when(pl.col("method").is_in(METHODS)).then("method").otherwise(pl.lit(OTHER_METHOD))
    )
    method_of, method_names = _named_codes(known.to_series(), method_of)
    template_of = _cap(hour_of, template_of, names.len(), max_templates)
    # One more code than there are names: the template of all that the cap cuts off.
    names = pl.concat([names, pl.Series(names.name, [templates.OTHER_TEMPLATE])])
    groups, keys = _dense_codes((hour_of * names.len() + template_of) * method_names.len() + method_of)
    rest, method_at = np.divmod(keys, method_names.len())
    hour_at, template_at = np.divmod(rest, names.len())
    return _Grouping(
        groups,
        pl.DataFrame(
            {
                "hour": pl.Series(hours[hour_at] * _HOUR_US).cast(TIME),
                "path": names[template_at],
                "method": method_names[method_at],
            }
        ),
    )


def _distinct(values: pl.Series) -> tuple[Codes, pl.Series]:
    """Code [row] of each string and the distinct strings [code]; NULL is the empty string."""
    # Categories of its own: the shared ones would keep every path that this process ever saw.
    dtype = pl.Categorical(pl.Categories.random())
    coded = values.fill_null("").cast(dtype)
    codes, _ = _dense_codes(coded.to_physical().to_numpy())
    distinct = coded.unique()
    return codes, distinct.cast(pl.String).gather(distinct.to_physical().arg_sort())


def _named_codes(names: pl.Series, code_of: Codes) -> tuple[Codes, pl.Series]:
    """Codes [row] in the order of the sorted distinct names, where row's name is `names[code_of[row]]`."""
    distinct = names.unique().sort()
    numbered = distinct.to_frame("name").with_row_index("code")
    codes = names.to_frame("name").join(numbered, on="name", how="left", maintain_order="left")["code"]
    return codes.to_numpy().astype(np.int64)[code_of], distinct


def _dense_codes(keys: npt.NDArray[Any]) -> tuple[Codes, Codes]:
    """Rank [row] of each key among the distinct keys, and these, ascending."""
    keys = keys.astype(np.int64, copy=False)
    low, high = int(keys.min()), int(keys.max())
    if high - low >= _TABLE_FACTOR * (keys.size + 0xFFFF):
        distinct, codes = np.unique(keys, return_inverse=True)
        return codes.astype(np.int64, copy=False), distinct
    present = np.zeros(high - low + 1, np.bool_)
    present[keys - low] = True
    return (np.cumsum(present, dtype=np.int64) - 1)[keys - low], np.flatnonzero(present) + low


def _cap(hour_of: Codes, template_of: Codes, n_templates: int, max_templates: int) -> Codes:
    """Template codes [row] with `n_templates` in place of those beyond the cap of their hour."""
    pair_of, pairs = _dense_codes(hour_of * n_templates + template_of)
    hour, template = np.divmod(pairs, n_templates)
    order = np.lexsort((template, -np.bincount(pair_of), hour))
    first_of_hour = np.searchsorted(hour, hour[order])
    capped = template.copy()
    capped[order[np.arange(order.size) - first_of_hour >= max_templates]] = n_templates
    return capped[pair_of]


def _counts(events: pl.DataFrame, groups: Codes, n_groups: int) -> pl.DataFrame:
    status = events["status"].fill_null(0).to_numpy().astype(np.int64) // 100
    n_classes = 6
    classes = np.where((status >= 2) & (status <= 5), status, 0)  # noqa: PLR2004 - 2xx to 5xx
    by_class = np.bincount(groups * n_classes + classes, minlength=n_groups * n_classes).reshape(-1, n_classes)
    sent = np.zeros(n_groups, np.int64)
    np.add.at(sent, groups, events["bytes_sent"].fill_null(0).to_numpy())
    return pl.DataFrame(
        {
            "requests": by_class.sum(axis=1),
            **{f"status_{each}xx": by_class[:, each] for each in range(2, n_classes)},
            "bytes_sent": sent,
        }
    )


def _latencies(times: pl.Series, order: Codes | None, groups: Codes, n_groups: int) -> latency.LatencySketches:
    known = times.is_not_null().to_numpy()
    values = times.to_numpy()
    if order is not None:
        known, values = known[order], values[order]
    # NULL is no sample at all; NaN, infinite and negative ones are what the sketch counts as dropped.
    if not bool(known.all()):
        groups, values = groups[known], values[known]
    return latency.build(groups, n_groups, values)


def _visitors(addresses: pl.Series, order: Codes | None, groups: Codes, n_groups: int) -> visitors.VisitorSketches:
    known = addresses.is_not_null().to_numpy()
    hashes = visitors.hash_clients(addresses).fill_null(0).to_numpy()
    if order is not None:
        known, hashes = known[order], hashes[order]
    if not bool(known.all()):
        groups, hashes = groups[known], hashes[known]
    return visitors.build(groups, n_groups, hashes)
