"""Publishing a generation: one object whatever the threads, the batches and the way up, and every reader reads it."""

import base64
import datetime as dt
import gzip
import json
import pathlib
import random
import subprocess
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from pathstats_pipeline.archive import ahead
from pathstats_pipeline.archive.jsonl import digest_of, to_bytes, to_lines
from pathstats_pipeline.archive.lifecycle import Generation
from pathstats_pipeline.archive.publish import ArchiveError, Lines, Sent, publish
from pathstats_pipeline.archive.strategy import MAX_PARTS, MIB, MIN_PART_BYTES, SizeRule, Strategy
from pathstats_pipeline.archive.verify import inspect
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.storage.objects import ArchiveObjects, S3Objects

from .fake_objects import FakeObjects
from .worlds import DAY, PARTS, ended_lines, events, hour_of, world

SINGLE = SizeRule(multipart_mb=1e9)


@pytest.fixture(scope="module")
def day() -> list[pl.DataFrame]:
    """Three hours of events, by hour: some MiB of lines."""
    return [events(Load(hour_of(hour), f"load-{hour}"), rows) for hour, rows in ((0, 9_000), (5, 40), (23, 16_000))]


def generation_of(frames: Iterable[pl.DataFrame], rule: SizeRule) -> Generation:
    """The generation of these events."""
    day = pl.concat(frames)
    digest = digest_of(to_lines(day))
    return Generation(
        date=DAY,
        number=1,
        loads=(Load(hour_of(0), "load-0"),),
        digest=digest,
        first_event_time=hour_of(0),
        last_event_time=hour_of(23),
        strategy=rule.strategy(digest.rows),
        part_bytes=rule.part_bytes(digest.rows),
    )


def published(
    frames: list[pl.DataFrame], rule: SizeRule, objects: ArchiveObjects, threads: int = 1
) -> tuple[bytes, Sent]:
    """The object of these events, and what was said of it."""
    generation = generation_of(frames, rule)
    sent = publish(objects, generation, ended_lines(frames), threads=threads)
    return objects.get(generation.key) or b"", sent


def test_threads_and_batches_do_not_change_a_byte(day: list[pl.DataFrame]) -> None:
    """1 to 16 threads and any batching, also across hours, give one SHA-256, and the same hours."""
    whole = pl.concat(day)
    _, sent = published(day, PARTS, FakeObjects())
    assert tuple(span.hour for span in sent.hours) == (0, 5, 23)
    for threads in (1, 2, 4, 8, 16):
        assert published(day, PARTS, FakeObjects(), threads)[1] == sent
    for rows in (7_001, 1_000, 333):
        assert published(list(whole.iter_slices(rows)), SINGLE, FakeObjects())[1] == sent


def test_every_reader_finds_the_same_rows(day: list[pl.DataFrame], tmp_path: pathlib.Path) -> None:
    """zcat, the gzip module, one-shot zlib, a strict JSON parser, DuckDB and Polars read the very events."""
    body, _ = published(day, PARTS, FakeObjects())
    whole = pl.concat(day)
    raw = to_bytes(to_lines(whole))
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(body)
    assert subprocess.run(["/usr/bin/env", "zcat", path], capture_output=True, check=True).stdout == raw
    assert gzip.decompress(body) == raw
    assert zlib.decompress(body, wbits=31) == raw
    rows = [strict(line) for line in raw.decode().split("\n")[:-1]]
    assert [tuple(row) for row in rows] == [EVENT_NAMES] * len(whole)
    assert [tuple(row.values()) for row in rows] == whole.rows()
    columns = dict.fromkeys(EVENT_NAMES, "VARCHAR") | {
        "event_time": "TIMESTAMP",
        "status": "SMALLINT",
        "response_time_ms": "DOUBLE",
        "bytes_sent": "BIGINT",
    }
    found = duckdb.execute("SELECT * FROM read_json(?, columns = ?)", [str(path), columns]).fetchall()
    assert found == whole.rows()


def strict(line: str) -> dict[str, Any]:
    """A line as a strict parser reads it, its time as such."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    found: dict[str, Any] = json.loads(line, parse_constant=refuse)
    found["event_time"] = dt.datetime.fromisoformat(found["event_time"].removesuffix("Z"))
    return found


def of_width(characters: int, rows: int, *, compressible: bool) -> list[pl.DataFrame]:
    """Events whose user agents are so long."""
    rng = random.Random(17)  # noqa: S311 - test data
    agents = [
        "x" * characters if compressible else base64.b64encode(rng.randbytes(characters * 3 // 4)).decode()
        for _ in range(rows)
    ]
    return [events(Load(hour_of(5), "wide"), rows).with_columns(user_agent=pl.Series(agents))]


@pytest.mark.parametrize("estimate_mb", [99.9, 100, 100.1])
@pytest.mark.parametrize(
    "frames",
    [
        of_width(10, 1, compressible=True),
        of_width(1_000_000, 27, compressible=False),
        of_width(1_000_000, 27, compressible=True),
        of_width(30_000_000, 1, compressible=False),
    ],
    ids=["one_row", "incompressible", "compressible", "a_row_of_30_MB"],
)
def test_however_wrong_the_estimate_is_both_routes_give_the_same_object(
    frames: list[pl.DataFrame], estimate_mb: float
) -> None:
    """At the very edge of the estimate, with objects of 1 KB to 20 MB: the same bytes, in parts that S3 takes."""
    rows = sum(map(len, frames))
    at_the_edge = SizeRule(row_bytes=estimate_mb * MIB / rows, gzip_ratio=1.0)
    objects, single = FakeObjects(), FakeObjects()
    body, sent = published(frames, at_the_edge, objects)
    assert body == published(frames, SINGLE, single)[0]
    assert single.part_sizes == []
    assert bool(objects.part_sizes) is (at_the_edge.strategy(rows) is Strategy.MULTIPART) is (estimate_mb >= 100)
    assert all(size >= MIN_PART_BYTES for size in objects.part_sizes[:-1])
    assert len(objects.part_sizes) <= MAX_PARTS
    assert gzip.decompress(body) == to_bytes(to_lines(pl.concat(frames)))
    assert len(body) == sent.size_bytes


def test_parts_that_are_many_times_the_estimate_go_to_a_real_server(s3_objects: S3Objects) -> None:
    """An estimate of a few bytes, an object of three parts: it stands there, and is what was sent."""
    frames = of_width(1_000_000, 27, compressible=False)
    body, sent = published(frames, SizeRule(row_bytes=1, multipart_mb=0), s3_objects)
    assert len(body) > 16 * MIB
    with s3_objects.open(generation_of(frames, PARTS).key) as stream:
        facts = inspect(stream, "object")
    assert (facts.size_bytes, facts.sha256) == (sent.size_bytes, sent.sha256)
    assert facts.digest == generation_of(frames, PARTS).digest


@pytest.mark.parametrize("rule", [SINGLE, PARTS], ids=["single_put", "multipart"])
def test_no_rows_make_no_object(tmp_path: pathlib.Path, rule: SizeRule) -> None:
    """A day whose loads are empty has neither object nor manifest."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        here.bring(5, "empty", 0)
        assert here.archive(rule) == []
    assert objects.published == []


def test_an_error_of_any_stage_is_raised_and_leaves_no_thread(day: list[pl.DataFrame]) -> None:
    """The source, the hashing, the ledger's check, the permission or the store fails: it is raised as it is."""

    def broken() -> Iterator[Lines]:
        yield from ended_lines(day[:2])
        raise LookupError("the warehouse is gone")

    def forbidden() -> None:
        raise LookupError("the claim is lost")

    before = threading.active_count()
    for rule in (SINGLE, PARTS):
        generation, objects = generation_of(day, rule), FakeObjects()
        with pytest.raises(LookupError, match="the warehouse is gone"):
            publish(objects, generation, broken())
        with pytest.raises(LookupError, match="the claim is lost"):
            publish(objects, generation, ended_lines(day), forbidden)
        with pytest.raises(ArchiveError, match="nothing was archived"):
            publish(objects, generation, ended_lines(day[:2]))
        with pytest.raises(ValueError, match="unpack"):
            publish(objects, generation, [*ended_lines(day[:2]), (hour_of(23), pa.nulls(3))])
        with pytest.raises(ValueError, match="00 comes again"):
            publish(objects, generation, ended_lines([day[0][:9], day[1], day[0][9:], day[2]]))
        assert objects.stored == {}
        assert threading.active_count() == before


def test_no_more_is_read_ahead_than_the_threads_need() -> None:
    """Items are taken as results are: memory is bounded by the number of threads."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with ahead.threads(3) as workers:
        results = workers.map(lambda number: number * 2, items())
        for expected in range(0, 100, 2):
            assert next(results) == expected
            assert len(taken) <= expected // 2 + 6


def test_what_is_drawn_ahead_is_what_there_is() -> None:
    """Nothing, what counts as false, many: the same items in their order, and one or two of them ahead."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with ahead.threads(1) as worker:
        assert list(worker.draw([])) == []
        assert list(worker.draw([0, None, ""])) == [0, None, ""]
        drawn = worker.draw(items())
        assert [next(drawn) for _ in range(50)] == list(range(50))
        assert len(taken) <= 52
        assert [*drawn] == list(range(50, 1000))
