"""The archive's lines: strict JSON that gives every value back, and a digest that knows each line."""

import io
import json
import math
import random
from typing import Any

import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.archive import gzipped
from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_bytes, to_lines
from pathstats_pipeline.archive.verify import inspect, read_events
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA

from .worlds import events, hour_of, manifest_of

TRAPS = [
    "\x00",
    "\u2028",
    "\u0085",
    '"',
    "\\",
    "\\u0041",
    "\\xff",
    "\r",
    "\n",
    "\r\n",
    "\t",
    "\x7f",
    "😀",
    " ",
    "null",
    "{}",
    "\ufeff",
]
text = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(TRAPS))
known_text = text.filter(lambda value: value not in {"", "-"})
event_rows = st.fixed_dictionaries(
    {
        "event_id": text.filter(lambda value: value is not None),
        "event_time": st.datetimes(hour_of(0), hour_of(24)),
        "host": known_text,
        "method": text,
        "path": text,
        "status": st.one_of(st.none(), st.integers(100, 999)),
        "response_time_ms": st.one_of(st.none(), st.floats(0, allow_nan=False, allow_infinity=False)),
        "bytes_sent": st.one_of(st.none(), st.integers(0, 2**63 - 1)),
        "client_ip": known_text,
        "user_agent": known_text,
    }
)
frames = st.lists(event_rows, min_size=1, max_size=20).map(lambda rows: pl.DataFrame(rows, EVENT_SCHEMA))


def one(**columns: Any) -> pl.DataFrame:
    """One event with these columns."""
    plain = events(Load(hour_of(5), "one"), 1)
    return plain.with_columns(pl.lit(value, EVENT_SCHEMA[name]).alias(name) for name, value in columns.items())


def strict(line: str) -> dict[str, Any]:
    """Read a line as a strict parser does, which knows no NaN and no key twice."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    found: dict[str, Any] = json.loads(line, parse_constant=refuse, object_pairs_hook=unique)
    return found


def through_the_archive(frame: pl.DataFrame) -> pl.DataFrame:
    """The events as they come back from an object that holds exactly their digest."""
    body = b"".join(gzipped.compress([to_bytes(to_lines(frame))]))
    facts = inspect(io.BytesIO(body), "object")
    assert facts.digest == digest_of(to_lines(frame))
    manifest = manifest_of(facts)
    return pl.concat(read_events(io.BytesIO(body), manifest))


def lines_on_disk(frame: pl.DataFrame) -> list[str]:
    r"""The lines as they stand in the object, split at `\n` and nothing else."""
    raw = to_bytes(to_lines(frame))
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    return raw.decode().split("\n")[:-1]


def test_a_line_is_the_event_in_the_order_of_the_schema() -> None:
    """The columns stand in their order, times with `Z` and microseconds, what is unknown as null."""
    frame = one(event_id="x", event_time=hour_of(5), response_time_ms=None, bytes_sent=2**53 + 1, path="/ü", status=404)
    (line,) = lines_on_disk(frame)
    assert list(strict(line)) == list(EVENT_NAMES)
    assert '"event_time":"2026-11-20T05:00:00.000000Z"' in line
    assert '"response_time_ms":null' in line
    assert '"bytes_sent":9007199254740993' in line
    assert '"path":"/ü"' in line
    assert '"status":404' in line


@settings(max_examples=60, deadline=None)
@given(frames)
def test_a_strict_parser_reads_what_was_written(frame: pl.DataFrame) -> None:
    """Every line is one line of strict JSON that holds the event's very values."""
    lines = lines_on_disk(frame)
    assert len(lines) == len(frame)
    for line, row in zip(lines, frame.iter_rows(named=True), strict=True):
        found = strict(line)
        assert found.pop("event_time") == row.pop("event_time").isoformat(timespec="microseconds") + "Z"
        assert found == row


@settings(max_examples=60, deadline=None)
@given(frames)
def test_the_archive_gives_every_value_back(frame: pl.DataFrame) -> None:
    """Written, compressed, read back: the same events with the same types, bit for bit, in their order."""
    found = through_the_archive(frame)
    assert found.schema == frame.schema
    assert found.rows() == frame.rows()


@pytest.mark.parametrize(
    "value", [0.1, 1e300, 5e-324, 1.7976931348623157e308, 2**53 + 0.0, 1 / 3, 100.0, 123456789.123456789]
)
def test_floats_are_the_same_floats(value: float) -> None:
    """A float is written so that it reads back to the same bits."""
    assert strict(lines_on_disk(one(response_time_ms=value))[0])["response_time_ms"] == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_is_never_written(value: float) -> None:
    """Even were a NaN to get into the warehouse, the line would stay strict JSON."""
    assert strict(lines_on_disk(one(response_time_ms=value))[0])["response_time_ms"] is None


def test_a_line_longer_than_any_log_line_is_archived_and_read_back() -> None:
    """An event whose JSON is longer than a log line may be goes through the archive like any other."""
    frame = one(user_agent="x\x00" * 700_000)
    assert through_the_archive(frame).rows() == frame.rows()


def test_no_events_are_no_bytes() -> None:
    """Nothing gives nothing: no line, no digest."""
    lines = to_lines(pl.DataFrame(schema=EVENT_SCHEMA))
    assert to_bytes(lines) == b""
    assert digest_of(lines) == Digest()
    assert Digest().hex == "0" * 32


def by_hand(lines: list[str]) -> tuple[int, str]:
    """The digest as its definition says, with another implementation of XXH3, a line at a time."""
    total = sum(xxhash.xxh3_128_intdigest(line.encode()) for line in lines)
    return len(lines), f"{total % 2**128:032x}"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30), st.randoms(use_true_random=False))
def test_the_digest_is_its_definition_in_any_order_and_batching(lines: list[str], rng: random.Random) -> None:
    """A sum over XXH3, whatever the order of the lines, and digests of parts add up."""
    shuffled = rng.sample(lines, len(lines))
    cut = rng.randint(0, len(lines))
    parts = [digest_of(pl.Series(part, dtype=pl.String)) for part in (shuffled[:cut], shuffled[cut:])]
    digest = sum(parts, Digest())
    assert (digest.rows, digest.hex) == by_hand(lines)
    assert Digest.parse(digest.rows, digest.hex) == digest


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20), st.data())
def test_the_digest_changes_with_any_line(lines: list[str], data: st.DataObject) -> None:
    """A line that is missing, doubled or changed gives another digest, also where the count stays."""
    index = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda value: value != lines[index]))
    rest = lines[:index] + lines[index + 1 :]
    digests = [
        digest_of(pl.Series(some, dtype=pl.String)) for some in (lines, rest, [*lines, lines[index]], [*rest, other])
    ]
    assert len({digest.hex for digest in digests}) == 4
