"""DuckDB's lines are the encoder's, byte for byte: the ledger's digests are of the one, the archive's of the other."""

import datetime as dt
import math
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pathstats_pipeline.archive.jsonl import digest_of, split_text, to_bytes, to_lines
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import HOUR
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.json_lines import line_of
from pathstats_pipeline.storage.warehouse import open_warehouse

FIVE = dt.datetime(2026, 11, 20, 5)
PLAIN = {"event_id": "x", "event_time": FIVE, "path": "/a", "status": 200, "response_time_ms": 1.5, "bytes_sent": 7}
EDGES = [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 0.1, 1e15, 1e16, 1e17, 1e22, 1e100, 2.0**53, 123456789.0, math.inf, math.nan]
FLOATS = [
    *(sign * math.nextafter(edge, towards) for edge in EDGES for towards in (0.0, math.inf) for sign in (1, -1)),
    *(sign * edge for edge in EDGES for sign in (1, -1)),
    *(5e-324, 2.2250738585072014e-308, sys.float_info.max, 1 / 3, 12345.678e-10, 0.00001234, 9007199254740993.0),
]

# What is escaped, and what looks like an escape, in every mixture.
escaped = st.text(st.sampled_from('"\\/u0bBxX\0\b\t\n\v\f\r\x0e\x1a\x1f\x7f\x80\u2028é\ufeff😀'))
texts = st.one_of(st.none(), escaped, st.text(st.characters(exclude_categories=["Cs"])))
int64 = st.integers(-(2**63), 2**63 - 1)
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(("event_id", "host", "method", "path", "client_ip", "user_agent"), texts),
        "event_time": st.datetimes(FIVE, FIVE + HOUR - dt.timedelta(microseconds=1)),
        "status": st.one_of(st.none(), st.integers(-(2**15), 2**15 - 1)),
        "response_time_ms": st.one_of(st.none(), st.sampled_from(FLOATS), st.floats(), int64.map(float)),
        "bytes_sent": st.one_of(st.none(), int64),
    }
)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection as the warehouse has it."""
    with open_connection(tmp_path_factory.mktemp("lines") / "x.duckdb", lock_timeout_seconds=5) as opened:
        yield opened


def assert_same(connection: duckdb.DuckDBPyConnection, events: pl.DataFrame, hour: dt.datetime = FIVE) -> None:
    """DuckDB makes the encoder's lines of these events, and its text."""
    connection.register("events", events.to_arrow())
    [batch] = connection.execute(f"SELECT {line_of(hour)} AS line FROM events").to_arrow_reader(len(events))
    lines, text = split_text(batch.column(0))
    expected = to_lines(events)
    assert lines.to_list() == expected.to_list()
    assert bytes(text) == to_bytes(expected)
    assert digest_of(lines) == digest_of(expected)


def of(**columns: list[Any]) -> pl.DataFrame:
    """Events with these columns, otherwise plain."""
    [count] = {len(values) for values in columns.values()}
    return pl.DataFrame([PLAIN] * count, EVENT_SCHEMA).with_columns(
        pl.Series(name, values, EVENT_SCHEMA[name]) for name, values in columns.items()
    )


@settings(max_examples=300, deadline=None)
@example([{**PLAIN, "path": "\\u000B"}, {**PLAIN, "path": "\\\v"}, {**PLAIN, "path": "\\\\u001F\x1f"}])
@given(st.lists(rows, min_size=1, max_size=20))
def test_any_event_is_the_same_line(connection: duckdb.DuckDBPyConnection, events: list[dict[str, Any]]) -> None:
    """Escapes and what looks like one, NULL, floats and integers of any size: every byte."""
    assert_same(connection, pl.DataFrame(events, EVENT_SCHEMA))


def test_every_character_is_the_same(connection: duckdb.DuckDBPyConnection) -> None:
    """All of Unicode, each alone and all of them in lines of hundreds."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert_same(connection, of(path=characters[:0x3000]))
    assert_same(connection, of(path=["".join(characters[at : at + 500]) for at in range(0, len(characters), 500)]))


def test_floats_of_every_size_are_the_same(connection: duckdb.DuckDBPyConnection) -> None:
    """Where one way to write a float gives way to another, on both sides; every power of ten; times as they come."""
    powers = [digits * 10.0**power for power in range(-323, 308) for digits in (1, -1.5, 1.2345678901234567)]
    assert_same(connection, of(response_time_ms=[*FLOATS, *powers, *(number / 1000 for number in range(20_000))]))


@pytest.mark.parametrize("year", [1, 999, 1969, 9999])
def test_times_of_any_year_are_the_same(connection: duckdb.DuckDBPyConnection, year: int) -> None:
    """Years are padded, and fractions are of six digits, before 1970, too."""
    hour = dt.datetime(year, 2, 28, 23)
    times = [hour + dt.timedelta(microseconds=part) for part in (0, 1, 999_999, 1_500_000, 3_599_999_999)]
    assert_same(connection, of(event_time=times), hour)


def test_lines_are_of_the_rows_that_are_streamed_in_their_order(tmp_path: pathlib.Path) -> None:
    """Loads together or alone, whatever the batch, an empty one among them: the lines of `stream_loads`."""
    loads = [Load(FIVE + hour * HOUR, name) for hour in (0, 2) for name in ("a", "b", "empty", "z")]
    nothing = pl.DataFrame()
    with open_warehouse(tmp_path / "x.duckdb", lock_timeout_seconds=5) as warehouse:
        for load in reversed(loads):
            count = 0 if load.load_id == "empty" else 700
            frame = of(event_id=[f"{load.load_id}-{number}" for number in range(count)])
            frame = frame.with_columns(event_time=pl.lit(load.hour, EVENT_SCHEMA["event_time"])).select(EVENT_NAMES)
            warehouse.append_load(load, [(frame, nothing)], lambda part: digest_of(to_lines(part)), FIVE)
        expected = [line for frame in warehouse.stream_loads(loads, 1_000) for line in to_lines(frame)]
        assert len(expected) == 6 * 700
        for batch_rows in (100, 700, 5_000):
            batches = list(warehouse.stream_lines(loads, batch_rows))
            assert [line for _, batch in batches for line in split_text(batch)[0]] == expected
            assert {hour for hour, _ in batches} == {FIVE, FIVE + 2 * HOUR}


def test_lines_that_are_not_one_text_are_refused() -> None:
    """The text to compress is taken as it lies: it must be the lines, each once and in their order."""
    lines = pa.array([f"{{{number:020}}}\n" for number in range(4)], pa.large_string()).cast(pa.string_view())
    assert bytes(split_text(lines.slice(1, 2))[1]) == b"".join(f"{{{number:020}}}\n".encode() for number in (1, 2))
    with pytest.raises(ValueError, match="one after another"):
        split_text(_without_the_middle(lines))


def _without_the_middle(lines: pa.StringViewArray) -> pa.StringViewArray:
    _, views, data = lines.buffers()
    kept = views.to_pybytes()[:16] + views.to_pybytes()[32:48]
    return pa.Array.from_buffers(pa.string_view(), 2, [None, pa.py_buffer(kept), data])
