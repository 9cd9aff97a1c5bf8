"""Statistics from a tally: the same bytes as from one frame, whatever the batches and whoever numbered the events."""

import datetime as dt
import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.stats import gathering, hourly, pairs, tally
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

TEN = dt.datetime(2026, 11, 22, 10)
GOLDEN_BYTES = "4f31ad4afb63182dd352e220da9f9df1597027e3f5dac85e90fb1c422d437423"
"""Of statistics, states and all, as version 1 of both formats had them on the first day."""


def mixed(n: int, salt: int) -> npt.NDArray[np.uint64]:
    """Numbers that look random and are the same everywhere (splitmix64)."""
    z = (np.arange(n, dtype=np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def traffic(n: int = 30_000) -> pl.DataFrame:
    """Two hours with a busy path, rare ones, and a NULL or an odd value in every column."""
    draw = {name: pl.Series(mixed(n, salt)) for salt, name in enumerate("pmtlisbh", start=1)}
    path, client, hole = (pl.col(name) for name in "pih")
    return pl.DataFrame(draw).with_columns(p=path % 1000, m=pl.col("m") % 10, i=client % 9000, h=hole % 50).select(
        event_time=pl.lit(TEN) + pl.duration(seconds=pl.col("t") % 7200, time_unit="us"),
        method=pl.when(hole == 1).then(None).when(pl.col("m") < 8).then(pl.lit("GET")).otherwise(pl.lit("POST")),
        path=pl.when(hole == 2).then(None).when(path < 600).then(pl.lit("/")).otherwise(pl.format("/p{}", path // 8)),
        status=pl.when(hole != 3).then(
            pl.lit(pl.Series([200, 200, 204, 301, 404, 500, 99, 600], dtype=pl.Int16)).gather(pl.col("s") % 8)
        ),
        response_time_ms=pl.when(hole == 5).then(float("nan")).when(hole == 6).then(-1.0).when(hole != 4).then(
            (pl.col("l") % 900_000).cast(pl.Float64) / 1024
        ),
        bytes_sent=pl.when(hole != 7).then(pl.col("b") % 100_000).cast(pl.Int64),
        client_ip=pl.when(hole != 8).then(pl.format("10.0.{}.{}", client // 250, client % 250)),
    )  # fmt: skip


def digest_of(statistics: pl.DataFrame) -> str:
    """SHA-256 of every state and every number."""
    digest = hashlib.sha256()
    for name in pairs.SKETCH_COLUMNS:
        for state in statistics[name]:
            digest.update(state or b"-")
    digest.update(statistics.drop(pairs.SKETCH_COLUMNS).write_csv().encode())
    return digest.hexdigest()


def test_the_same_events_have_the_bytes_that_they_always_had() -> None:
    """A digest taken before events came in batches."""
    assert digest_of(hourly.path_statistics(traffic())) == GOLDEN_BYTES


@pytest.mark.parametrize("rows", [100, 7_001])
def test_batches_change_no_byte(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither do blocks of groups."""
    monkeypatch.setattr(hourly, "_BLOCK_EVENTS", rows)
    assert digest_of(hourly.path_statistics(tally.tally(traffic().iter_slices(rows)))) == GOLDEN_BYTES


@given(st.lists(st.integers(0, 3_000), max_size=4))
@settings(deadline=None, max_examples=20)
def test_any_split_into_parts_is_the_whole(cuts: list[int]) -> None:
    """A tally joined of tallies, some of them empty."""
    frame = traffic(3_000)
    borders = [0, *sorted(cuts), frame.height]
    parts = [tally.tally([frame[low:high]]) for low, high in itertools.pairwise(borders)]
    assert hourly.path_statistics(tally.join(parts)).equals(hourly.path_statistics(frame))


def test_nothing_is_nothing() -> None:
    """No frames, or empty ones."""
    for empty in (tally.tally([]), tally.tally([traffic(1).clear()]), tally.join([tally.tally([])])):
        assert hourly.path_statistics(empty).is_empty()


def test_the_fallback_takes_a_tally_too() -> None:
    """With event ids among the columns."""
    frame = traffic(2_000).with_row_index("event_id").with_columns(pl.col("event_id").cast(pl.String))
    choice = pairs.SketchChoice.RESERVOIR_BLOOM
    in_batches = hourly.path_statistics(tally.tally(frame.iter_slices(300)), sketches=choice)
    assert in_batches.equals(hourly.path_statistics(frame, sketches=choice))


def test_blocks_are_of_whole_groups() -> None:
    """A group larger than a block is one; empty groups belong to one too."""
    gathered = gathering.Gathering(np.array([3, 0, 9, 1, 1, 0]))
    assert [block.tolist() for block in gathered.blocks(4)] == [[0, 3, 3], [3, 12], [12, 13, 14, 14]]


def fill(warehouse: Warehouse, frame: pl.DataFrame) -> list[Load]:
    """Append two loads an hour."""
    whole = frame.with_row_index("event_id").with_columns(pl.col("event_id").cast(pl.String))
    whole = whole.with_columns(host=pl.lit("h"), user_agent=pl.lit("a")).select(*EVENT_SCHEMA)
    loads = []
    for number, hour in enumerate((TEN, TEN, TEN + HOUR, TEN + HOUR)):
        part = whole.filter(pl.col("event_time").dt.truncate("1h") == hour).gather_every(2, number % 2)
        load = Load(hour, f"load-{number}")
        warehouse.append_load(load, [(part, pl.DataFrame())], lambda events: Digest(rows=len(events)), TEN)
        loads.append(load)
    return loads


def test_the_warehouse_numbers_events_as_frames_do(tmp_path: pathlib.Path) -> None:
    """One hour, two hours, an hour without one of its loads, and a window with nothing in it."""
    with open_warehouse(tmp_path / "w.duckdb", lock_timeout_seconds=1) as warehouse:
        loads = fill(warehouse, traffic(4_000))
        both = Window(TEN, TEN + 2 * HOUR)
        for window, without in (
            (Window.of_hour(TEN), []),
            (both, []),
            (both, loads[:1]),
            (Window.of_hour(TEN), loads[:2]),
            (Window.of_hour(TEN - HOUR), []),
        ):
            frame = warehouse.read_events(window, hourly.EVENT_INPUT, without=without)
            found = hourly.path_statistics(warehouse.tally_events(window, tally.SAMPLED, without=without))
            assert found.equals(hourly.path_statistics(frame))
            assert found["requests"].sum() == frame.height


def test_cells_whose_numbers_collide_get_others(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that can't tell cells apart at the first try, nor at the second."""
    with open_warehouse(tmp_path / "w.duckdb", lock_timeout_seconds=1) as warehouse:
        fill(warehouse, traffic(500))
        whole = warehouse.read_events(Window.of_hour(TEN), hourly.EVENT_INPUT)
        plain, salts = Warehouse._run, []

        def weak(self: Warehouse, sql: str, parameters: Sequence[Any] = ()) -> Any:
            if "FROM cells" in sql:
                salts.append(sql)
                if len(salts) <= 2:
                    sql = "SELECT 7::UBIGINT AS key FROM cells"
            return plain(self, sql, parameters)

        monkeypatch.setattr(Warehouse, "_run", weak)
        found = hourly.path_statistics(warehouse.tally_events(Window.of_hour(TEN), tally.SAMPLED))
    assert len(salts) == 3
    assert found.equals(hourly.path_statistics(whole))
