"""The sensor of automation: what it asks for, run as it asks, closes, rolls up, archives and cleans each once."""

import collections
import datetime as dt
import pathlib
import re
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from clocks import SetClock
from conftest import s3_settings
from test_pipeline import DAY, EVENTS_AN_HOUR, OTHER_DAY, Pipeline, land

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.defs.sensors import FACT_TAG, OLDER_DAYS_PER_TICK, RUNS_PER_TICK, days_to_look_at, due_runs
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import DAY as ONE_DAY
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse

START = Window.of_day(DAY).start


class Ticks:
    """The sensor and the runs it asks for, on a real instance, as the daemon would have them."""

    def __init__(self, instance: dg.DagsterInstance, objects: S3Objects) -> None:
        self.pipeline = Pipeline(instance, objects)
        self.cursor: str | None = None
        self.skipped: str | None = None
        self.now = START
        self.ran: list[str] = []

    def tick(self) -> Sequence[dg.RunRequest]:
        """What the sensor asks for now."""
        defs = self._defs()
        with dg.build_sensor_context(
            instance=self.pipeline.instance, cursor=self.cursor, definitions=defs, resources=defs.resources
        ) as context:
            data = due_runs.evaluate_tick(context)
        self.cursor, self.skipped = data.cursor, data.skip_message
        return data.run_requests or []

    def run(self, request: dg.RunRequest) -> bool:
        """Run what it asked for; whether it succeeded."""
        span = [request.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end")]
        self.ran.append(f"{request.job_name} {request.partition_key or ' to '.join(map(str, span))}")
        result = (
            self._defs()
            .resolve_job_def(request.job_name or "")
            .execute_in_process(
                instance=self.pipeline.instance,
                partition_key=request.partition_key,
                tags={**request.tags, "dagster/run_key": request.run_key or ""},
                raise_on_error=False,
            )
        )
        return result.success

    def until_quiet(self) -> list[list[str]]:
        """Run all that is asked for, tick by tick, until nothing is; the runs of each tick."""
        ticks = []
        while requests := self.tick():
            before = len(self.ran)
            assert all(map(self.run, requests))
            ticks.append(self.ran[before:])
            assert len(ticks) < 10
        return ticks

    def _defs(self) -> dg.Definitions:
        return build_defs(clock=SetClock(at=self.now.isoformat()))

    def revisions(self, table: str, key: str) -> set[int]:
        """The revisions of an hour's, or a day's, statistics."""
        with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
            column = "hour" if table.endswith("hourly") else "day"
            frame = warehouse._frame(f"SELECT revision FROM pathstats.{table} WHERE {column} = ?", (key,))
        return set(frame["revision"])


@pytest.fixture
def ticks(s3_server: LocalS3, s3_objects: S3Objects, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    """A day of 3 loads in the landing zone, no warehouse yet, an empty bucket, an instance on SQLite."""
    for name, value in s3_settings(s3_server, s3_objects.bucket).items():
        monkeypatch.setenv(name, value)
    for hour in (0, 1, 5):
        land(Load(START + dt.timedelta(hours=hour), "load"), EVENTS_AN_HOUR)
    with dg.DagsterInstance.local_temp() as instance:
        yield Ticks(instance, s3_objects)


def whole(day: dt.date) -> str:
    """The run that closes all hours of a day."""
    return f"hourly {day}-00:00 to {day}-23:00"


def test_a_day_goes_its_way_by_itself_each_step_once(ticks: Ticks) -> None:
    """The hour refreshed while it fills, then closed; the day rolled up, archived after two hours, cleaned on day 4."""
    ticks.now = START + dt.timedelta(minutes=10)
    assert ticks.until_quiet() == [[f"hourly {DAY}-00:00"]]
    ticks.now = START + 6 * HOUR + dt.timedelta(minutes=3)
    assert ticks.until_quiet() == [[f"hourly {DAY}-01:00 to {DAY}-05:00"]]
    ticks.now = START + ONE_DAY + dt.timedelta(minutes=3)
    assert ticks.until_quiet() == [[f"hourly {DAY}-06:00 to {DAY}-23:00"], [f"daily {DAY}"]]
    ticks.now = START + ONE_DAY + 2 * HOUR
    assert ticks.until_quiet() == [[f"archive {DAY}", f"hourly {OTHER_DAY}-00:00"]]
    assert ticks.pipeline.events(DAY) == 3 * EVENTS_AN_HOUR
    ticks.now = START + 3 * ONE_DAY - HOUR
    ticks.until_quiet()
    assert ticks.pipeline.events(DAY) == 3 * EVENTS_AN_HOUR
    ticks.now = START + 3 * ONE_DAY
    assert f"cleanup {DAY}" in ticks.until_quiet()[0]
    assert ticks.pipeline.events(DAY) == 0
    ticks.now += 5 * HOUR
    ticks.until_quiet()

    assert max(collections.Counter(ticks.ran).values()) == 1
    assert len(ticks.pipeline.manifests(DAY)) == 1
    assert ticks.revisions("path_stats_hourly", str(START + 5 * HOUR)) == {1}
    assert ticks.revisions("path_stats_daily", str(DAY)) == {1}
    assert ticks.pipeline.materialized("events_cleanup") == {str(DAY)}
    assert ticks.pipeline.materialized("archive_metadata") == {str(DAY), str(OTHER_DAY), str(DAY + 2 * ONE_DAY)}


def test_what_a_daemon_missed_is_made_up_for(ticks: Ticks) -> None:
    """Two days after the last tick: every hour, day and archive is there in a few ticks, once."""
    ticks.now = START + 2 * ONE_DAY + 3 * HOUR
    made = ticks.until_quiet()
    third = DAY + 2 * ONE_DAY
    assert made == [
        [whole(DAY), whole(OTHER_DAY), f"hourly {third}-00:00 to {third}-01:00"],
        [f"{job} {day}" for day in (DAY, OTHER_DAY) for job in ("daily", "archive")],
    ]
    assert len(ticks.pipeline.materialized("path_stats_hourly")) == 50
    ticks.now += dt.timedelta(minutes=1)
    assert ticks.tick() == []


def test_a_switch_turns_it_off(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PATHSTATS_AUTOMATION=off`: nothing is asked for, and it says why."""
    monkeypatch.setenv("PATHSTATS_AUTOMATION", "off")
    ticks.now = START + 2 * ONE_DAY
    assert ticks.tick() == []
    assert ticks.skipped == "PATHSTATS_AUTOMATION is off"


def test_late_loads_of_a_cleaned_day_become_its_next_generation(ticks: Ticks) -> None:
    """M9: hours, then day and archive, each once; revision + 1; the next tick asks nothing, nor after a redelivery."""
    ticks.now = START + 4 * ONE_DAY
    ticks.until_quiet()
    assert ticks.pipeline.events(DAY) == 0
    five = dt.datetime(2026, 3, 1, 5)
    land(Load(five, "late"), EVENTS_AN_HOUR)

    first = ticks.tick()
    assert [request.partition_key for request in first] == [f"{DAY}-05:00"]
    assert [request.run_key for request in ticks.tick()] == [request.run_key for request in first]
    assert ticks.until_quiet() == [[f"hourly {DAY}-05:00"], [f"daily {DAY}", f"archive {DAY}"]]

    assert ticks.tick() == []
    generations = ticks.pipeline.manifests(DAY)
    assert [(each.generation, each.rows) for each in generations] == [(1, 3 * EVENTS_AN_HOUR), (2, EVENTS_AN_HOUR)]
    assert ticks.pipeline.events(DAY) == 0
    assert ticks.pipeline.statistics(DAY)["requests"].sum() == 4 * EVENTS_AN_HOUR
    assert ticks.revisions("path_stats_hourly", str(five)) == {2}
    assert ticks.revisions("path_stats_hourly", str(five.replace(hour=1))) == {1}
    assert ticks.revisions("path_stats_daily", str(DAY)) == {2}
    _redeliver(five)
    assert ticks.until_quiet() == [[f"hourly {DAY}-05:00"]]
    assert len(ticks.pipeline.manifests(DAY)) == 2


def _redeliver(hour: dt.datetime) -> None:
    """The hour's first load comes again under another name; its events keep their ids."""
    folder = _folder(hour)
    land(Load(hour, "load"), EVENTS_AN_HOUR)
    (folder / "load.parquet").rename(folder / "again.parquet")


def _folder(hour: dt.datetime) -> pathlib.Path:
    return pathlib.Path(load_settings().landing_uri) / f"dt={hour:%Y-%m-%d}" / f"hour={hour:%H}"


def test_a_broken_file_holds_up_its_hour_only_and_is_tried_again_with_patience(ticks: Ticks) -> None:
    """Its span fails, its neighbours come alone; it is asked for after 10 minutes, at once when a file comes beside it.

    When it is gone, the hour is built and the day goes on.
    """
    broken = _folder(START + 5 * HOUR) / "broken.parquet"
    broken.write_bytes(b"garbage")
    ticks.now = START + 8 * HOUR
    [span] = ticks.tick()
    assert not ticks.run(span)

    assert [request.partition_key for request in ticks.tick()] == [f"{DAY}-{hour:02d}:00" for hour in range(7)]
    failed = [request for request in ticks.tick() if not ticks.run(request)]
    assert [request.partition_key for request in failed] == [f"{DAY}-05:00"]
    assert ticks.tick() == []
    head, line = (ticks.skipped or "").splitlines()
    assert head == "nothing new is due; late and asked for before: 1"
    assert re.fullmatch(
        rf"• hourly {DAY}-05:00: 1 file\(s\) that the ledger doesn't know, 1 hour\(s\) of statistics behind; "
        r"failed once, last in run [0-9a-f]{8}; tried again at \d{4}-\d\d-\d\d \d\d:\d\d UTC",
        line,
    )
    assert len(ticks.pipeline.materialized("path_stats_hourly")) == 6

    land(Load(START + 5 * HOUR, "more"), 9)
    [again] = ticks.tick()
    assert again.run_key != failed[0].run_key
    assert not ticks.run(again)
    # It loaded the good file before it failed, so that another fact asks: events that no statistics count.
    [again] = ticks.tick()
    assert not ticks.run(again)
    assert ticks.tick() == []
    ticks.now = _later(dt.timedelta(minutes=11))
    waiting = ticks.tick()
    assert [request.tags[FACT_TAG] for request in waiting if request.partition_key == f"{DAY}-05:00"] == [
        again.tags[FACT_TAG]
    ]
    assert again.run_key not in {request.run_key for request in waiting}


def test_a_broken_file_stops_the_statistics_of_the_hour_that_fills_until_it_is_gone(ticks: Ticks) -> None:
    """Its good files are loaded all the same; it is tried again every five minutes."""
    broken = _folder(START) / "broken.parquet"
    broken.write_bytes(b"garbage")
    ticks.now = START + dt.timedelta(minutes=10)
    [request] = ticks.tick()
    assert not ticks.run(request)
    assert ticks.pipeline.events(DAY) == EVENTS_AN_HOUR
    assert ticks.pipeline.materialized("path_stats_hourly") == set()
    assert ticks.tick() == []
    ticks.now += dt.timedelta(minutes=5)
    [request] = ticks.tick()
    broken.unlink()
    assert ticks.run(request)
    assert ticks.pipeline.materialized("path_stats_hourly") == {f"{DAY}-00:00"}


def _later(delay: dt.timedelta) -> dt.datetime:
    """So long after now: a run's end is told by the real clock, whatever the set one says."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None) + delay


def test_a_tick_asks_for_a_bounded_number_of_runs_and_gives_way(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps of 10 days make 8 runs; a busy warehouse and a landing zone that is gone make it skip, not fail."""
    ticks.now = START + 100 * ONE_DAY
    for day in range(2, 12):
        for hour in (1, 2, 9):
            land(Load(dt.datetime(2026, 3, day, hour), "late"), 1)
    land(Load(dt.datetime(2011, 3, 1, 5), "before any partition"), 0)

    asked = ticks.tick()

    assert len(asked) == RUNS_PER_TICK
    assert len({request.tags[FACT_TAG] for request in asked}) == RUNS_PER_TICK
    ranges = [request.tags for request in asked if request.partition_key is None]
    assert ranges[0]["dagster/asset_partition_range_start"] == f"{DAY}-00:00"
    assert ranges[0]["dagster/asset_partition_range_end"] == f"{DAY}-01:00"
    assert ticks.run(asked[0])
    assert asked[0].run_key not in {request.run_key for request in ticks.tick()}
    with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10):
        monkeypatch.setattr("pathstats_pipeline.defs.sensors.LOCK_SECONDS", 0.1)
        assert ticks.tick() == []
        assert "was in use" in (ticks.skipped or "")
    monkeypatch.setenv("PATHSTATS_LANDING", "s3://nowhere-at-all/landing")
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    assert ticks.tick() == []
    assert "cannot list" in (ticks.skipped or "")


def test_what_is_under_way_is_left_out_and_the_rest_is_asked_for(ticks: Ticks) -> None:
    """A run of an hour holds up its hour; one of which nobody knows the partitions holds up everything."""
    ticks.now = START + 3 * HOUR
    instance, job = ticks.pipeline.instance, build_defs().resolve_job_def("hourly")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": f"{DAY}-01:00"})
    land(Load(START + 2 * HOUR, "load"), 1)

    assert [request.partition_key for request in ticks.tick()] == [f"{DAY}-02:00"]
    land(Load(START - 4 * HOUR, "load"), 1)
    before, after = ticks.tick()
    assert before.tags["dagster/asset_partition_range_start"] == f"{DAY - ONE_DAY}-00:00"
    assert after.partition_key == f"{DAY}-02:00"
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert ticks.tick() == []
    assert "under way" in (ticks.skipped or "")


def test_older_days_take_turns_and_recent_ones_are_looked_at_always() -> None:
    """11 years of days: each is looked at once a round, and no tick looks at more than its share."""
    today = dt.date(2026, 11, 22)
    days = [today - n * ONE_DAY for n in range(4_000, -1, -1)]
    seen: list[dt.date] = []
    cursor = None
    for _ in range(-(-3_993 // OLDER_DAYS_PER_TICK)):
        looked_at, cursor = days_to_look_at(days, today, cursor)
        assert looked_at[-8:] == days[-8:]
        assert len(looked_at) == OLDER_DAYS_PER_TICK + 8
        seen += looked_at[:-8]
    assert set(seen) == set(days[:-8])
    assert days_to_look_at([], today, None) == ([], None)
