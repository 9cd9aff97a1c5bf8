"""The ledger of a lost warehouse, entered anew from the archive: killed, contradicted, damaged, and used afterwards.

The whole drill, with Dagster and a real S3, stands in tests/test_drill.py.
"""

import datetime as dt
import itertools
import pathlib
from typing import Any

import pytest

from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.recover import RecoveredDay, recover
from pathstats_pipeline.archive.restore import restore_to_warehouse
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import Window

from .fake_objects import FakeObjects, KilledError
from .worlds import DAY, NOW, World, hour_of, world


def recovered(here: World) -> list[RecoveredDay]:
    """What the command does."""
    return list(recover(here.warehouse, here.objects, here.landing, lambda: NOW))


def two_generations(directory: pathlib.Path, objects: FakeObjects) -> World:
    """A day that was cleaned up with two generations, two loads of which are of one hour; as the oracle knows it."""
    with world(directory, objects) as here:
        here.bring(0, "a", 20)
        here.bring(5, "a", 15)
        here.bring(5, "b", 9)
        here.build_statistics()
        here.archive()
        here.bring(5, "late", 4)
        here.build_statistics()
        here.archive()
        here.clean()
        here.assert_invariants(cleaned=True)
        return here


def lose(directory: pathlib.Path) -> None:
    """The warehouse is lost."""
    (directory / "warehouse.duckdb").unlink()


def test_killed_anywhere_it_is_finished_by_the_next(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each change of the warehouse: a generation is entered whole or not at all, and in the end each once."""
    objects = FakeObjects()
    before = two_generations(tmp_path, objects)
    written = dict(objects.stored)
    for survived in range(5):
        lose(tmp_path)
        calls = itertools.count()
        with world(tmp_path, objects) as here, monkeypatch.context() as patch:
            for name in ("recover_loads", "record_generation", "record_archives"):
                real = getattr(here.warehouse, name)

                def die(*arguments: Any, real: Any = real, calls: Any = calls, survived: int = survived) -> None:
                    if next(calls) == survived:
                        raise KilledError
                    real(*arguments)

                patch.setattr(here.warehouse, name, die)
            with pytest.raises(KilledError):
                recovered(here)
        with world(tmp_path, objects) as here:
            here.accepted = before.accepted
            [day] = recovered(here)
            assert (day.date, day.problem) == (DAY, None)
            here.assert_invariants(cleaned=True)
            assert recovered(here) == [RecoveredDay(DAY)]
            assert len(here.archive()) == 2
            assert len(here.warehouse.archives()) == 2
            [facts] = here.warehouse.days()
            assert (facts.stored, facts.deleted, facts.archived, facts.generations) == (48, 48, 48, 2)
    assert objects.stored == {**written, **{key: objects.stored[key] for key in objects.stored if "claims/" in key}}


def test_it_can_be_restored_cleaned_up_and_archived_on(tmp_path: pathlib.Path) -> None:
    """Events come back under the first load of their hour; late loads become the next generation, as ever."""
    objects = FakeObjects()
    before = two_generations(tmp_path, objects)
    lose(tmp_path)
    with world(tmp_path, objects) as here:
        here.accepted = before.accepted
        recovered(here)
        here.build_statistics()
        assert [rows for _, rows in restore_to_warehouse(here.warehouse, objects, DAY, lambda: NOW)] == [44, 4]
        here.assert_invariants()
        assert {(facts.load, facts.rows) for facts in here.warehouse.loads(Window.of_hour(hour_of(5)))} == {
            (Load(hour_of(5), "a"), 24),
            (Load(hour_of(5), "b"), 0),
            (Load(hour_of(5), "late"), 4),
        }
        here.clean()
        here.assert_invariants(cleaned=True)
        assert here.bring_again(Load(hour_of(5), "b"), 9, "again").duplicates == 0, "the archive was not asked"
    lose(tmp_path)
    with world(tmp_path, objects) as here:
        here.accepted = before.accepted
        recovered(here)
        assert [(facts.rows, facts.duplicates) for facts in here.load().appended] == [(0, 9)]
        here.bring(23, "later", 3)
        here.build_statistics()
        assert [manifest.rows for manifest in here.archive()] == [44, 4, 3]
        here.clean()
        here.assert_invariants(cleaned=True)


def test_what_contradicts_the_archive_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    """Some of a generation's loads, other events under their names, or loads that came before: refused, with a way."""
    objects = FakeObjects()
    two_generations(tmp_path, objects)
    for hour, load_id, why in (
        (0, "a", "knows 1 of 4 loads"),
        (5, "late", "covers other events"),
        (5, "new", "came before its hour was recovered"),
    ):
        lose(tmp_path)
        with world(tmp_path, objects) as here:
            here.bring(hour, load_id, 2, seed=7)
            [day] = recovered(here)
            assert day.problem is not None
            assert why in day.problem
            assert "begin with an empty warehouse" in day.problem
            assert [facts.load.load_id for facts in here.warehouse.loads(Window.of_day(DAY))] == [load_id]
            assert len(here.warehouse.archives()) == 0
            here.landing.objects.delete(f"dt={DAY}/hour={hour:02d}/{load_id}.parquet")


def test_a_day_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path: pathlib.Path) -> None:
    """A damaged object, one that is gone, a manifest that is none: nothing of the day is entered."""
    objects = FakeObjects()
    two_generations(tmp_path, objects)
    other = dt.date(2026, 11, 19)
    for key, text, why in (
        (next(key for key in objects.stored if "g0002" in key and "events/" in key), b"\x1f\x8b damaged", "g0002"),
        (manifest_key(DAY, 1), b"{}", "not a manifest"),
    ):
        whole = objects.stored[key]
        objects.stored[key] = text
        objects.stored[manifest_key(other, 1)] = b"[]"
        lose(tmp_path)
        with world(tmp_path, objects) as here:
            found = recovered(here)
            assert [day.date for day in found] == [other, DAY]
            assert all(day.problem for day in found)
            assert why in str(found[1].problem)
            objects.stored[key] = whole
            assert [day.problem is None for day in recovered(here)] == [False, True]
        del objects.stored[manifest_key(other, 1)]
