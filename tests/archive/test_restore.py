"""The restore drill: what comes back from the archive is what was in the warehouse, both ways, types included."""

import pathlib

import duckdb
import pytest

from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.restore import restore_day
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.schema import EVENT_COLUMNS, EVENT_NAMES
from pathstats_pipeline.storage.objects import S3Objects

from .fake_objects import FakeObjects
from .worlds import DAY, WINDOW, world


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
