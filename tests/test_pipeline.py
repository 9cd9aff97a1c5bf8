"""The assets on a real DuckDB file and a real S3 server: archive, gate, clean-up, late loads, and S3 gone."""

import dataclasses
import datetime as dt
import gzip
import hashlib
import json
import pathlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl
import pytest
from conftest import s3_client_of
from landed import land_at

from pathstats_pipeline.archive.day import manifests_of
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse

DAY = dt.date(2026, 3, 1)
OTHER_DAY = dt.date(2026, 3, 2)
EVENTS_AN_HOUR = 50
DOWNSTREAM = ("archive_metadata", "events_cleanup")


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """The project's definitions with state of their own, and an instance to run them on."""

    instance: dg.DagsterInstance
    objects: S3Objects

    def run(self, job: str, assets: Sequence[str] = (), **partition: str) -> dg.ExecuteInProcessResult:
        """Run a job, or some of its assets, for a partition (`key=`) or a range of them (`start=`, `end=`)."""
        tags = {f"dagster/asset_partition_range_{end}": partition[end] for end in ("start", "end") if end in partition}
        return (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                partition_key=partition.get("key"),
                tags=tags,
                asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
                raise_on_error=False,
            )
        )

    def hours_of(self, *days: dt.date) -> dg.ExecuteInProcessResult:
        """Load and build all hours of consecutive days in one run."""
        done = self.run("hourly", start=f"{days[0]}-00:00", end=f"{days[-1]}-23:00")
        assert done.success
        return done

    def archive(self, day: dt.date, *assets: str) -> dg.ExecuteInProcessResult:
        """Run the archive's assets of a day, or some of them."""
        return self.run("archive", assets, key=str(day))

    def materialized(self, asset: str) -> set[str]:
        """The partitions of an asset that are materialised."""
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def events(self, day: dt.date) -> int:
        """Events of a day in the warehouse."""
        with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
            return len(warehouse.read_events(Window.of_day(day), ["event_id"]))

    def statistics(self, day: dt.date) -> pl.DataFrame:
        """The hourly statistics of a day, without what a rebuild changes."""
        with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
            return warehouse.hourly(Window.of_day(day)).drop("revision", "computed_at")

    def manifests(self, day: dt.date) -> list[Manifest]:
        """The manifests of a day on S3."""
        return manifests_of(self.objects, day)


@pytest.fixture
def pipeline(s3_server: LocalS3, s3_objects: S3Objects, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """Two days of loads in the landing zone, an empty warehouse, an empty bucket."""
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", s3_server.endpoint_url)
    monkeypatch.setenv("PATHSTATS_S3_BUCKET", s3_objects.bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.credentials.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for day in (DAY, OTHER_DAY):
        for hour in Window.of_day(day).hours():
            land(Load(hour, f"load-{hour:%H}"), EVENTS_AN_HOUR)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Pipeline(instance, s3_objects)


def land(load: Load, count: int) -> None:
    """Put a load of so many events into the landing zone of the settings."""
    land_at(load_settings().landing_uri, load, count)


@pytest.mark.parametrize(("threshold_mb", "strategy"), [("100", "single_put"), ("0", "multipart")])
def test_a_day_archived_with_either_strategy_reads_back_and_cleans_up(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, threshold_mb: str, strategy: str
) -> None:
    """The object is what the manifest says to zcat, to a strict JSON parser and to sha256; other days stay."""
    monkeypatch.setenv("PATHSTATS_ARCHIVE_MULTIPART_MB", threshold_mb)
    pipeline.hours_of(DAY, OTHER_DAY)
    expected = 24 * EVENTS_AN_HOUR

    assert pipeline.archive(DAY).success

    [manifest] = pipeline.manifests(DAY)
    assert (manifest.strategy.value, manifest.rows, manifest.generation) == (strategy, expected, 1)
    compressed = pipeline.objects.get(manifest.key)
    assert compressed is not None
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(compressed)
    assert (manifest.size_bytes, manifest.sha256) == (len(compressed), hashlib.sha256(compressed).hexdigest())
    text = subprocess.run(["zcat", path], capture_output=True, check=True).stdout  # noqa: S607 - the tool users have
    assert (text, len(text)) == (gzip.decompress(compressed), manifest.raw_bytes)
    records = [json.loads(line, parse_constant=_no_constants) for line in text.splitlines(keepends=False)]
    assert [text.count(b"\n"), len(records)] == [expected, expected]
    assert {tuple(record) for record in records} == {EVENT_NAMES}
    assert all(record["event_time"].endswith("Z") and len(record["event_time"]) == 27 for record in records)
    assert (pipeline.events(DAY), pipeline.events(OTHER_DAY)) == (0, expected)
    assert pipeline.materialized("events_cleanup") == {str(DAY)}


def _no_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_a_second_run_of_everything_changes_nothing(pipeline: Pipeline) -> None:
    """Objects, manifests and statistics are the same bytes; clean-up finds nothing to delete."""
    pipeline.hours_of(DAY)
    pipeline.archive(DAY)
    keys = pipeline.objects.list("")
    before = [(key, pipeline.objects.get(key)) for key in keys], pipeline.statistics(DAY)

    pipeline.hours_of(DAY)
    assert pipeline.archive(DAY).success

    assert before[0] == [(key, pipeline.objects.get(key)) for key in pipeline.objects.list("")]
    assert before[1].equals(pipeline.statistics(DAY))
    assert pipeline.events(DAY) == 0


def test_late_loads_become_the_next_generation_and_count_once(pipeline: Pipeline) -> None:
    """A load that comes after clean-up gets its own object; statistics then count both, once each."""
    pipeline.hours_of(DAY)
    pipeline.archive(DAY)
    first = pipeline.manifests(DAY)
    land(Load(dt.datetime(2026, 3, 1, 5), "late"), 7)

    pipeline.hours_of(DAY)
    assert pipeline.archive(DAY).success

    generations = pipeline.manifests(DAY)
    assert generations[:1] == first
    assert [(each.generation, each.rows) for each in generations] == [(1, 24 * EVENTS_AN_HOUR), (2, 7)]
    assert generations[1].loads == (Load(dt.datetime(2026, 3, 1, 5), "late"),)
    assert pipeline.statistics(DAY)["requests"].sum() == 24 * EVENTS_AN_HOUR + 7
    assert pipeline.events(DAY) == 0


def test_events_of_a_cleaned_day_that_come_again_wait_for_s3_and_create_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M11: with S3 down the asset fails and names the file, which stays; then its events are duplicates, but one."""
    pipeline.hours_of(DAY)
    pipeline.archive(DAY)
    five = dt.datetime(2026, 3, 1, 5)
    land(Load(five, "load-05"), EVENTS_AN_HOUR + 1)
    folder = pathlib.Path(load_settings().landing_uri) / f"dt={DAY}" / "hour=05"
    again = (folder / "load-05.parquet").rename(folder / "again.parquet")
    endpoint = load_settings().s3_endpoint_url or ""
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", "http://127.0.0.1:9")

    failed = pipeline.run("hourly", ["raw_events"], key=f"{DAY}-05:00")
    [failure] = [event for event in failed.all_events if event.is_step_failure]

    assert not failed.success
    assert "again.parquet: not loaded" in str(failure.step_failure_data.error)
    assert again.exists()
    assert pipeline.events(DAY) == 0
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", endpoint)
    pipeline.hours_of(DAY)
    assert pipeline.events(DAY) == 1
    assert pipeline.archive(DAY).success
    assert [each.rows for each in pipeline.manifests(DAY)] == [24 * EVENTS_AN_HOUR, 1]
    assert pipeline.statistics(DAY)["requests"].sum() == 24 * EVENTS_AN_HOUR + 1


def test_with_s3_down_nothing_downstream_materialises_and_nothing_is_deleted(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the archive's run nor when metadata or clean-up are launched alone."""
    pipeline.hours_of(DAY)
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", "http://127.0.0.1:9")

    together = pipeline.archive(DAY)
    alone = [pipeline.archive(DAY, asset) for asset in DOWNSTREAM]

    assert [run.success for run in [together, *alone]] == [False, False, False]
    assert [pipeline.materialized(asset) for asset in ("events_archive", *DOWNSTREAM)] == [set(), set(), set()]
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_with_s3_down_after_archiving_clean_up_deletes_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a day was archived once is no proof: its object must be readable now."""
    pipeline.hours_of(DAY)
    assert pipeline.archive(DAY, "events_archive").success
    monkeypatch.setenv("PATHSTATS_S3_ENDPOINT_URL", "http://127.0.0.1:9")

    assert not pipeline.archive(DAY, "events_cleanup").success
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


@pytest.mark.parametrize("asset", DOWNSTREAM)
def test_launched_alone_for_a_day_that_was_never_archived_they_fail(pipeline: Pipeline, asset: str) -> None:
    """Dagster would run them; the data say no."""
    pipeline.hours_of(DAY)

    assert not pipeline.archive(DAY, asset).success
    assert pipeline.materialized(asset) == set()
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_a_damaged_object_fails_the_check_and_stops_everything_downstream(pipeline: Pipeline) -> None:
    """One flipped bit in the bucket: the check fails, its run fails, nothing is recorded or deleted."""
    pipeline.hours_of(DAY)
    assert pipeline.archive(DAY, "events_archive").success
    [manifest] = pipeline.manifests(DAY)
    body = bytearray(pipeline.objects.get(manifest.key) or b"")
    body[len(body) // 2] ^= 1
    pipeline.objects.client.put_object(
        Bucket=pipeline.objects.bucket, Key=f"{pipeline.objects.prefix}/{manifest.key}", Body=bytes(body)
    )

    run = pipeline.archive(DAY)

    [check] = [each for each in run.get_asset_check_evaluations() if each.check_name == "archive_verified"]
    assert (check.check_name, check.passed, check.partition) == ("archive_verified", False, str(DAY))
    assert manifest.key in (check.description or "")
    assert not run.success
    assert all(not pipeline.archive(DAY, asset).success for asset in DOWNSTREAM)
    assert [pipeline.materialized(asset) for asset in DOWNSTREAM] == [set(), set()]
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_a_day_within_the_hot_window_is_archived_and_left_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clean-up then succeeds without materialising, and its partition says why: the day is still to be cleaned."""
    monkeypatch.setenv("PATHSTATS_HOT_DAYS", "3650")
    pipeline.hours_of(DAY)

    run = pipeline.archive(DAY)
    assert run.success
    [figures] = run.asset_materializations_for_node("archive_metadata")
    assert figures.metadata["deletable_from"].value == f"{DAY + dt.timedelta(days=3650)} 00:00 UTC"
    assert pipeline.materialized("archive_metadata") == {str(DAY)}
    assert pipeline.materialized("events_cleanup") == set()
    [told] = pipeline.instance.fetch_observations(dg.AssetKey("events_cleanup"), limit=2).records
    assert told.partition_key == str(DAY)
    assert told.asset_observation is not None
    assert "hot window" in str(told.asset_observation.metadata["nothing_deleted"].value)
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_clean_up_waits_for_the_statistics(pipeline: Pipeline) -> None:
    """Events whose hours were never built are not deleted, archived or not."""
    assert pipeline.run("hourly", ["raw_events"], start=f"{DAY}-00:00", end=f"{DAY}-23:00").success

    assert pipeline.archive(DAY, "events_archive").success
    assert not pipeline.archive(DAY, "events_cleanup").success
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_a_day_without_events_makes_no_object_and_says_so(pipeline: Pipeline) -> None:
    """An empty day materialises, so that it doesn't look late for ever."""
    empty = dt.date(2026, 3, 5)
    pipeline.hours_of(empty)

    run = pipeline.archive(empty)

    assert run.success
    assert pipeline.objects.list("") == []
    [event] = [
        event for event in run.get_asset_materialization_events() if event.asset_key == dg.AssetKey("events_archive")
    ]
    assert event.materialization.metadata["note"].value == "no events, no object"


def test_the_current_day_is_not_archived(pipeline: Pipeline) -> None:
    """A day that isn't over has no partition, so its archive can't be launched."""
    today = dt.datetime.now(dt.UTC).date()

    with pytest.raises(dg.DagsterUnknownPartitionError):
        pipeline.archive(today)


def test_statistics_of_a_cleaned_day_are_rebuilt_from_the_archive(pipeline: Pipeline) -> None:
    """The same rows, sketch bytes included, with no event left in the warehouse."""
    pipeline.hours_of(DAY)
    before = pipeline.statistics(DAY)
    assert pipeline.archive(DAY).success
    assert pipeline.events(DAY) == 0

    pipeline.hours_of(DAY)

    assert before.equals(pipeline.statistics(DAY))


def test_materialisations_carry_figures_and_a_table_of_top_paths(pipeline: Pipeline) -> None:
    """Each hour of a range run has its own numbers, not the range's."""
    run = pipeline.hours_of(DAY)

    events = [e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey("path_stats_hourly")]
    assert len(events) == 24
    for event in events:
        metadata: Any = event.materialization.metadata
        assert metadata["requests"].value == EVENTS_AN_HOUR
        assert metadata["top_paths"].records[0].data["path"] == "/users/:id"
        assert metadata["dagster/partition_row_count"].value == 1


def test_an_unreadable_file_fails_its_hour_and_loads_the_others(pipeline: Pipeline) -> None:
    """The failure names the file; what could be read is in the warehouse."""
    hour = dt.datetime(2026, 3, 1, 4)
    folder = pathlib.Path(load_settings().landing_uri) / f"dt={DAY}" / f"hour={hour:%H}"
    (folder / "broken.parquet").write_bytes(b"not parquet")

    run = pipeline.run("hourly", start=f"{DAY}-00:00", end=f"{DAY}-23:00")

    assert not run.success
    [failure] = [event for event in run.all_events if event.is_step_failure]
    assert "broken.parquet" in str(failure.step_failure_data.error)
    assert pipeline.events(DAY) == 24 * EVENTS_AN_HOUR


def test_the_real_client_is_used(pipeline: Pipeline, s3_server: LocalS3) -> None:
    """The objects that the assets wrote are in the bucket of the server that the settings name."""
    pipeline.hours_of(DAY)
    pipeline.archive(DAY)

    listed = s3_client_of(s3_server).list_objects_v2(Bucket=pipeline.objects.bucket)["Contents"]
    assert {found["Key"].split("/")[1] for found in listed} == {"claims", "events", "metadata"}
