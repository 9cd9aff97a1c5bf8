"""The sensor of late events: what it asks for, run as it asks, leads to the next generation; and then it is quiet."""

import datetime as dt
import pathlib
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from conftest import s3_settings
from test_pipeline import DAY, EVENTS_AN_HOUR, OTHER_DAY, Pipeline, land

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.defs.sensors import FACT_TAG, OLDER_DAYS_PER_TICK, RUNS_PER_TICK, days_to_look_at, late_events
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import DAY as ONE_DAY
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse


class Ticks:
    """The sensor and the runs it asks for, on a real instance, as the daemon would have them."""

    def __init__(self, instance: dg.DagsterInstance, objects: S3Objects) -> None:
        self.pipeline = Pipeline(instance, objects)
        self.cursor: str | None = None
        self.skipped: str | None = None

    def tick(self) -> Sequence[dg.RunRequest]:
        """What the sensor asks for now."""
        defs = build_defs()
        with dg.build_sensor_context(
            instance=self.pipeline.instance, cursor=self.cursor, definitions=defs, resources=defs.resources
        ) as context:
            data = late_events.evaluate_tick(context)
        self.cursor, self.skipped = data.cursor, data.skip_message
        return data.run_requests or []

    def run(self, request: dg.RunRequest) -> bool:
        """Run what it asked for; whether it succeeded."""
        result = (
            build_defs()
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
        """Run all that is asked for, tick by tick, until nothing is; the jobs of each tick, with their partition."""
        ticks = []
        while requests := self.tick():
            assert all(self.run(request) for request in requests)
            ticks.append([f"{request.job_name} {request.partition_key or 'range'}" for request in requests])
            assert len(ticks) < 10
        return ticks

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
        land(Load(Window.of_day(DAY).start + dt.timedelta(hours=hour), "load"), EVENTS_AN_HOUR)
    with dg.DagsterInstance.local_temp() as instance:
        yield Ticks(instance, s3_objects)


def test_late_loads_of_a_cleaned_day_become_its_next_generation(ticks: Ticks) -> None:
    """M9: hours, then day and archive, each once; revision + 1; the next tick asks nothing, nor after a redelivery."""
    assert ticks.tick() == []
    assert "no warehouse" in (ticks.skipped or "")
    ticks.pipeline.hours_of(DAY)
    assert ticks.until_quiet() == [[f"daily {DAY}"]]
    assert ticks.pipeline.archive(DAY).success
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
    folder = pathlib.Path(load_settings().landing_uri) / f"dt={hour:%Y-%m-%d}" / f"hour={hour:%H}"
    land(Load(hour, "load"), EVENTS_AN_HOUR)
    (folder / "load.parquet").rename(folder / "again.parquet")


def test_a_run_that_failed_is_asked_for_again_by_a_new_fact_only(ticks: Ticks) -> None:
    """A broken file asks once, and again with the next file beside it; others are loaded, and asked for as ever."""
    ticks.pipeline.hours_of(DAY)
    ticks.until_quiet()
    folder = pathlib.Path(load_settings().landing_uri) / f"dt={DAY}" / "hour=05"
    (folder / "broken.parquet").write_bytes(b"garbage")

    [request] = ticks.tick()
    assert not ticks.run(request)
    assert ticks.tick() == []
    assert "asked for before" in (ticks.skipped or "")
    land(Load(dt.datetime(2026, 3, 1, 5), "more"), 9)
    [again] = ticks.tick()
    assert again.run_key != request.run_key
    assert not ticks.run(again)
    assert [each.job_name for each in ticks.tick()] in ([], ["hourly"])
    land(Load(dt.datetime(2026, 3, 2, 7), "other"), 9)
    assert [each.partition_key for each in ticks.tick() if each.run_key != again.run_key][-1:] == [f"{OTHER_DAY}-07:00"]


def test_a_tick_asks_for_a_bounded_number_of_runs_and_gives_way(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 gaps make 8 runs; a run that is under way, a busy warehouse, and S3 that is down make it skip, not fail."""
    ticks.pipeline.hours_of(DAY)
    ticks.until_quiet()
    for day in range(2, 12):
        for hour in (1, 2, 9):
            land(Load(dt.datetime(2026, 3, day, hour), "late"), 1)
    land(Load(dt.datetime.now(dt.UTC).replace(tzinfo=None, minute=0, second=0, microsecond=0), "now"), 0)
    land(Load(dt.datetime(2011, 3, 1, 5), "before any partition"), 0)

    asked = ticks.tick()

    assert len(asked) == RUNS_PER_TICK
    assert len({request.tags[FACT_TAG] for request in asked}) == RUNS_PER_TICK
    ranges = [request.tags for request in asked if request.partition_key is None]
    assert ranges[0]["dagster/asset_partition_range_start"] == "2026-03-02-01:00"
    assert ranges[0]["dagster/asset_partition_range_end"] == "2026-03-02-02:00"
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
    job = build_defs().resolve_job_def("hourly")
    ticks.pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert ticks.tick() == []
    assert "is not finished yet" in (ticks.skipped or "")


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
