"""Roll-ups: sums of counts, one-pass merges of sketches, never an average of percentiles."""

import datetime as dt
import re
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.events.templates import OTHER_TEMPLATE
from pathstats_pipeline.stats import framing, hourly, latency, pairs, rollup, visitors
from pathstats_pipeline.stats.latency import merging

START = dt.datetime(2026, 11, 21, 22)
HAPROXY = Path(__file__).parents[2].parent / "shared" / "data" / "haproxy.log"
KEYS = ["day", "path", "method"]


def traffic(n: int, seed: int = 1, hours: int = 4) -> pl.DataFrame:
    """Events of some hours across midnight."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "event_time": pl.Series([START + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 3600 * hours, n)]),
            "method": pl.Series(rng.choice(["GET", "POST"], n)),
            "path": pl.Series(rng.choice(["/a", "/b/1", "/c"], n, p=[0.8, 0.15, 0.05])),
            "status": pl.Series(rng.choice([200, 302, 404, 500], n)).cast(pl.Int16),
            "response_time_ms": np.round(rng.lognormal(3, 1.5, n), 3),
            "bytes_sent": rng.integers(0, 1000, n),
            "client_ip": pl.Series(rng.integers(0, 3_000, n)).cast(pl.String),
        },
        schema_overrides={"event_time": pl.Datetime("us")},
    )


def test_a_day_is_the_merge_of_its_hours() -> None:
    """Counts add up, visitors equal those of the day's events, percentiles those of the day within the bounds."""
    events = traffic(20_000)
    days = rollup.daily_statistics(hourly.path_statistics(events))
    assert days.schema == pl.Schema(hourly.DAILY_SCHEMA)
    assert days["day"].unique().sort().to_list() == [dt.date(2026, 11, 21), dt.date(2026, 11, 22)]
    exact = (
        events.with_columns(day=pl.col("event_time").dt.date(), path=pl.col("path").replace("/b/1", "/b/:id"))
        .group_by(KEYS)
        .agg(
            pl.len(),
            pl.col("bytes_sent").sum().alias("bytes"),
            pl.col("response_time_ms").quantile(0.5, "linear").alias("p50"),
            pl.col("response_time_ms").max().alias("max"),
            pl.col("client_ip").n_unique(),
        )
    )
    both = days.join(exact, on=KEYS, validate="1:1")
    assert both.height == days.height == exact.height
    assert both["requests"].equals(both["len"].cast(pl.Int64))
    assert both["bytes_sent"].equals(both["bytes"])
    assert both["response_time_ms_max"].equals(both["max"])
    assert both["response_time_ms_p50"].to_list() == pytest.approx(both["p50"].to_list(), rel=0.02)
    assert both["unique_ips"].to_list() == pytest.approx(both["client_ip"].to_list(), rel=2 * 1.04 / 128)
    statuses = days.select(pl.sum_horizontal(pl.col("^status_.*$")))
    assert statuses.to_series().equals(days["requests"])


def test_visitors_of_merged_hours_have_the_bytes_of_the_whole() -> None:
    """A day's visitor state equals the state built from all its events at once."""
    events = traffic(20_000)
    at_once = hourly.path_statistics(events.with_columns(event_time=pl.lit(START, pl.Datetime("us"))))
    merged = rollup.merge_statistics(hourly.path_statistics(events), ["path", "method"])
    both = at_once.join(merged, on=["path", "method"], validate="1:1")
    assert both["visitors_sketch"].equals(both["visitors_sketch_right"])


@pytest.mark.parametrize("by", [[], ["path"], ["hour"], KEYS[1:], ["method", "path"]])
def test_the_order_of_rows_does_not_change_a_byte(by: Sequence[str]) -> None:
    """Hours may come in any order."""
    rows = hourly.path_statistics(traffic(9_000))
    shuffled = rows.sample(fraction=1, shuffle=True, seed=3)
    found = rollup.merge_statistics(rows, by)
    assert rollup.merge_statistics(shuffled, by).equals(found)
    assert found["requests"].sum() == 9_000
    assert found.columns == [*by, *(column.name for column in hourly.MEASURES)]


@given(
    st.integers(1, 4_000),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 1_000, 20_000]),
    st.sampled_from([[], ["path"], ["hour"]]),
    st.sampled_from(list(pairs.SketchChoice)),
)
@settings(max_examples=40, deadline=None)
def test_hours_merged_in_small_chunks_are_the_same(
    n: int, seed: int, chunk_bytes: int, by: Sequence[str], sketches: pairs.SketchChoice
) -> None:
    """The bound on memory is no part of the result, and neither is the order of rows with it."""
    events = traffic(n, seed).with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))
    rows = hourly.path_statistics(events, sketches=sketches)
    whole = rollup.merge_statistics(rows, by)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollup, "_CHUNK_BYTES", chunk_bytes)
        assert rollup.merge_statistics(rows.sample(fraction=1, shuffle=True, seed=seed), by).equals(whole)


def test_one_large_key_holds_16_bytes_a_centroid_and_a_chunk() -> None:
    """Times in nanoseconds are all different: nothing can be joined, and the whole month is one row."""
    n_rows, samples = 4_000, 250
    groups = np.repeat(np.arange(n_rows), samples)
    values = np.random.default_rng(1).lognormal(3, 1, groups.size)
    measures = hourly.sketch_measures(
        latency.build(groups, n_rows, values), visitors.build(groups, n_rows, values.view(np.uint64))
    )
    rows = measures.with_columns(pl.lit(samples, pl.Int64).alias(name) for name in rollup._SUMMED)
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollup, "_CHUNK_BYTES", 100_000)
            patch.setattr(merging, "_RANGE_CENTROIDS", 10_000)
            merged = rollup.merge_statistics(rows, [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert merged["response_time_ms_count"].to_list() == [groups.size]
    assert peak < 16 * groups.size + 8 * 1024 * 1024


def test_merging_rows_by_their_own_key_changes_nothing() -> None:
    """An hour rolled up to that hour is itself."""
    rows = hourly.path_statistics(traffic(9_000))
    assert rollup.merge_statistics(rows, ["hour", "path", "method"]).equals(rows)


def test_a_site_without_rows_has_no_row() -> None:
    """Nothing in, nothing out, with the columns of the result."""
    nothing = hourly.path_statistics(traffic(1)).clear()
    assert rollup.merge_statistics(nothing, []).height == 0
    assert rollup.daily_statistics(nothing).schema == pl.Schema(hourly.DAILY_SCHEMA)


def test_a_cap_given_is_applied_within_each_day() -> None:
    """The busiest stay; the rest joins the `__other__` that the hours already have."""
    rows = hourly.path_statistics(traffic(4_000), max_templates=2)
    assert OTHER_TEMPLATE in rows["path"]
    uncapped = rollup.daily_statistics(rows)
    assert set(uncapped["path"]) == {"/a", "/b/:id", OTHER_TEMPLATE}
    days = rollup.daily_statistics(rows, max_templates=1)
    assert set(days["path"]) == {"/a", OTHER_TEMPLATE}
    totals = [each.group_by("day").agg(pl.col("requests").sum()).sort("day").rows() for each in (uncapped, days)]
    assert totals[0] == totals[1]
    site = rollup.merge_statistics(rows, ["path"], max_templates=1)
    assert site["path"].to_list() == ["/a", OTHER_TEMPLATE]


def test_a_damaged_state_names_its_row() -> None:
    """The row is that of the input, whatever the order of merging."""
    rows = hourly.path_statistics(traffic(2_000))
    broken = rows.with_columns(
        latency_sketch=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit(b"junk")).otherwise("latency_sketch")
    )
    with pytest.raises(framing.DamagedStatesError, match="latency state in row 5: only 4 bytes"):
        rollup.merge_statistics(broken, ["path"])


def test_other_rows_go_on_without_a_damaged_state() -> None:
    """Told of the damage, the merge counts the row's requests and leaves out its sketch."""
    rows = hourly.path_statistics(traffic(2_000))
    broken = rows.with_columns(
        visitors_sketch=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(b"junk")).otherwise("visitors_sketch")
    )
    told: list[tuple[str, int]] = []
    found = rollup.merge_statistics(
        broken, [], on_damaged=lambda kind, damaged: told.extend((kind.name, each.row) for each in damaged)
    )
    assert told == [("visitor", 3)]
    assert found["requests"].to_list() == [2_000]


def haproxy_events() -> pl.DataFrame:
    """The shared log, by the smallest parser that reads it."""
    found = re.findall(
        r': (\S+):\d+ \[(\S+)\.(\d+)\] \S+ \S+ \S+/\+?(\d+) (\d+) \+?(\d+) .* "(.*)"$',
        HAPROXY.read_text("utf-8"),
        re.MULTILINE,
    )
    requests = pl.Series([row[6] for row in found]).str.split_exact(" ", 2).struct.unnest()
    return pl.DataFrame(
        {
            "event_time": pl.Series([row[1] for row in found]).str.to_datetime("%d/%b/%Y:%H:%M:%S", time_unit="us"),
            "method": requests["field_0"],
            "path": requests["field_1"].str.replace(r"[?#].*$", ""),
            "status": pl.Series([int(row[4]) for row in found], dtype=pl.Int16),
            "response_time_ms": pl.Series([float(row[3]) for row in found]),
            "bytes_sent": pl.Series([int(row[5]) for row in found]),
            "client_ip": pl.Series([row[0] for row in found]),
        }
    )


@pytest.mark.skipif(not HAPROXY.exists(), reason="the shared logs are not part of the repository")
def test_a_real_log_has_its_exact_figures() -> None:
    """17,211 lines, 359 hours: counts and clients exact, merged percentiles of each hour within 1 % in rank."""
    events = haproxy_events()
    rows = hourly.path_statistics(events)
    site = rollup.merge_statistics(rows, [])
    assert site.select("requests", "unique_ips", "bytes_sent", "status_4xx", "status_5xx").rows() == [
        (17_211, 67, 7_339_762, 12_300, 50)
    ]
    assert site["response_time_ms_p99"][0] == pytest.approx(8_219, rel=0.02)
    hours = rollup.merge_statistics(rows, ["hour"]).sort("hour")
    assert hours.height == 359
    exact = events.group_by(hour=pl.col("event_time").dt.truncate("1h"), maintain_order=False).agg(
        pl.col("response_time_ms").sort()
    )
    times = dict(exact.rows())
    for row in hours.rows(named=True):
        ordered = np.array(times[row["hour"]])
        for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            estimate = row[f"response_time_ms_{name}"]
            below = (np.searchsorted(ordered, estimate, "left") - 1) / ordered.size
            above = (np.searchsorted(ordered, estimate, "right") + 1) / ordered.size
            assert below - 0.01 <= quantile <= above + 0.01
