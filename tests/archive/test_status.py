"""How days stand, and numbers that reconcile: counted in the ledger and in the tables, and held against each other."""

import datetime as dt
import pathlib

import polars as pl

from pathstats_pipeline.archive.day import verified_manifests
from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.status import DayState
from pathstats_pipeline.events.load import Load

from .fake_objects import FakeObjects, Faults, KilledError
from .worlds import DAY, NOW, RETENTION, WINDOW, World, events, hour_of, world


def state(here: World, now: dt.datetime = NOW) -> str:
    """The state of the only day."""
    [day] = here.warehouse.status(now).days
    assert here.warehouse.status(now).problems() == []
    return day.state(now).value


def test_a_day_goes_through_its_states(tmp_path: pathlib.Path) -> None:
    """M28: from open to cleaned, with a run that died, a clean-up that died, and late loads; all adds up, always."""
    objects = FakeObjects()
    seen = []
    with world(tmp_path, objects) as here:
        assert here.warehouse.status(NOW).days == []
        here.bring(0, "nothing", 0)
        seen.append(state(here))
        here.bring(0, "a", 20)
        seen += [state(here, WINDOW.end - dt.timedelta(hours=1)), state(here)]
        objects.faults = Faults(fail_on="before put metadata", error=KilledError())
        try:
            here.archive()
        except KilledError:
            seen.append(state(here))
        objects.faults = Faults()
        here.archive()
        here.build_statistics()
        seen.append(state(here))
        here.warehouse._run("UPDATE pathstats.loads SET deleted_rows = 3 WHERE load_id = 'a'")
        here.warehouse._run(
            "DELETE FROM pathstats.traffic_events WHERE rowid IN (SELECT rowid FROM pathstats.traffic_events LIMIT 3)"
        )
        seen.append(state(here))
        here.clean()
        seen.append(state(here))
        here.bring(5, "late", 7)
        seen.append(state(here))
        here.archive()
        here.build_statistics()
        seen.append(state(here))
        here.clean()
        manifests = verified_manifests(objects, DAY)
        here.warehouse.record_archives(DAY, manifests, [each.key for each in manifests])
        seen.append(state(here))
    assert seen == [
        "empty", "open", "unarchived", "archiving", "archived", "deleting", "cleaned", "late", "deleting", "cleaned",
    ]  # fmt: skip
    assert RETENTION.hot_days == 3


def test_everything_received_is_accounted_for(tmp_path: pathlib.Path) -> None:
    """M28: received = stored + duplicates + rejected, stored = live + deleted; a changed table is found out."""
    with world(tmp_path, FakeObjects()) as here:
        here.bring(0, "a", 20)
        load = Load(hour_of(0), "b")
        refused = pl.DataFrame({"line_number": [1, 2], "raw": [b"x", b"y"], "reason": ["bad"] * 2, "source": ["f"] * 2})
        frame = pl.concat([events(Load(hour_of(0), "a"), 5), events(load, 3)])
        here.warehouse.append_load(load, [(frame, refused)], lambda part: digest_of(to_lines(part)), NOW)
        here.warehouse.append_rejected(Load(hour_of(1), "r"), refused, NOW)
        here.warehouse.hold(DAY, "an audit", NOW)
        status = here.warehouse.status(NOW)
        [day] = status.days

        assert (day.received, day.stored, day.duplicates, day.rejected, day.live) == (32, 23, 5, 4, 23)
        assert (day.waiting, day.generations, day.hold, day.counted) == (23, 0, "an audit", None)
        assert status.problems() == []
        assert status.totals() == {
            "received": 32,
            "stored": 23,
            "duplicates": 5,
            "rejected": 4,
            "live": 23,
            "deleted": 0,
            "archived": 0,
            "waiting": 23,
            "unloaded": None,
            "oldest_unloaded_hour": None,
            "oldest_unarchived_day": DAY,
            "holds": [DAY],
        }
        here.warehouse._run("DELETE FROM pathstats.rejected_events WHERE line_number = 1")
        here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE load_id = 'b'")
        one, other = here.warehouse.status(NOW).problems()
        assert "23 events stored, but 20 are in the warehouse and 0 deleted" in one
        assert "4 lines rejected, but rejected_events has 2" in other
        here.warehouse._run("UPDATE pathstats.loads SET deleted_rows = rows WHERE load_id = 'b'")
        assert "3 events are deleted, but 0 archived" in here.warehouse.status(NOW).problems()[0]
        assert day.state(NOW) is DayState.UNARCHIVED


def test_files_that_are_not_loaded_are_seen_whatever_the_ledger_says(tmp_path: pathlib.Path) -> None:
    """A day of which there is nothing else, and an archived one: both are behind, the older one is told."""
    before = DAY - dt.timedelta(days=1)
    with world(tmp_path, FakeObjects()) as here:
        here.bring(0, "a", 20)
        here.archive()
        landed = {
            DAY: {(Load(hour_of(0), "a"), False)},
            before: {(Load(hour_of(0) - dt.timedelta(days=1), "x"), False)},
        }
        landed[DAY] |= {(Load(hour_of(7), name), kind) for name, kind in (("b", False), ("b", True))}
        status = here.warehouse.status(NOW, here.warehouse.unloaded(landed))
        assert [(day.date, day.state(NOW), day.unloaded) for day in status.days] == [
            (before, DayState.UNLOADED, 1),
            (DAY, DayState.UNLOADED, 2),
        ]
        totals = status.totals()
        assert (totals["unloaded"], totals["oldest_unloaded_hour"], totals["oldest_unarchived_day"]) == (
            3,
            hour_of(0) - dt.timedelta(days=1),
            before,
        )
        assert (status.problems(), status.overdue()) == ([], {before: 1, DAY: 2})
        # While the day is open, files come and go.
        early = here.warehouse.status(WINDOW.end - dt.timedelta(hours=1), here.warehouse.unloaded(landed))
        assert early.overdue() == {before: 1}

        known = here.warehouse.status(NOW, here.warehouse.unloaded({DAY: {(Load(hour_of(0), "a"), False)}}))
        assert [day.state(NOW) for day in known.days] == [DayState.ARCHIVED]
        assert (known.totals()["unloaded"], known.overdue()) == (0, {})
