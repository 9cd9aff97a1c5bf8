"""M1: exactly the rows are deleted that stand in the verified object, whatever happens between reading and deleting.

Schedules are seeded: late loads, redelivered ids with another payload, changed and removed rows, at random places
between archive and clean-up. The controls delete by a predicate on the day and by a high-water mark, and lose rows.
"""

import dataclasses
import pathlib
import random
import shutil
from collections import Counter
from collections.abc import Callable

import pytest
from rounds import rounds

from pathstats_pipeline.archive.cleanup import CleanupRefusedError, clean_day, plan_cleanup
from pathstats_pipeline.archive.day import manifests_of
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.events.load import Load

from .fake_objects import FakeObjects
from .worlds import (
    BATCH_ROWS,
    DAY,
    NOW,
    RETENTION,
    WINDOW,
    World,
    hour_of,
    world,
    worlds_in_memory,
)


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


@pytest.mark.parametrize("seeds", [range(40)], ids=str)
def test_every_schedule_keeps_what_is_not_in_the_object(
    tmp_path: pathlib.Path, prepared: pathlib.Path, seeds: range
) -> None:
    """After each: what was changed or came late is in the warehouse, or in a generation of its own."""

    def play(seed: int) -> Played:
        folder = tmp_path / str(seed)
        shutil.copytree(prepared, folder)
        with world(folder, FakeObjects()) as here:
            return play_schedule(here, seed)

    judge([play(seed) for seed in seeds])


SHARE = rounds(30, full=250)


@pytest.mark.faults
@pytest.mark.parametrize("seeds", [range(start, start + SHARE) for start in range(0, 4 * SHARE, SHARE)], ids=str)
def test_each_of_a_thousand_schedules_keeps_what_is_not_in_the_object(
    tmp_path: pathlib.Path, prepared: pathlib.Path, seeds: range
) -> None:
    """As above; a database in memory is filled anew for each."""

    def play(seed: int) -> Played:
        folder = tmp_path / "schedule"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared / "landing", folder / "landing")
        return play_schedule(fresh(folder, FakeObjects()), seed)

    with worlds_in_memory(prepared) as fresh:
        judge([play(seed) for seed in seeds])


@dataclasses.dataclass(frozen=True)
class Played:
    """How the clean-up of a schedule ended, and how many rows the controls would have lost in its place."""

    cleaned: bool
    lost: list[int]


def play_schedule(here: World, seed: int) -> Played:
    """Disturb, archive, disturb, clean up; asserts that no row is gone that stands in no object."""
    rng = random.Random(seed)  # noqa: S311 - test data
    here.accepted = here.hot()
    assert here.accepted.total() == 12, "it begins with the prepared day and nothing else"
    happened: list[str] = []
    for number in range(rng.randrange(1, 5)):
        if number == 1 or rng.random() < 0.3:
            archive(here)
        happened.append(disturb(here, rng, number))
    archive(here)
    before_verdict = rng.random() < 0.5
    if before_verdict:
        happened.append(disturb(here, rng, len(happened)))
    here.build_statistics()
    verdict = plan_cleanup(here.warehouse, here.objects, DAY, NOW, RETENTION)
    if not before_verdict and rng.random() < 0.5:
        happened.append(disturb(here, rng, len(happened)))
    before, archived = here.hot(), here.archived()
    lost = [lost_by(control, here, before, archived) for control in CONTROLS]
    try:
        clean_day(here.warehouse, here.objects, here.landing, verdict, DAY, BATCH_ROWS, lambda: NOW)
        cleaned = True
    except CleanupRefusedError:
        cleaned = False
        assert here.hot() == before, (seed, happened)
    gone = before - here.hot()
    assert gone <= archived, (seed, happened, "a row is gone that stands in no object")
    return Played(cleaned, lost)


def judge(schedules: list[Played]) -> None:
    """Both ends are met often enough to say something, and either control would have lost rows."""
    cleaned = sum(each.cleaned for each in schedules)
    assert min(cleaned, len(schedules) - cleaned) > len(schedules) / 10
    for number, control in enumerate(CONTROLS):
        assert sum(each.lost[number] > 0 for each in schedules) > len(schedules) / 10, control


def delete_by_predicate(here: World) -> None:
    """What is wrong, the first: everything of the day."""
    here.warehouse._run(
        "DELETE FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ?", (WINDOW.start, WINDOW.end)
    )


def delete_to_high_water_mark(here: World) -> None:
    """What is wrong, the second: everything up to the largest number that was read. Names of loads are the numbers."""
    read = [load.load_id for manifest in manifests_of(here.objects, DAY) for load in manifest.loads]
    here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE load_id <= ?", (max(read, default=""),))


CONTROLS = (delete_by_predicate, delete_to_high_water_mark)


def lost_by(control: Callable[[World], None], here: World, before: Counter[str], archived: Counter[str]) -> int:
    """Rows that a deletion would lose, which is undone."""
    here.warehouse._run("BEGIN")
    control(here)
    lost = before - here.hot() - archived
    here.warehouse._run("ROLLBACK")
    return lost.total()


def archive(here: World) -> None:
    """The day is archived, unless the warehouse holds other events than its ledger says."""
    try:
        here.archive()
    except ArchiveError as refused:
        assert "nothing was archived" in str(refused)  # noqa: PT017 - the only reason that is right


@pytest.mark.parametrize("control", CONTROLS)
def test_the_controls_lose_rows(
    tmp_path: pathlib.Path, prepared: pathlib.Path, control: Callable[[World], None]
) -> None:
    """Deleting by the day, and by the largest sequence number that was read, lose what came in the meantime."""
    shutil.copytree(prepared, tmp_path / "here")
    with world(tmp_path / "here", FakeObjects()) as here:
        here.archive()
        # The slow writer took a number between those of the two loads, and committed after the day was read.
        here.bring(7, "a-slow", 3)
        assert lost_by(control, here, here.hot(), here.archived()) == 3
