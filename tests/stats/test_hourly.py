"""Hourly statistics: every event counted once, whatever its order, its path or its method."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.events.templates import INVALID_TEMPLATE, OTHER_TEMPLATE, PathRule
from pathstats_pipeline.stats import hourly, latency, rollup, visitors

TEN = dt.datetime(2026, 11, 22, 10)
INPUT = ("event_time", "method", "path", "status", "response_time_ms", "bytes_sent", "client_ip")
SCHEMA = {name: EVENT_SCHEMA[name] for name in INPUT}

event_rows = st.tuples(
    st.datetimes(TEN, TEN + dt.timedelta(hours=3)),
    st.sampled_from(["GET", "POST", "get", "\x16\x03", "", None]),
    st.sampled_from(["/a", "/b/1", "/b/2", "/c", "/d;x", "nonsense", None]),
    st.sampled_from([100, 200, 204, 301, 404, 499, 503, 999, None]),
    st.one_of(st.none(), st.floats(0, 1e6), st.sampled_from([1.0, 2.0, float("nan"), -1.0])),
    st.one_of(st.none(), st.integers(0, 10**12)),
    st.one_of(st.none(), st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"])),
)
event_frames = st.lists(event_rows, max_size=60).map(lambda rows: pl.DataFrame(rows, SCHEMA, orient="row"))


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Events that differ from a plain one as each row says."""
    plain = {"event_time": TEN, "method": "GET", "path": "/a", "status": 200, "client_ip": "10.0.0.1"}
    return pl.DataFrame([{**plain, **row} for row in rows], SCHEMA)


def test_one_cell_has_every_measure() -> None:
    """Three requests of one path: counts, exact percentiles, visitors and states."""
    found = hourly.path_statistics(
        events(
            {"path": "/u/1", "response_time_ms": 10.0, "bytes_sent": 5, "event_time": TEN.replace(minute=59)},
            {"path": "/u/2", "response_time_ms": 30.0, "status": 404, "client_ip": "10.0.0.2"},
            {"path": "/u/3", "bytes_sent": 7, "status": None},
        )
    )
    (row,) = found.drop("latency_sketch", "visitors_sketch").rows(named=True)
    assert row == {
        "hour": TEN, "path": "/u/:id", "method": "GET", "requests": 3,
        "status_2xx": 1, "status_3xx": 0, "status_4xx": 1, "status_5xx": 0, "bytes_sent": 12,
        "response_time_ms_count": 2, "response_time_ms_sum": 40.0,
        "response_time_ms_min": 10.0, "response_time_ms_max": 30.0,
        "response_time_ms_p50": 20.0, "response_time_ms_p90": 28.0,
        "response_time_ms_p95": 29.0, "response_time_ms_p99": pytest.approx(29.8),
        "unique_ips": 2,
    }  # fmt: skip
    assert latency.decode(found["latency_sketch"]).means.tolist() == [10, 30]
    assert visitors.estimate(visitors.decode(found["visitors_sketch"])).tolist() == [2]


def test_columns_are_those_of_the_contract() -> None:
    """Names and order as dashboards query them; `revision` and `computed_at` are the storage's."""
    measures = (
        "requests status_2xx status_3xx status_4xx status_5xx bytes_sent response_time_ms_count response_time_ms_sum "
        "response_time_ms_min response_time_ms_max response_time_ms_p50 response_time_ms_p90 response_time_ms_p95 "
        "response_time_ms_p99 unique_ips latency_sketch visitors_sketch"
    )
    assert " ".join(hourly.HOURLY_SCHEMA) == f"hour path method {measures}"
    assert " ".join(hourly.DAILY_SCHEMA) == f"day path method {measures}"
    assert hourly.path_statistics(events({})).schema == pl.Schema(hourly.HOURLY_SCHEMA)
    assert hourly.path_statistics(events()).schema == pl.Schema(hourly.HOURLY_SCHEMA)


def test_nothing_known_is_null_or_zero() -> None:
    """Without times, sizes and addresses: NULL percentiles and states, 0 bytes and visitors."""
    (row,) = hourly.path_statistics(events({"client_ip": None})).rows(named=True)
    assert (row["bytes_sent"], row["unique_ips"], row["response_time_ms_count"]) == (0, 0, 0)
    empty = [name for name, value in row.items() if value is None]
    assert empty == [
        "response_time_ms_sum", "response_time_ms_min", "response_time_ms_max", "response_time_ms_p50",
        "response_time_ms_p90", "response_time_ms_p95", "response_time_ms_p99", "latency_sketch", "visitors_sketch",
    ]  # fmt: skip


@given(event_frames, st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_every_event_is_counted_in_its_hour_in_any_order(frame: pl.DataFrame, cap: int, seed: int) -> None:
    """Requests sum up to the events of each hour; a shuffle changes no byte; several hours at once are each alone."""
    found = hourly.path_statistics(frame, max_templates=cap)
    expected = frame.group_by(hour=pl.col("event_time").dt.truncate("1h")).len("requests").sort("hour")
    counted = found.group_by("hour").agg(pl.col("requests").sum()).sort("hour")
    assert counted.rows() == expected.rows()
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert hourly.path_statistics(shuffled, max_templates=cap).equals(found)
    alone = [
        hourly.path_statistics(frame.filter(pl.col("event_time").dt.truncate("1h") == hour), max_templates=cap)
        for hour in expected["hour"]
    ]
    assert pl.concat([*alone, found.clear()]).equals(found)
    assert found.select("hour", "path", "method").is_duplicated().sum() == 0


def test_rows_come_by_hour_then_most_requests_first() -> None:
    """Ties go by path and method."""
    later = TEN + dt.timedelta(hours=1)
    found = hourly.path_statistics(
        events(
            {"path": "/z", "event_time": later}, {"path": "/c"}, {"path": "/b"}, {"path": "/b", "method": "PUT"},
            {"path": "/z"}, {"path": "/z"},
        )
    )  # fmt: skip
    keys = found.select("hour", "path", "method").rows()
    assert keys == [
        (TEN, "/z", "GET"), (TEN, "/b", "GET"), (TEN, "/b", "PUT"), (TEN, "/c", "GET"), (later, "/z", "GET"),
    ]  # fmt: skip


def test_methods_outside_the_registry_are_one_row() -> None:
    """Random tokens, lower case and NULL are counted under `-`: clients can't make rows at will."""
    found = hourly.path_statistics(
        events(*({"method": method} for method in ["GET", "PROPFIND", "get", "XYZZY", "\x03", "", "-", None]))
    )
    assert dict(found.select("method", "requests").rows()) == {"-": 6, "GET": 1, "PROPFIND": 1}


def test_broken_paths_are_counted_as_invalid() -> None:
    """NULL, empty and binary paths share a row."""
    found = hourly.path_statistics(events({"path": None}, {"path": ""}, {"path": "\x16\x03"}))
    assert found.select("path", "requests").rows() == [(INVALID_TEMPLATE, 3)]


def test_the_cap_keeps_the_busiest_and_counts_the_rest_in_other() -> None:
    """Per hour, over all methods, ties by name; `__other__` has sketches and all, a row for each method."""
    later = TEN + dt.timedelta(hours=1)
    frame = events(
        *({"path": "/busy"} for _ in range(3)),
        {"path": "/b"}, {"path": "/b", "method": "PUT"},
        {"path": "/c", "response_time_ms": 5.0}, {"path": "/c", "client_ip": "10.0.0.9"},
        {"path": "/rare", "method": "PUT", "response_time_ms": 7.0},
        {"path": "/rare", "event_time": later},
    )  # fmt: skip
    found = hourly.path_statistics(frame, max_templates=2)
    assert sorted(found.select("hour", "path", "method", "requests").rows()) == [
        (TEN, "/b", "GET", 1), (TEN, "/b", "PUT", 1), (TEN, "/busy", "GET", 3),
        (TEN, OTHER_TEMPLATE, "GET", 2), (TEN, OTHER_TEMPLATE, "PUT", 1), (later, "/rare", "GET", 1),
    ]  # fmt: skip
    other = found.filter(pl.col("path") == OTHER_TEMPLATE, pl.col("method") == "GET")
    assert other.select("response_time_ms_p50", "unique_ips").rows() == [(5.0, 2)]
    assert visitors.estimate(visitors.decode(other["visitors_sketch"])).tolist() == [2]


def test_scanners_push_out_nothing_that_the_site_serves() -> None:
    """20,000 paths that nobody ever saw, three requests each, beside an endpoint with one good request."""
    probes = pl.DataFrame({"path": [f"/x{n}y.php" for n in range(20_000)]})
    scan = pl.concat([probes] * 3).select(
        event_time=pl.lit(TEN), method=pl.lit("GET"), path="path", status=pl.lit(404, pl.Int16),
        response_time_ms=pl.lit(1.0), bytes_sent=pl.lit(0, pl.Int64), client_ip=pl.lit("10.6.6.6"),
    )  # fmt: skip
    served = events({"path": "/quiet"}, {"path": "/failing", "status": 500}, {"path": "/unknown", "status": None})
    found = hourly.path_statistics(pl.concat([scan, served]), max_templates=4)
    assert dict(found.select("path", "requests").rows()) == {
        OTHER_TEMPLATE: 3 * 19_999, "/x0y.php": 3, "/quiet": 1, "/failing": 1, "/unknown": 1,
    }  # fmt: skip
    day = rollup.daily_statistics(hourly.path_statistics(pl.concat([scan, served])), max_templates=4)
    assert set(day["path"]) == set(found["path"])


def test_rules_apply_before_the_cap() -> None:
    """Many paths under one rule are one template."""
    rules = (PathRule("/b/.*", "/b/:slug"),)
    frame = events({"path": "/b/x"}, {"path": "/b/y"}, {"path": "/c"})
    found = hourly.path_statistics(frame, rules=rules, max_templates=1)
    assert found.select("path", "requests").rows() == [("/b/:slug", 2), (OTHER_TEMPLATE, 1)]


def test_sums_of_bytes_are_whole_numbers() -> None:
    """No floating point on the way: sums above 2^53 are exact."""
    found = hourly.path_statistics(events({"bytes_sent": 2**60}, {"bytes_sent": 1}))
    assert found["bytes_sent"].to_list() == [2**60 + 1]


def test_a_busy_hour_matches_plain_group_by() -> None:
    """Condensed and dense cells: counts as Polars has them, percentiles and visitors within the bounds."""
    rng = np.random.default_rng(1)
    n = 60_000
    path = rng.choice(3, n, p=[0.9, 0.09, 0.01])
    frame = pl.DataFrame(
        {
            "event_time": pl.Series([TEN] * n),
            "method": pl.Series(["GET"] * n),
            "path": pl.Series("path", path).cast(pl.String).str.replace("^", "/p"),
            "status": pl.Series(rng.choice([200, 500], n)).cast(pl.Int16),
            "response_time_ms": rng.lognormal(3, 1.5, n),
            "bytes_sent": rng.integers(0, 1000, n),
            "client_ip": pl.Series(rng.integers(0, 20_000, n)).cast(pl.String),
        }
    )
    found = hourly.path_statistics(frame)
    expected = frame.group_by("path").agg(
        pl.len().alias("requests"),
        (pl.col("status") == 500).sum().alias("status_5xx"),
        pl.col("bytes_sent").sum(),
        pl.col("response_time_ms").quantile(0.5, "linear").alias("p50"),
        pl.col("client_ip").n_unique(),
    )
    both = found.join(expected, on="path", validate="1:1")
    assert both.height == 3
    for name in ("requests", "status_5xx", "bytes_sent"):
        assert both[name].to_list() == both[f"{name}_right"].to_list()
    assert both["response_time_ms_p50"].to_list() == pytest.approx(both["p50"].to_list(), rel=0.01)
    assert both["unique_ips"].to_list() == pytest.approx(both["client_ip"].to_list(), rel=2 * 1.04 / 128)
