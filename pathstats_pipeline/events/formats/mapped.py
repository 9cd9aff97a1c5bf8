"""Events from named text fields, by a field map: what JSON lines, LTSV and W3C lines have in common.

How a line is taken apart into its fields stays with its format, and reading a map's file is in `fieldmap`.
"""

import polars as pl

from pathstats_pipeline.events.formats.fieldmap import REQUEST_LINE, FieldMap, KeyPath
from pathstats_pipeline.events.formats.requests import method_of, read_requests, read_targets
from pathstats_pipeline.events.formats.times import TIME_FORMS, times
from pathstats_pipeline.events.formats.values import (
    absent,
    addresses,
    durations_ms,
    host_names,
    not_duration,
    whole_numbers,
)
from pathstats_pipeline.events.schema import EVENT_SCHEMA

_COLUMNS = (*EVENT_SCHEMA, REQUEST_LINE)


def places_of(field_map: FieldMap) -> list[KeyPath]:
    """Give the places that a map looks at, each once and in a fixed order."""
    return sorted({place for places in field_map.columns.values() for place in places}, key=repr)


def mapped_events(part: pl.DataFrame, field_map: FieldMap, pathless: pl.Expr) -> pl.DataFrame:
    """Give a draft from a frame of `index` and one text column for each place of the map, named by its `repr`.

    `pathless` tells where the source says itself that a request has no path; elsewhere a line without one is rejected.
    """
    text = part.select("index", *(_first(field_map, column).alias(column) for column in _COLUMNS))
    requested = _requested(text, field_map)
    status, bad_status = whole_numbers(_given(text["status"]))
    size, bad_size = whole_numbers(_given(text["bytes_sent"]))
    time = times(text["event_time"], *(read for form in field_map.time for read in TIME_FORMS[form]))
    duration = pl.col("response_time_ms")
    no_path = text["path"].is_null() & text[REQUEST_LINE].is_null()
    if no_path.any():  # it is asked of every line, by a regular expression
        no_path &= ~part.select(pathless).to_series()
    return text.select(
        "index",
        pl.when(pl.col("event_time").is_null())
        .then(pl.lit("no time"))
        .when(time.is_null())
        .then(pl.lit("bad time"))
        .when(no_path)
        .then(pl.lit("no path"))
        .when(bad_status)
        .then(pl.lit("bad status"))
        .when(bad_size)
        .then(pl.lit("bad bytes"))
        .when(not_duration(duration))
        .then(pl.lit("bad response time"))
        .alias("reason"),
        "event_id",
        time.alias("event_time"),
        requested["host"],
        requested["method"],
        requested["path"],
        status.alias("status"),
        durations_ms(text["response_time_ms"], field_map.response_time).alias("response_time_ms"),
        size.alias("bytes_sent"),
        (text["client_ip"] if field_map.verbatim else addresses(text["client_ip"])).alias("client_ip"),
        "user_agent",
    )


def _first(field_map: FieldMap, column: str) -> pl.Expr:
    """Give the first value among the places of a column, as text."""
    places = field_map.columns.get(column, ())
    return pl.coalesce(pl.col(repr(place)) for place in places) if places else pl.lit(None, pl.String)


def _requested(text: pl.DataFrame, field_map: FieldMap) -> pl.DataFrame:
    """Give `method`, `path` and `host`: from their own keys, else from the whole request line."""
    if field_map.verbatim:
        return text.select("method", "path", "host")
    path = pl.col("path")
    targets = text.select(pl.when(~absent(path)).then(path)).to_series()
    own = text.select("host", method=method_of(pl.col("method"))).hstack(read_targets(targets))
    if text[REQUEST_LINE].null_count() < text.height:
        line = read_requests(text[REQUEST_LINE])
        own = own.select(
            "host",
            *(pl.coalesce(name, line[name]).alias(name) for name in ("method", "path", "target_host")),
        )
    named = own.select(pl.when(~absent(pl.col("host"))).then("host").otherwise("target_host")).to_series()
    return own.select("method", "path", host_names(named).alias("host"))


def _given(text: pl.Series) -> pl.Series:
    """Give numbers in one writing: JSON may write 200 as 200.0."""
    return text.str.strip_suffix(".0") if text.str.ends_with(".0").any() else text
