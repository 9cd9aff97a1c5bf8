"""The restore drill: what comes back from the archive is what was in the warehouse, both ways, types included."""

import contextlib
import itertools
import json
import math
import pathlib
from typing import Any

import duckdb
import polars as pl
import pytest

from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.restore import restore_day, restore_to_warehouse
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.schema import EVENT_COLUMNS, EVENT_NAMES
from pathstats_pipeline.storage.loads import RestoreError
from pathstats_pipeline.storage.objects import S3Objects

from .fake_objects import FakeObjects, KilledError
from .worlds import DAY, NOW, WINDOW, World, hour_of, world


def test_a_restored_day_equals_the_source(tmp_path: pathlib.Path, s3_objects: S3Objects) -> None:
    """Two generations through a real S3: DuckDB finds no row in one that isn't in the other, and the same types."""
    with world(tmp_path, s3_objects) as here:
        here.bring(0, "a", 300)
        here.bring(23, "b", 200)
        here.archive()
        here.bring(5, "late", 50)
        here.archive()
        here.assert_invariants()
        source = here.warehouse.read_events(WINDOW, EVENT_NAMES).to_arrow()
        here.build_statistics()
        here.clean()
    restored = list(restore_day(s3_objects, DAY, tmp_path / "restored"))
    assert [path.name for _, path in restored] == [f"events-2026-11-20-g000{number}.parquet" for number in (1, 2)]
    with duckdb.connect() as connection:
        connection.register("source", source)
        files = str(tmp_path / "restored" / "*.parquet")
        connection.execute("CREATE TABLE back AS FROM read_parquet(?)", [files])
        assert (
            connection.execute(
                "(FROM source EXCEPT ALL FROM back) UNION ALL (FROM back EXCEPT ALL FROM source)"
            ).fetchall()
            == []
        )
        assert connection.execute("SELECT count(*) FROM back").fetchall() == [(550,)]
        described = [row[:2] for row in connection.execute("DESCRIBE back").fetchall()]
        assert described == [(column.name, column.sql_type) for column in EVENT_COLUMNS]


def test_nothing_is_overwritten(tmp_path: pathlib.Path) -> None:
    """A file that is there already stays, and is named; no unfinished file is left."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        here.bring(0, "a", 3)
        here.archive()
    target = tmp_path / "restored"
    target.mkdir()
    (target / "events-2026-11-20-g0001.parquet").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is there already"):
        list(restore_day(objects, DAY, target))
    assert [path.read_bytes() for path in target.iterdir()] == [b"mine"]


def test_a_damaged_archive_restores_nothing(tmp_path: pathlib.Path) -> None:
    """Every object is verified before the first file is written; a day that isn't archived is told."""
    objects = FakeObjects()
    with pytest.raises(ArchiveRefusedError, match="is not archived"):
        list(restore_day(objects, DAY, tmp_path / "restored"))
    with world(tmp_path, objects) as here:
        here.bring(0, "a", 3)
        (manifest,) = here.archive()
    assert manifest_key(DAY, 1) in objects.stored
    objects.stored[manifest.key] = objects.stored[manifest.key][:-1]
    with pytest.raises(VerificationError, match="cut after"):
        list(restore_day(objects, DAY, tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()


SOURCE = "SELECT * FROM pathstats.traffic_events"
LEDGER = "SELECT * FROM pathstats.loads ORDER BY ALL"


def _restore(here: World) -> list[int]:
    return [rows for _, rows in restore_to_warehouse(here.warehouse, here.objects, DAY, lambda: NOW)]


def _assert_same(here: World, source: pl.DataFrame, table: str = SOURCE) -> None:
    """DuckDB finds no row in one that isn't in the other, loads included; the types are the table's own."""
    with here.warehouse._registered("source", source):
        for one, other in ((table, "FROM source"), ("FROM source", table)):
            assert here.warehouse._frame(f"({one}) EXCEPT ALL ({other})").height == 0
    assert here.warehouse._frame(table).schema == source.schema


def _states(here: World) -> list[str]:
    return [record.state.value for record in here.warehouse.generation_records(DAY)]


def test_a_day_comes_back_into_the_warehouse_under_its_loads(tmp_path: pathlib.Path, s3_objects: S3Objects) -> None:
    """M24: through a real S3, EXCEPT ALL equal both ways with load ids; late loads stay; clean-up may delete again."""
    with world(tmp_path, s3_objects) as here:
        for hour, load_id, rows in ((0, "a", 300), (0, "b", 7), (23, "a", 200), (23, "none", 0)):
            here.bring(hour, load_id, rows)
        here.archive()
        here.bring(5, "late", 50)
        here.build_statistics()
        here.archive()
        source, ledger = here.warehouse._frame(SOURCE), here.warehouse._frame(LEDGER)
        here.clean()
        here.bring(5, "later", 9)
        later = here.warehouse._frame(SOURCE)
        assert _states(here) == ["deleted", "deleted"]

        assert _restore(here) == [507, 50]

        here.assert_invariants()
        _assert_same(here, pl.concat([source, later]))
        _assert_same(here, ledger, f"({LEDGER}) EXCEPT ALL SELECT * FROM pathstats.loads WHERE load_id = 'later'")
        assert _states(here) == ["manifested", "manifested"]
        steps = here.warehouse.archive_steps(DAY).height
        assert _restore(here) == [0, 0]
        assert here.warehouse.archive_steps(DAY).height == steps
        assert len(here.archive()) == 3
        here.build_statistics()
        assert here.clean().deleted_rows == 566
        here.assert_invariants(cleaned=True)


AWKWARD = [
    r'{"event_id":"big","event_time":"2026-11-20T05:00:00.000001Z","path":"/","bytes_sent":9007199254740993}',
    r'{"event_id":"max","event_time":"2026-11-20T05:59:59.999999Z","path":"/","bytes_sent":9223372036854775807}',
    '{"event_id":"u2028","event_time":"2026-11-20T05:00:00Z","path":"/\u2028\u2029\u0085","user_agent":"\u2028"}',
    r'{"event_id":"nul","event_time":"2026-11-20T05:00:00Z","path":"/\u0000x","host":"\u0000"}',
    r"""{"event_id":"quotes","event_time":"2026-11-20T05:00:00Z","path":"/\"\\\"'","user_agent":"\\u0022\t\u001f"}""",
    r'{"event_id":"nulls","event_time":"2026-11-20T05:00:00Z","path":"/","host":null,"status":null}',
    r'{"event_id":"surrogate","event_time":"2026-11-20T05:00:00Z","path":"/\ud800"}',
    r'{"event_id":"pair","event_time":"2026-11-20T05:00:00Z","path":"/\ud83d\ude00"}',
    r'{"event_id":"float","event_time":"2026-11-20T05:00:00Z","path":"/","response_time_ms":0.1}',
    r'{"event_id":"tiny","event_time":"2026-11-20T05:00:00Z","path":"/","response_time_ms":5e-324}',
    r'{"event_id":"huge","event_time":"2026-11-20T05:00:00Z","path":"/","response_time_ms":1.7976931348623157e308}',
    r'{"event_id":"nan","event_time":"2026-11-20T05:00:00Z","path":"/","response_time_ms":NaN}',
    r'{"event_id":"inf","event_time":"2026-11-20T05:00:00Z","path":"/","response_time_ms":1e999}',
]


def test_awkward_values_come_back_as_they_were(tmp_path: pathlib.Path) -> None:
    """M24: integers beyond 2**53, microseconds, U+2028, NUL, quotes, NULLs, a row of 5 MB, and Parquet's NaN.

    NaN and infinities never are response times here: such a line is rejected, such a Parquet cell is NULL. A lone
    surrogate is no text: the line is rejected, and kept with its bytes.
    """
    folder = tmp_path / "landing" / f"dt={DAY}" / "hour=05"
    folder.mkdir(parents=True)
    (folder / "awkward.jsonl").write_text("\n".join(AWKWARD) + "\n")
    at = [hour_of(5)] * 3
    pl.DataFrame(
        {
            "event_time": at,
            "event_id": ["p1", "p2", "p3"],
            "path": ["/", "/", "/" + "ü" * 2_500_000],
            "response_time_ms": [math.nan, math.inf, 1 / 3],
        }
    ).write_parquet(folder / "wide.parquet")
    with world(tmp_path, FakeObjects()) as here:
        loaded = here.load()
        assert loaded.unreadable == ()
        source = here.warehouse._frame(SOURCE)
        refused = here.warehouse._frame("SELECT raw FROM pathstats.rejected_events")["raw"].to_list()
        here.accepted = here.hot()
        here.build_statistics()
        here.archive()
        here.clean()
        here.assert_invariants(cleaned=True)

        assert sum(_restore(here)) == len(source)

        _assert_same(here, source)
    refused_ids = {"surrogate", "nan", "inf"}
    assert {name for name in refused_ids if any(f'"{name}"'.encode() in raw for raw in refused)} == refused_ids
    known_ids = {json.loads(line, strict=False)["event_id"] for line in AWKWARD} | {"p1", "p2", "p3"}
    assert set(source["event_id"]) == known_ids - refused_ids
    assert source.filter(pl.col("response_time_ms").is_nan() | pl.col("response_time_ms").is_infinite()).height == 0
    assert len(source) + len(refused) == len(AWKWARD) + 3


def test_a_restore_that_died_is_finished_by_the_next(tmp_path: pathlib.Path) -> None:
    """M24: killed before each load, and after a clean-up that was killed halfway: whole loads, nothing twice."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        for hour in range(4):
            here.bring(hour, "a", 20)
        here.build_statistics()
        here.archive()
        source = here.warehouse._frame(SOURCE)
        put_back = here.warehouse.restore_load
        for survived in range(5):
            here.clean()
            calls = itertools.count()

            def die(*arguments: Any, calls: Any = calls, survived: int = survived) -> None:
                if next(calls) == survived:
                    raise KilledError
                put_back(*arguments)

            here.warehouse.restore_load = die  # type: ignore[method-assign, assignment]
            with contextlib.suppress(KilledError):
                _restore(here)
            here.assert_invariants()
            assert here.hot().total() == 20 * min(survived, 4)
            assert _states(here) == ["manifested"]
            here.warehouse.restore_load = put_back  # type: ignore[method-assign]
            assert _restore(here) == [20 * (4 - survived)]
            _assert_same(here, source)
        # A clean-up that died within a load.
        here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE event_id LIKE '%-7' AND load_id = 'a'")
        here.warehouse._run("UPDATE pathstats.loads SET deleted_rows = 1")
        assert _restore(here) == [4]
        _assert_same(here, source)


def test_what_is_not_a_loads_own_is_not_put_back(tmp_path: pathlib.Path) -> None:
    """A damaged object, a ledger that doesn't know the loads, one that says otherwise: refused, nothing changes."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        here.bring(0, "a", 20)
        here.bring(0, "b", 20)
        with pytest.raises(ArchiveRefusedError, match="is not archived"):
            _restore(here)
        here.build_statistics()
        (manifest,) = here.archive()
        here.clean()
        whole = objects.stored[manifest.key]
        objects.stored[manifest.key] = whole[:-1]
        with pytest.raises(VerificationError, match="cut after"):
            _restore(here)
        objects.stored[manifest.key] = whole
        assert _states(here) == ["deleted"]
        here.warehouse._run("UPDATE pathstats.loads SET rows = rows + 1 WHERE load_id = 'a'")
        with pytest.raises(RestoreError, match="left as it was"):
            _restore(here)
        here.warehouse._run("DELETE FROM pathstats.loads WHERE load_id = 'a'")
        with pytest.raises(ArchiveRefusedError, match="restore to a directory"):
            _restore(here)
        assert here.hot().total() == 0
