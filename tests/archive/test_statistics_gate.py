"""M22: nothing is deleted before the statistics of its hours count it; late loads keep nobody, and are counted next."""

import pathlib
from collections.abc import Iterator

import pytest

from pathstats_pipeline.archive.cleanup import CleanupRefusedError
from pathstats_pipeline.events.window import Window

from .fake_objects import FakeObjects
from .worlds import WINDOW, World, hour_of, world

ROWS = 10
HOURS = (0, 5, 7, 23)


@pytest.fixture
def here(tmp_path: pathlib.Path) -> Iterator[World]:
    """A day with events in some hours, counted and archived."""
    with world(tmp_path, FakeObjects()) as ready:
        for hour in HOURS:
            ready.bring(hour, "x", ROWS)
        ready.build_statistics()
        ready.archive()
        yield ready


def requests(here: World) -> int:
    """What the statistics of the day's hours count together."""
    return sum(here.warehouse.requests_by_hour(WINDOW).values())


def assert_refused(here: World, why: str) -> None:
    """Clean-up says why in one line and deletes nothing."""
    before = here.hot()
    with pytest.raises(CleanupRefusedError, match=why) as caught:
        here.clean()
    assert len(str(caught.value).splitlines()) == 1
    assert here.hot() == before


@pytest.mark.parametrize("hour", HOURS)
def test_m22_an_hour_without_statistics_keeps_the_day(here: World, hour: int) -> None:
    """M22: any of them; the line names it. Built again, the day may go, and the sums are those of the manifest."""
    here.warehouse._run("DELETE FROM pathstats.path_stats_hourly WHERE hour = ?", (hour_of(hour),))
    assert_refused(here, f"statistics of {hour:02d}:00 count 0 requests of {ROWS} archived events")
    here.build_statistics(Window.of_hour(hour_of(hour)))
    assert here.clean().deleted_rows == len(HOURS) * ROWS
    assert requests(here) == sum(manifest.rows for manifest in here.archive()) == len(HOURS) * ROWS
    here.assert_invariants(cleaned=True)


@pytest.mark.parametrize("by", [-1, 1])
def test_m22_statistics_that_count_others_keep_the_day(here: World, by: int) -> None:
    """M22: one request too few or too many in one row of one hour."""
    here.warehouse._run(
        "UPDATE pathstats.path_stats_hourly SET requests = requests + ? WHERE hour = ? AND path = "
        "(SELECT min(path) FROM pathstats.path_stats_hourly WHERE hour = ?) AND method = "
        "(SELECT min(method) FROM pathstats.path_stats_hourly WHERE hour = ? AND path = "
        "(SELECT min(path) FROM pathstats.path_stats_hourly WHERE hour = ?))",
        (by, *[hour_of(7)] * 4),
    )
    assert_refused(here, f"statistics of 07:00 count {ROWS + by} requests of {ROWS} archived events")
    here.build_statistics()
    assert here.clean().deleted_rows == len(HOURS) * ROWS


def test_m22_a_late_load_that_is_not_counted_yet_keeps_nobody(here: World) -> None:
    """M22: what was archived is counted and may go; the late event stays, until it is archived and counted itself."""
    here.bring(5, "late", 1)
    assert here.clean().deleted_rows == len(HOURS) * ROWS
    assert here.hot().total() == 1
    assert [manifest.rows for manifest in here.archive()] == [len(HOURS) * ROWS, 1]
    assert_refused(here, f"statistics of 05:00 count {ROWS} requests of {ROWS + 1} archived events")
    here.build_statistics(Window.of_hour(hour_of(5)))
    assert here.clean().deleted_rows == 1
    assert requests(here) == len(HOURS) * ROWS + 1
    here.assert_invariants(cleaned=True)


def test_m22_a_late_generation_that_is_not_counted_keeps_the_day(here: World) -> None:
    """M22: archived late and not counted: not even the first generation goes. Counted, both do."""
    here.bring(5, "late", 3)
    generations = here.archive()
    assert_refused(here, f"statistics of 05:00 count {ROWS} requests of {ROWS + 3} archived events")
    here.build_statistics()
    assert here.clean().deleted_rows == len(HOURS) * ROWS + 3
    assert requests(here) == sum(manifest.rows for manifest in generations)
    here.assert_invariants(cleaned=True)


def test_m22_a_late_load_that_is_counted_but_not_archived_stays(here: World) -> None:
    """M22: the hour counts more than is archived: what is archived may go, the rest stays and stays counted."""
    here.bring(5, "late", 3)
    here.build_statistics()
    assert here.clean().deleted_rows == len(HOURS) * ROWS
    assert here.hot().total() == 3
    assert requests(here) == len(HOURS) * ROWS + 3
    here.assert_invariants(cleaned=True)


def test_m22_a_row_of_no_load_is_nobodys_to_delete(here: World) -> None:
    """M22: a row that somebody wrote into the warehouse by hand is in no manifest, and keeps the day."""
    insert = "INSERT INTO pathstats.traffic_events SELECT * REPLACE ('x' AS event_id, 'hand' AS load_id)"
    here.warehouse._run(f"{insert} FROM pathstats.traffic_events WHERE event_time < ? LIMIT 1", (hour_of(1),))
    here.build_statistics(Window.of_hour(hour_of(0)))
    assert_refused(here, f"statistics of 00:00 count {ROWS + 1} requests of {ROWS} archived events")
    here.warehouse._run("DELETE FROM pathstats.path_stats_hourly WHERE hour = ?", (hour_of(0),))
    assert_refused(here, "statistics of 00:00 count 0 requests")
