"""M1: exactly the rows are deleted that stand in the verified object, whatever happens between reading and deleting.

Schedules are seeded: late loads, redelivered ids with another payload, changed and removed rows, at random places
between archive and clean-up. The controls delete by a predicate on the day and by a high-water mark, and lose rows.
"""

import pathlib
import random
import shutil

import pytest

from pathstats_pipeline.archive.cleanup import CleanupRefusedError
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.events.load import Load

from .fake_objects import FakeObjects
from .worlds import WINDOW, World, events, hour_of, world

DELETE_DAY = "DELETE FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ?"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A day with two loads, counted."""
    folder = tmp_path_factory.mktemp("identity") / "prepared"
    with world(folder, FakeObjects()) as here:
        for hour, load_id in ((2, "a"), (7, "b")):
            here.bring(hour, load_id, 6)
        here.build_statistics()
    return folder


def disturb(here: World, rng: random.Random, number: int) -> str:
    """Something happens to the day; returns what."""
    what = rng.choice(["late", "late", "redelivered", "changed", "removed", "counted"])
    if what == "late":
        # Sorts before or after the others: a slow writer's load has the smaller name.
        here.bring(rng.randrange(24), f"{rng.choice('0z')}-{number}", rng.randrange(1, 4), seed=number)
    elif what == "redelivered":
        known = Load(*rng.choice([(hour_of(2), "a"), (hour_of(7), "b")]))
        assert here.bring_again(known, 6, f"again-{number}").duplicates >= 5 - number
    elif what == "changed":
        here.warehouse._run(
            "UPDATE pathstats.traffic_events SET status = 599 WHERE event_id = ?", (f"a-0-{rng.randrange(6)}",)
        )
    elif what == "removed":
        here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE event_id = ?", (f"b-0-{rng.randrange(6)}",))
    else:
        here.build_statistics()
    return what


@pytest.mark.parametrize("schedules", [60, pytest.param(1_000, marks=pytest.mark.faults)])
def test_every_schedule_keeps_what_is_not_in_the_object(
    tmp_path: pathlib.Path, prepared: pathlib.Path, schedules: int
) -> None:
    """After each: what was changed or came late is in the warehouse, or in a generation of its own."""
    outcomes = {"cleaned": 0, "refused": 0}
    for seed in range(schedules):
        rng = random.Random(seed)  # noqa: S311 - test data
        folder = tmp_path / "schedule"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        with world(folder, FakeObjects()) as here:
            here.accepted = here.hot()
            happened = []
            for number in range(rng.randrange(1, 5)):
                if number == 1 or rng.random() < 0.3:
                    archive(here)
                happened.append(disturb(here, rng, number))
            archive(here)
            before = here.hot()
            archived = here.archived()
            here.build_statistics()
            try:
                here.clean()
                outcomes["cleaned"] += 1
            except CleanupRefusedError:
                outcomes["refused"] += 1
                assert here.hot() == before, (seed, happened)
            gone = before - here.hot()
            assert gone <= archived, (seed, happened, "a row is gone that stands in no object")
    assert min(outcomes.values()) > schedules / 10, outcomes


def archive(here: World) -> None:
    """The day is archived, unless the warehouse holds other events than its ledger says."""
    try:
        here.archive()
    except ArchiveError as refused:
        assert "nothing was archived" in str(refused)  # noqa: PT017 - the only reason that is right


def test_the_controls_lose_rows(tmp_path: pathlib.Path, prepared: pathlib.Path) -> None:
    """Deleting by the day, and by the largest sequence number that was read, lose what came in the meantime."""
    lost = {}
    for control in ("predicate", "high-water mark"):
        shutil.copytree(prepared, tmp_path / control)
        with world(tmp_path / control, FakeObjects()) as here:
            here.accepted = here.hot()
            # The slow writer took number 5 of 6 before the day was read, and committed after.
            here.archive()
            late = here.bring(7, "slow", 3)
            number = "CASE load_id WHEN 'a' THEN 4 WHEN 'slow' THEN 5 ELSE 6 END"
            if control == "predicate":
                here.warehouse._run(DELETE_DAY, (WINDOW.start, WINDOW.end))
            else:
                here.warehouse._run(f"DELETE FROM pathstats.traffic_events WHERE {number} <= 6")
            lost[control] = (here.accepted - here.hot() - here.archived()).total()
            assert late.hour == hour_of(7)
            assert events(late, 3).height == lost[control]
    assert lost == {"predicate": 3, "high-water mark": 3}
