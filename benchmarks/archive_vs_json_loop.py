"""A day's events to gzip JSON lines beside a loop over Python's `json` and `gzip`, a row at a time.

The loop is run on a sample of the same events, and its time scaled to all of them.
"""

import gzip
import io
import json
from collections.abc import Iterator
from typing import Final

import polars as pl

from benchmarks import traffic
from benchmarks.comparison import Scale, line, take_turns
from pathstats_pipeline.archive import gzipped, jsonl
from pathstats_pipeline.archive.day import BATCH_ROWS
from pathstats_pipeline.events.window import rfc3339

GOAL: Final = 0.167


def compare(scale: Scale) -> Iterator[str]:
    """Rows in memory, both ways; the lines must be the same JSON."""
    rows = scale.pick(tiny=4_000, small=250_000, full=4_000_000)
    sample_rows = scale.pick(tiny=400, small=25_000, full=50_000)
    day = pl.concat(traffic.events(rows, traffic.HOUR))
    sample = day.gather_every(rows // sample_rows)
    turns = take_turns(lambda: _ours(day), lambda: _loop(sample), rounds=scale.pick(tiny=1, small=5, full=3))
    assert _rows(b"".join(gzipped.compress(map(jsonl.to_bytes, [jsonl.to_lines(sample)])))) == _rows(turns.peer)
    factor = rows / len(sample)
    yield f"archive_vs_json_loop: the peer's time is that of {len(sample)} events, times {factor:g}"
    yield line("archive_vs_json_loop", turns.ours_seconds, turns.peer_seconds * factor, GOAL)


def _ours(events: pl.DataFrame) -> int:
    """Bytes that the archive's lines and their digest come to."""
    return sum(len(piece) for piece in gzipped.compress(_lines(events)))


def _lines(events: pl.DataFrame) -> Iterator[memoryview]:
    digest = jsonl.Digest()
    for batch in events.iter_slices(BATCH_ROWS):
        lines = jsonl.to_lines(batch)
        digest += jsonl.digest_of(lines)
        yield jsonl.to_buffer(lines)
    assert digest.rows == len(events)


def _loop(events: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    with gzip.open(out, "wt", encoding="utf-8", newline="\n") as file:
        for row in events.iter_rows(named=True):
            file.write(json.dumps({**row, "event_time": rfc3339(row["event_time"])}) + "\n")
    return out.getvalue()


def _rows(compressed: bytes) -> list[object]:
    return [json.loads(text) for text in gzip.decompress(compressed).splitlines()]
