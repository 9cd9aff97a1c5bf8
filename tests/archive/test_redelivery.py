"""Events that come again after their day was cleaned up: absorbed by what the archive knows, or they wait."""

import pathlib

import polars as pl
import pytest

from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.loading import LoadedHours
from pathstats_pipeline.storage.objects import ObjectsError

from .fake_objects import FakeObjects, Faults
from .worlds import DAY, NOW, WINDOW, World, events, hour_of, lines_of, world


def cleaned(here: World) -> pl.DataFrame:
    """A day of 1,200 events in four loads, archived and deleted; its events."""
    for hour, load_id in ((0, "a"), (5, "a"), (5, "b"), (23, "c")):
        here.bring(hour, load_id, 300)
    before = here.warehouse.read_events(WINDOW, EVENT_NAMES)
    here.build_statistics()
    here.archive()
    here.clean()
    here.assert_invariants(cleaned=True)
    return before


def redeliver(here: World, before: pl.DataFrame, late: int) -> LoadedHours:
    """Land 1,000 known events under another name, shuffled among so many true late ones of each hour; load the day."""
    again = before.sample(1000, seed=3)
    for hour in sorted({moment.replace(minute=0, second=0, microsecond=0) for moment in again["event_time"]}):
        fresh = events(Load(hour, "late"), late)
        known = again.filter(pl.col("event_time").dt.truncate("1h") == hour)
        mixed = pl.concat([known, fresh]).sample(fraction=1, shuffle=True, seed=5)
        here.landing.publish(Load(hour, "again"), mixed)
        here.accepted += lines_of([fresh])
    return here.load()


def test_redeliveries_of_a_deleted_day_create_nothing_twice(tmp_path: pathlib.Path) -> None:
    """M11: 1,000 known events among true late ones: generation 2 holds exactly the late ones, each event once."""
    with world(tmp_path, FakeObjects()) as here:
        before = cleaned(here)

        loaded = redeliver(here, before, late=7)

        assert loaded.unreadable == ()
        assert sum(facts.duplicates for facts in loaded.appended) == 1000
        assert sum(facts.rows for facts in loaded.appended) == here.hot().total() == 21
        here.assert_invariants(cleaned=True)
        here.build_statistics()
        assert [(each.generation, each.rows) for each in here.archive()] == [(1, 1200), (2, 21)]
        here.clean()
        here.assert_invariants(cleaned=True)
        assert here.hot().total() == 0
        assert redeliver(here, before, late=0).appended == ()


def test_only_redeliveries_make_no_generation(tmp_path: pathlib.Path) -> None:
    """M11: nothing but known events: no row, no generation, and the statistics keep their numbers."""
    with world(tmp_path, FakeObjects()) as here:
        before = cleaned(here)
        statistics = here.build_statistics()

        loaded = redeliver(here, before, late=0)

        assert [(facts.rows, facts.duplicates) for facts in loaded.appended if facts.rows] == []
        assert sum(facts.duplicates for facts in loaded.appended) == 1000
        assert here.build_statistics().equals(statistics)
        assert len(here.archive()) == 1
        here.assert_invariants(cleaned=True)


def test_the_archive_is_read_once_a_day_and_only_when_it_must_be(tmp_path: pathlib.Path) -> None:
    """Hours that hold all their events ask nothing of S3; 24 new files for a cleaned day read each object once."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        cleaned(here)
        objects.faults = Faults()
        here.landing.publish(Load(hour_of(7), "fresh"), events(Load(hour_of(7), "fresh"), 3))
        assert len(here.load().appended) == 1
        assert objects.faults.passed == []
        for hour in (0, 5, 23):
            here.landing.publish(Load(hour_of(hour), "late"), events(Load(hour_of(hour), "late"), 3))
        assert len(here.load().appended) == 3
        assert sum(name.startswith("before open events/") for name in objects.faults.passed) == 1


def test_an_hour_that_comes_again_is_looked_up_in_its_range(tmp_path: pathlib.Path) -> None:
    """M11: of the object that hour is fetched and nothing else, and the known events of it are duplicates."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        known = cleaned(here).filter(pl.col("event_time").dt.hour() == 5)
        (manifest,) = here.archive()
        here.landing.publish(Load(hour_of(5), "again"), known)

        (facts,) = here.load().appended

        assert (facts.rows, facts.duplicates) == (0, len(known))
        assert objects.ranges == [(manifest.key, span.size_bytes) for span in manifest.hours if span.hour == 5]
        assert len(known) == 600
        here.assert_invariants(cleaned=True)


def test_a_damaged_hour_of_the_archive_holds_up_that_hour_alone(tmp_path: pathlib.Path) -> None:
    """M11: the object is changed within one hour: a load of that one waits, a load of another is appended."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        before = cleaned(here)
        (manifest,) = here.archive()
        good = objects.stored[manifest.key]
        damaged = bytearray(good)
        damaged[manifest.hours[1].offset + manifest.hours[1].size_bytes // 2] ^= 1
        objects.stored[manifest.key] = bytes(damaged)
        appended = {}
        for hour in (23, 5):
            of_hour = before.filter(pl.col("event_time").dt.hour() == hour)
            here.landing.publish(Load(hour_of(hour), "again"), of_hour)
            loaded = here.load()
            appended[hour] = [facts.duplicates for facts in loaded.appended]

        assert appended == {23: [300], 5: []}
        assert ["hour 05" in text for text in loaded.unreadable] == [True]
        objects.stored[manifest.key] = good
        assert [facts.duplicates for facts in here.load().appended] == [600]
        here.assert_invariants(cleaned=True)


@pytest.mark.parametrize("what", ["gone", "damaged", "no manifest", "down"])
def test_without_the_archive_a_redelivery_waits_where_it_is(tmp_path: pathlib.Path, what: str) -> None:
    """M11: as long as nobody can say what was there, the load isn't appended, and is named; afterwards it is."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        before = cleaned(here)
        (manifest,) = here.archive()
        stored = dict(objects.stored)
        if what == "gone":
            objects.stored.pop(manifest.key)
        elif what == "damaged":
            objects.stored[manifest.key] = objects.stored[manifest.key][:-9]
        elif what == "no manifest":
            objects.stored.pop(manifest_key(DAY, 1))
        else:
            objects.faults = Faults(fail_on="before", error=ObjectsError("the store is gone"))
        here.landing.publish(Load(hour_of(7), "other hour"), events(Load(hour_of(7), "other hour"), 3))

        loaded = redeliver(here, before, late=1)

        assert [facts.load.load_id for facts in loaded.appended] == ["other hour"]
        assert [text.split(": ")[0].rpartition("/")[2] for text in loaded.unreadable] == ["again.parquet"] * 3
        assert all("archive can't be read" in text and len(text.splitlines()) == 1 for text in loaded.unreadable)
        assert len(here.landing.hours(DAY)) == 4
        objects.stored, objects.faults = stored, Faults()
        assert sum(facts.rows for facts in here.load().appended) == 3


def test_a_load_is_appended_once_whoever_asks(tmp_path: pathlib.Path) -> None:
    """A load that the ledger knows is left as it is, also when its events were deleted; its facts are the answer."""
    with world(tmp_path, FakeObjects()) as here:
        cleaned(here)
        load = Load(hour_of(5), "b")
        [facts] = [facts for facts in here.warehouse.loads(Window.of_hour(hour_of(5))) if facts.load == load]

        again = here.warehouse.append_load(
            load, [(events(load, 300), pl.DataFrame())], lambda part: digest_of(to_lines(part)), NOW
        )

        assert again == facts
        assert (facts.rows, facts.deleted_rows) == (300, 300)
        assert here.hot().total() == 0
        rejected = pl.DataFrame({"line_number": [1], "raw": [b"x"], "reason": ["bad"], "source": ["f"]})
        assert [here.warehouse.append_rejected(load, rejected, NOW).rejected for _ in range(2)] == [1, 1]
        assert here.warehouse.rejected_lines(WINDOW) == 1
