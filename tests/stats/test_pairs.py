"""Both pairs of sketches through hours, days and rankings: never mixed, damage named, exactness said."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from pathstats_pipeline.stats import exactness, hourly, pairs, rollup

START = dt.datetime(2026, 11, 21, 22)
CHOICES = list(pairs.SketchChoice)


def traffic(n: int = 6_000, seed: int = 1) -> pl.DataFrame:
    """Events of four hours across midnight, with ids; some times are unusable or unknown."""
    rng = np.random.default_rng(seed)
    times = np.round(rng.lognormal(3, 1.5, n), 2)
    times[:3] = [np.nan, np.inf, -1]
    return pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(n)).cast(pl.String),
            "event_time": pl.Series([START + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 4 * 3600, n)]),
            "method": pl.Series(rng.choice(["GET", "POST"], n)),
            "path": pl.Series(rng.choice(["/a", "/b/1", "/c"], n, p=[0.8, 0.15, 0.05])),
            "status": pl.Series(rng.choice([200, 302, 404, 500], n)).cast(pl.Int16),
            "response_time_ms": pl.Series(times).scatter([5, 6], None),
            "bytes_sent": rng.integers(0, 1000, n),
            "client_ip": pl.Series(rng.integers(0, 4_000, n)).cast(pl.String),
        },
        schema_overrides={"event_time": pl.Datetime("us")},
    )


def rows_of(choice: pairs.SketchChoice) -> pl.DataFrame:
    """Hourly rows of the traffic."""
    return hourly.path_statistics(traffic(), sketches=choice)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_day_is_the_merge_of_its_hours(choice: pairs.SketchChoice) -> None:
    """Either pair goes the whole way, whatever the order of events and rows; counts don't depend on the pair."""
    rows, default = rows_of(choice), rows_of(pairs.SketchChoice.TDIGEST_HLL)
    shuffled = hourly.path_statistics(traffic().sample(fraction=1, shuffle=True, seed=2), sketches=choice)
    assert shuffled.equals(rows)
    days = rollup.daily_statistics(rows.sample(fraction=1, shuffle=True, seed=3))
    assert days.equals(rollup.daily_statistics(rows))
    assert days.schema == pl.Schema(hourly.DAILY_SCHEMA)
    exact = ["hour", "path", "method", "requests", "status_5xx", "response_time_ms_count", "response_time_ms_max"]
    assert rows.select(exact).equals(default.select(exact))
    site = rollup.merge_statistics(rows, [])
    whole = traffic()["response_time_ms"].drop_nulls().filter(pl.Series(np.arange(5_998) > 2))
    assert site["response_time_ms_p50"][0] == pytest.approx(float(np.quantile(whole.to_numpy(), 0.5)), rel=0.15)
    assert site["unique_ips"][0] == pytest.approx(traffic()["client_ip"].n_unique(), rel=0.03)
    assert {pairs.sketch_kind(state).split(":")[0] for state in rows["latency_sketch"].drop_nulls()} == {choice.value}


def test_the_fallbacks_day_has_the_samples_of_all_its_events() -> None:
    """Bottom-k of hours' bottom-k is that of the day."""
    fallback = pairs.SketchChoice.RESERVOIR_BLOOM
    one_hour = traffic().with_columns(event_time=pl.lit(START, pl.Datetime("us")))
    at_once = hourly.path_statistics(one_hour, sketches=fallback)
    merged = rollup.merge_statistics(rows_of(fallback), ["path", "method"])
    both = at_once.join(merged, on=["path", "method"], validate="1:1")
    for column in ("response_time_ms_p50", "response_time_ms_p99", "response_time_ms_max", "visitors_sketch"):
        assert both[column].equals(both[f"{column}_right"].alias(column))


def mixed() -> pl.DataFrame:
    """Hours before midnight of the one kind, after it of the other."""
    midnight = dt.datetime(2026, 11, 22)
    first, second = (rows_of(choice) for choice in CHOICES)
    return pl.concat([first.filter(pl.col("hour") < midnight), second.filter(pl.col("hour") >= midnight)])


@pytest.mark.parametrize("by", [[], ["path"], ["path", "method"]])
def test_merging_the_two_kinds_is_refused_in_one_line_that_names_the_rows(by: list[str]) -> None:
    """Neither kind can be turned into the other."""
    with pytest.raises(pairs.MixedSketchesError) as caught:
        rollup.merge_statistics(mixed(), by)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in ("2026-11-22T00:00", "2026-11-21T22:00", "reservoir_bloom", "tdigest_hll", "PATHSTATS_SKETCHES"):
        assert part in message


def test_days_of_one_kind_each_are_built_side_by_side() -> None:
    """The setting was changed at midnight: a backfill over both days goes through, and equals each day alone."""
    rows = mixed()
    days = rollup.daily_statistics(rows)
    alone = [rollup.daily_statistics(rows.filter(pl.col("hour").dt.date() == day)) for day in days["day"].unique()]
    assert days.equals(
        pl.concat(alone).sort("day", "requests", "path", "method", descending=[False, True, False, False])
    )


def test_mixed_hours_of_one_day_are_refused() -> None:
    """Also when no path of the day has both kinds: a day's total needs all of them."""
    first, second = (rows_of(choice) for choice in CHOICES)
    rows = pl.concat([first.filter(path="/a"), second.filter(path="/c")])
    with pytest.raises(pairs.MixedSketchesError, match=r"/c holds reservoir_bloom .* /a holds tdigest_hll"):
        rollup.daily_statistics(rows)


def test_a_row_with_a_state_of_each_kind_is_refused() -> None:
    """Its times from here and its visitors from there."""
    first, second = (rows_of(choice) for choice in CHOICES)
    rows = first.with_columns(visitors_sketch=second["visitors_sketch"])
    with pytest.raises(pairs.MixedSketchesError):
        rollup.merge_statistics(rows, ["hour", "path", "method"])


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("column", pairs.SKETCH_COLUMNS)
@pytest.mark.parametrize("byte", [0, 4, 9, 60])
def test_a_damaged_state_is_named_and_the_other_rows_go_on(choice: pairs.SketchChoice, column: str, byte: int) -> None:
    """Hour, path, method, which sketch, and why; requests of the row still count."""
    rows = rows_of(choice)
    state = rows[column][2]
    broken = rows.with_columns(
        rows[column].scatter(2, bytes([*state[:byte], state[byte] ^ 0xFF, *state[byte + 1 :]])).alias(column)
    )
    damage = pairs.DamageList(broken)
    merged = rollup.merge_statistics(broken, ["hour", "path", "method"], on_damaged=damage)

    [found] = damage.sketches
    row = rows.row(2, named=True)
    assert str(found).startswith(f"{row['hour']:%Y-%m-%dT%H:00} {row['method']} {row['path']}: {column}: ")
    assert found.reason
    assert damage.of_day(row["hour"].date()) == [found]
    assert damage.of_day(dt.date(2000, 1, 1)) == []
    assert merged["requests"].equals(rows["requests"])
    others = pl.int_range(pl.len()) != 2
    assert merged.filter(others).equals(rows.filter(others))


def test_states_say_what_they_are_and_how_they_approximate() -> None:
    """By their first bytes."""
    row = rows_of(pairs.SketchChoice.RESERVOIR_BLOOM).row(0, named=True)
    assert pairs.sketch_kind(row["latency_sketch"]) == "reservoir_bloom: uniform sample of at most 1,000 times"
    assert pairs.sketch_kind(row["visitors_sketch"]) == "reservoir_bloom: Bloom filter of 144,272 bits"
    row = rows_of(pairs.SketchChoice.TDIGEST_HLL).row(0, named=True)
    assert pairs.sketch_kind(row["latency_sketch"]) == "tdigest_hll: t-digest, compression 1000"
    assert pairs.sketch_kind(row["visitors_sketch"]) == "tdigest_hll: HyperLogLog, p = 14"
    with pytest.raises(ValueError, match="no sketch state: it begins with b'junk'"):
        pairs.sketch_kind(b"junk")


@pytest.mark.parametrize("choice", CHOICES)
def test_an_answer_says_how_exact_it_is(choice: pairs.SketchChoice) -> None:
    """Samples, rows that are exact, bounds of the others, dropped times, rejected lines."""
    merged = rollup.merge_statistics(rows_of(choice), ["path", "method"])
    found = exactness.statement(merged, merged.head(3), rejected_lines=2_000)

    assert (found.requests, found.samples, found.dropped, found.rejected_lines) == (6_000, 5_995, 3, 2_000)
    assert found.rejected_share == 0.25
    flags = exactness.of_rows(merged.head(3))
    sizes = merged.head(3)["response_time_ms_count"]
    if choice is pairs.SketchChoice.RESERVOIR_BLOOM:
        assert flags["percentiles_exact"].to_list() == (sizes <= 1_000).to_list()
    assert (found.timed_rows, found.visited_rows) == (3, 3)
    assert found.exact_percentiles == flags["percentiles_exact"].sum()
    lines = found.lines()
    assert lines[0].startswith("6,000 requests: 5,995 with a response time, 2 without, 3 dropped")
    assert "2,000 rejected lines (25.00%)" in lines[0]
    assert lines[-1].startswith(f"sketches: {choice.value} (")


def test_rows_without_times_are_neither_exact_nor_bounded() -> None:
    """They have no percentiles, and no state; nor does an answer without rows."""
    rows = hourly.path_statistics(
        traffic(10).with_columns(response_time_ms=pl.lit(None, pl.Float64), client_ip=pl.lit(None, pl.String))
    )
    found = exactness.statement(rows, rows, rejected_lines=0)
    assert (found.timed_rows, found.visited_rows, found.exact_percentiles) == (0, 0, 0)
    assert exactness.statement(rows.clear(), rows.clear(), rejected_lines=0).rejected_share == 0.0
