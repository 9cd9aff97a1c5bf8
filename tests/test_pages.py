"""What the pages of the assets show, and their checks, on a real DuckDB file and a real S3 server."""

import base64
import collections
import datetime as dt
import pathlib
from typing import Any

import dagster as dg
import duckdb
import pytest
from test_pipeline import DAY, EVENTS_AN_HOUR, OTHER_DAY, Pipeline, land, pipeline  # noqa: F401 - a fixture

from pathstats_pipeline.defs.capacity import judge_hot_store
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.space import Space

FIVE = dt.datetime(2026, 3, 1, 5)


def verdicts(run: dg.ExecuteInProcessResult, check: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """The verdicts of a check in a run, by partition."""
    return {each.partition: each for each in run.get_asset_check_evaluations() if each.check_name == check}


def figures(run: dg.ExecuteInProcessResult, asset: str) -> list[dict[str, Any]]:
    """The metadata of each materialisation of an asset in a run."""
    events = [each for each in run.get_asset_materialization_events() if each.asset_key == dg.AssetKey(asset)]
    return [{name: value.value for name, value in each.materialization.metadata.items()} for each in events]


def change(statement: str) -> None:
    """Change the warehouse behind the project's back."""
    with duckdb.connect(str(load_settings().warehouse_path)) as connection:
        connection.execute(statement)


def test_every_partition_of_a_run_has_figures_of_its_own(pipeline: Pipeline) -> None:  # noqa: F811
    """Numbers under stable names, which the UI plots over the partitions."""
    hours = pipeline.hours_of(DAY)
    daily = pipeline.run("daily", key=str(DAY))
    archive = pipeline.archive(DAY)

    shared = {"rejected_share", "duplicate_share", "rejected_lines", "seconds", "rows_per_second"}
    site = {"requests", "errors_4xx", "errors_5xx", "bytes_sent", "visitors", "p50_ms", "p95_ms", "p99_ms"}
    of_asset = {
        "raw_events": (hours, 24, shared | {"loads", "duplicates", "appended_now", "rejected_now", "bytes_now"}),
        "path_stats_hourly": (hours, 24, shared | site),
        "path_stats_daily": (daily, 1, shared | site),
        "events_archive": (archive, 1, {"bytes", "raw_bytes", "seconds", "rows_per_second"}),
        "events_cleanup": (archive, 1, {"deleted_rows", "warehouse_bytes", "seconds", "rows_per_second"}),
    }
    for asset, (run, count, names) in of_asset.items():
        found = figures(run, asset)
        assert len(found) == count
        for metadata in found:
            assert names <= {name for name, value in metadata.items() if isinstance(value, int | float)}, asset
    assert sum(each["seconds"] for each in figures(hours, "raw_events")) > 0
    assert {each["bytes_now"] > 0 for each in figures(hours, "raw_events")} == {True}


def test_a_day_has_a_picture_within_its_page_and_an_empty_one_too(pipeline: Pipeline) -> None:  # noqa: F811
    """As markdown that asks no other server; small, since it is kept for ever."""
    pipeline.hours_of(DAY)
    for day in (DAY, OTHER_DAY):  # no hour of the other day was built
        [metadata] = figures(pipeline.run("daily", key=str(day)), "path_stats_daily")
        head, _, data = metadata["picture"].removesuffix(")").partition(";base64,")
        assert head == "![response times and requests by hour](data:image/png"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert len(data) < 25_000


def test_a_healthy_day_passes_every_check_hour_by_hour(pipeline: Pipeline) -> None:  # noqa: F811
    """Each verdict names the materialisation that it judges, so that the UI counts it."""
    hours, daily = pipeline.hours_of(DAY), pipeline.run("daily", key=str(DAY))
    archive, again = pipeline.archive(DAY), pipeline.hours_of(DAY)

    keys = {f"{DAY}-{hour:02d}:00" for hour in range(24)}
    counts = collections.Counter(
        each.check_name for run in (hours, daily, archive, again) for each in run.get_asset_check_evaluations()
    )
    evaluations = [each for run in (hours, daily, archive, again) for each in run.get_asset_check_evaluations()]
    assert {each.check_name for each in evaluations if not each.passed} == set()
    assert counts == {
        "rejected_share": 48,
        "requests_sum_to_events": 48,
        "hot_store_size": 2,
        "sketches_readable": 1,
        "hours_complete": 1,
        "archive_verified": 1,
        "statistics_equal_archive": 1,
    }
    assert set(verdicts(hours, "rejected_share")) == set(verdicts(hours, "requests_sum_to_events")) == keys
    for each in evaluations:
        assert each.target_materialization_data is not None
    told = verdicts(archive, "statistics_equal_archive")[str(DAY)]
    assert told.metadata["archived_events"].value == 24 * EVENTS_AN_HOUR


def test_an_hour_with_many_rejected_lines_warns_and_stays_green(pipeline: Pipeline) -> None:  # noqa: F811
    """Only that hour, in a run over all of them."""
    folder = pathlib.Path(load_settings().landing_uri) / f"dt={DAY}" / "hour=05"
    (folder / "broken-lines.jsonl").write_text("no event\n" * 20)

    run = pipeline.hours_of(DAY)

    bad = [hour for hour, each in verdicts(run, "rejected_share").items() if not each.passed]
    assert bad == [f"{DAY}-05:00"]
    verdict = verdicts(run, "rejected_share")[bad[0]]
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert "20 of 70 lines were rejected" in (verdict.description or "")


def test_statistics_that_lost_events_are_an_error_when_looked_at_alone(pipeline: Pipeline) -> None:  # noqa: F811
    """The check can be executed for an hour without building it again."""
    pipeline.hours_of(DAY)
    change("UPDATE pathstats.path_stats_hourly SET requests = requests - 1 WHERE hour = '2026-03-01 05:00'")
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("path_stats_hourly"), "requests_sum_to_events"))
    alone = dg.define_asset_job("alone", selection=checks)

    from pathstats_pipeline.definitions import build_defs  # noqa: PLC0415 - with the settings of this test

    defs = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[alone]))
    for hour, passed in (("04", True), ("05", False)):
        run = defs.resolve_job_def("alone").execute_in_process(
            instance=pipeline.instance, tags={"dagster/partition": f"{DAY}-{hour}:00"}
        )
        [verdict] = run.get_asset_check_evaluations()
        assert (verdict.passed, verdict.severity) == (
            passed,
            dg.AssetCheckSeverity.WARN if passed else dg.AssetCheckSeverity.ERROR,
        )


def test_a_day_whose_hour_is_behind_or_not_loaded_warns(pipeline: Pipeline) -> None:  # noqa: F811
    """It names both hours; loaded and built again, the day is complete."""
    pipeline.hours_of(DAY)
    land(Load(FIVE, "late"), 7)
    land(Load(FIVE.replace(hour=9), "late"), 7)
    assert pipeline.run("hourly", ["raw_events"], key=f"{DAY}-09:00").success

    [before] = verdicts(pipeline.run("daily", key=str(DAY)), "hours_complete").values()
    pipeline.hours_of(DAY)
    [after] = verdicts(pipeline.run("daily", key=str(DAY)), "hours_complete").values()

    assert (before.passed, after.passed) == (False, True)
    assert "2026-03-01T05, 2026-03-01T09" in (before.description or "")
    assert before.severity is dg.AssetCheckSeverity.WARN


def test_statistics_that_are_not_the_archives_are_an_error_that_stops_nothing(pipeline: Pipeline) -> None:  # noqa: F811
    """Requests agree, a status class doesn't: the archive is whole, and is recorded and cleaned up all the same."""
    pipeline.hours_of(DAY)
    change("UPDATE pathstats.path_stats_hourly SET status_5xx = status_5xx + 1 WHERE hour = '2026-03-01 05:00'")

    run = pipeline.archive(DAY)

    assert run.success
    verdict = verdicts(run, "statistics_equal_archive")[str(DAY)]
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "05:00 status_5xx 6, archive 5" in (verdict.description or "")
    assert pipeline.materialized("events_cleanup") == {str(DAY)}


def test_the_size_of_the_warehouse_is_judged_by_every_run_and_its_peaks_are_remembered(
    pipeline: Pipeline,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit below the size is an error that fails no run; the last verdict carries the peak on."""
    assert pipeline.hours_of(DAY).success
    monkeypatch.setenv("PATHSTATS_HOT_STORE_LIMIT_GB", "0.0001")

    run = pipeline.hours_of(DAY)

    verdict = verdicts(run, "hot_store_size")[None]
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    size = verdict.metadata["warehouse_bytes"].value
    today = dt.datetime.now(dt.UTC).date()
    tomorrow = today + dt.timedelta(days=1)
    then = judge_hot_store(pipeline.instance, Space(1, 10**12), None, tomorrow)
    assert then.passed
    assert then.metadata["peaks_bytes"].value == {str(today): size, str(tomorrow): 1}
