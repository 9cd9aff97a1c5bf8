"""A backup: the warehouse as it stands, whole or not at all, and how one comes back from it."""

import pathlib
import shutil

import duckdb
import pytest
from archive.fake_objects import FakeObjects
from archive.worlds import DAY, NOW, WINDOW, world

from pathstats_pipeline.archive.recover import RecoveredDay, recover
from pathstats_pipeline.storage import compaction
from pathstats_pipeline.storage.compaction import backup
from pathstats_pipeline.storage.duck import WarehouseError, exclusive, lock_of
from pathstats_pipeline.storage.tables import TABLES


def test_a_backup_has_every_row_of_every_table(tmp_path: pathlib.Path) -> None:
    """Also what stands in the write-ahead log; the one before is replaced, and nothing else is left."""
    with world(tmp_path, FakeObjects()) as here:
        here.bring(0, "a", 30)
        here.build_statistics()
        here.archive()
    target = tmp_path / "backups" / "warehouse.duckdb"
    target.parent.mkdir()
    target.write_bytes(b"the one before")
    assert backup(tmp_path / "warehouse.duckdb", target, lock_timeout_seconds=5) == target.stat().st_size
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{tmp_path / 'warehouse.duckdb'}' AS old (READ_ONLY)")
        connection.execute(f"ATTACH '{target}' AS copy (READ_ONLY)")
        for name in TABLES:
            both = f"FROM old.pathstats.{name} EXCEPT ALL FROM copy.pathstats.{name}"
            counts = [f"(SELECT count(*) FROM {each}.pathstats.{name})" for each in ("old", "copy")]
            assert connection.execute(both).fetchall() == []
            [(one, other)] = connection.execute(f"SELECT {', '.join(counts)}").fetchall()
            assert one == other


def test_what_goes_wrong_leaves_the_backup_before(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No warehouse, one that is in use, the warehouse itself as the target, a disk that fills: one line each."""
    warehouse, target = tmp_path / "warehouse.duckdb", tmp_path / "backup.duckdb"
    target.write_bytes(b"the one before")
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        backup(warehouse, target, lock_timeout_seconds=0.1)
    with world(tmp_path, FakeObjects()) as here:
        here.bring(0, "a", 30)
    with pytest.raises(WarehouseError, match="is the warehouse itself"):
        backup(warehouse, warehouse, lock_timeout_seconds=0.1)
    with (
        exclusive(lock_of(warehouse), timeout_seconds=1, what="test"),
        pytest.raises(WarehouseError, match="was in use"),
    ):
        backup(warehouse, target, lock_timeout_seconds=0.1)

    def full(_path: pathlib.Path, copy: pathlib.Path) -> None:
        copy.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compaction, "_copy", full)
    with pytest.raises(WarehouseError, match=r"^cannot copy .*: .*No space left on device"):
        backup(warehouse, target, lock_timeout_seconds=1)
    assert target.read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["backup.duckdb"]
    assert not list(tmp_path.glob(".backup*"))


def test_what_was_archived_and_cleaned_up_since_is_known_again(tmp_path: pathlib.Path) -> None:
    """The backup comes back, `recover` makes up for what happened since: invariants hold, nothing is published."""
    objects = FakeObjects()
    target = tmp_path / "backup.duckdb"
    with world(tmp_path, objects) as here:
        here.bring(0, "a", 30)
        here.bring(5, "b", 20)
        here.build_statistics()
        here.archive()
    backup(tmp_path / "warehouse.duckdb", target, lock_timeout_seconds=5)
    with world(tmp_path, objects) as here:
        here.bring(0, "a", 30)
        late = here.bring(5, "late", 4)
        here.build_statistics()
        here.archive()
        here.clean()
        accepted = here.hot() + here.archived()
        before = here.warehouse.hourly(WINDOW).drop("revision", "computed_at")
    published = {key for key in objects.stored if not key.startswith("claims/")}

    shutil.copy(target, tmp_path / "warehouse.duckdb")
    with world(tmp_path, objects) as here:
        here.accepted = accepted
        assert list(recover(here.warehouse, objects, here.landing, lambda: NOW)) == [RecoveredDay(DAY, 1, 1, 4)]
        here.assert_invariants()
        here.load()
        here.build_statistics()
        assert here.warehouse.hourly(WINDOW).drop("revision", "computed_at").equals(before)
        assert len(here.archive()) == 2
        here.clean()
        here.assert_invariants(cleaned=True)
        assert late.load_id == "late"
    assert {key for key in objects.stored if not key.startswith("claims/")} == published
