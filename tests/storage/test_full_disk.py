"""M29: the disk is full in each phase of a day: one line, nothing lost, and with room again everything goes on.

The kernel refuses to let a file grow beyond a limit, as it would on a full disk. Compaction is in test_compaction.py.
"""

import contextlib
import pathlib
import resource
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest
from archive.fake_objects import FakeObjects
from archive.worlds import DAY, NOW, WINDOW, World, events, hour_of, world

from pathstats_pipeline.archive.lifecycle import State
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.archive.restore import restore_day, restore_to_warehouse
from pathstats_pipeline.events.load import Load

BATCH = 100


@contextlib.contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def counted(here: World) -> None:
    """Three hours with statistics; not compressible, so that they take room."""
    for hour in range(3):
        here.bring(hour, "a", 300, width=500)
    here.build_statistics()


def landed(here: World) -> None:
    """The same, and a load that lies in the landing zone."""
    counted(here)
    load = Load(hour_of(9), "late")
    here.landing.publish(load, events(load, 300, width=500))


def archived(here: World) -> None:
    """The same, archived."""
    counted(here)
    here.archive()


def cleaned(here: World) -> None:
    """The same, cleaned up."""
    archived(here)
    here.clean(BATCH)


def back_into_the_warehouse(here: World) -> None:
    """The day is restored."""
    list(restore_to_warehouse(here.warehouse, here.objects, DAY, lambda: NOW))


PHASES: dict[str, tuple[Callable[[World], Any], Callable[[World], Any], int, type[Exception]]] = {
    "load": (landed, World.load, 50_000, duckdb.Error),
    "statistics": (counted, World.build_statistics, 1_000, duckdb.Error),
    "record of a step": (counted, World.archive, 10, duckdb.Error),
    "spool of the archive": (counted, World.archive, 50_000, ArchiveError),
    "first record of clean-up": (archived, lambda here: here.clean(BATCH), 10, duckdb.Error),
    "deletion": (archived, lambda here: here.clean(BATCH), 2_000, duckdb.Error),
    "restore": (cleaned, back_into_the_warehouse, 50_000, duckdb.Error),
}


@pytest.mark.parametrize("phase", PHASES)
def test_m29_a_full_disk_is_a_clean_failure(tmp_path: pathlib.Path, phase: str) -> None:
    """M29: one line; no row is gone that isn't archived; then the day goes all its way."""
    before, work, size, kind = PHASES[phase]
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        before(here)
        known = here.accepted
    published = dict(objects.stored)
    with no_room_beyond(size), pytest.raises(kind, match=r"File too large") as caught, world(tmp_path, objects) as here:
        work(here)
    assert len(str(caught.value).splitlines()) == 1
    assert {key: body for key, body in objects.stored.items() if "claims/" not in key or key in published} == published
    with world(tmp_path, objects) as here:
        here.accepted = known
        here.assert_invariants(cleaned=phase == "restore")
        gone = sum(facts.deleted_rows for facts in here.warehouse.loads(WINDOW))
        assert here.hot().total() + gone == known.total()
        here.load()
        here.accepted = here.hot() | here.archived()
        assert here.accepted.total() == known.total() + 300 * (phase == "load")
        here.build_statistics()
        assert len(here.archive()) == 1
        here.clean(BATCH)
        here.assert_invariants(cleaned=True)
        assert [record.state for record in here.warehouse.generation_records(DAY)] == [State.DELETED]


def test_m29_a_restore_to_a_full_disk_leaves_no_half_file(tmp_path: pathlib.Path) -> None:
    """M29: the directory is as empty as before; with room, the file is there."""
    with world(tmp_path, FakeObjects()) as here:
        cleaned(here)
        with no_room_beyond(50_000), pytest.raises(OSError, match="File too large") as caught:
            list(restore_day(here.objects, DAY, tmp_path / "out"))
        assert len(str(caught.value).splitlines()) == 1
        assert list((tmp_path / "out").iterdir()) == []
        [(_, path)] = restore_day(here.objects, DAY, tmp_path / "out")
        assert path.exists()
        here.assert_invariants(cleaned=True)
