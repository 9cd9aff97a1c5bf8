"""A day's events to gzip JSON lines beside a loop over Python's `json` and `gzip`, a row at a time.

The loop is run on a sample of the same events, and its time scaled to all of them.
"""

import gzip
import io
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.archive import gzipped, jsonl
from pathstats_pipeline.archive.day import BATCH_ROWS
from pathstats_pipeline.events.window import rfc3339
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.json_lines import line_of

GOAL: Final = 0.167


def compare(scale: Scale) -> Iterator[str]:
    """Rows in memory, both ways; the lines must be the same JSON."""
    rows = scale.pick(tiny=4_000, small=250_000, full=4_000_000)
    sample_rows = scale.pick(tiny=400, small=25_000, full=50_000)
    day = pl.concat(traffic.events(rows, traffic.HOUR))
    sample = day.gather_every(rows // sample_rows)
    with (
        tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder,
        open_connection(pathlib.Path(folder, "empty.duckdb"), lock_timeout_seconds=10) as connection,
    ):
        turns = take_turns(
            lambda: _ours(connection, day), lambda: _loop(sample), rounds=scale.pick(tiny=1, small=5, full=3)
        )
        assert _rows(b"".join(gzipped.compress(_lines(connection, sample)))) == _rows(turns.peer)
    factor = rows / len(sample)
    yield f"archive_vs_json_loop: the peer's time is that of {len(sample)} events, times {factor:g}"
    yield line("archive_vs_json_loop", turns.ours_seconds, turns.peer_seconds * factor, GOAL)


def _ours(connection: duckdb.DuckDBPyConnection, events: pl.DataFrame) -> int:
    """Bytes that the archive's lines and their digest come to."""
    return sum(len(piece) for piece in gzipped.compress(_lines(connection, events)))


def _lines(connection: duckdb.DuckDBPyConnection, events: pl.DataFrame) -> Iterator[memoryview]:
    digest = jsonl.Digest()
    connection.register("events", events.to_arrow())
    for batch in connection.execute(f"SELECT {line_of(traffic.HOUR)} FROM events").to_arrow_reader(BATCH_ROWS):
        lines, text = jsonl.split_text(batch.column(0))
        digest += jsonl.digest_of(lines)
        yield text
    assert digest.rows == len(events)


def _loop(events: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    with gzip.open(out, "wt", encoding="utf-8", newline="\n") as file:
        for row in events.iter_rows(named=True):
            file.write(json.dumps({**row, "event_time": rfc3339(row["event_time"])}) + "\n")
    return out.getvalue()


def _rows(compressed: bytes) -> list[object]:
    return [json.loads(text) for text in gzip.decompress(compressed).splitlines()]
