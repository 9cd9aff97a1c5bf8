"""The code location as Dagster sees it: what it is called, what hangs on what, and that it loads without secrets."""

import os
import pathlib
import subprocess
import sys

import dagster as dg
import pytest

from pathstats_pipeline.definitions import defs
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.storage.tables import TABLES

KEYS = {"raw_events", "path_stats_hourly", "path_stats_daily", "events_archive", "archive_metadata", "events_cleanup"}
UPSTREAM = {
    "raw_events": set(),
    "path_stats_hourly": {"raw_events"},
    "path_stats_daily": {"path_stats_hourly"},
    "events_archive": {"raw_events"},
    "archive_metadata": {"events_archive"},
    "events_cleanup": {"events_archive"},
}


def test_asset_keys_are_those_of_the_contract() -> None:
    """Outsiders query and launch assets by these keys."""
    assert {key.to_user_string() for key in defs.resolve_all_asset_keys()} == KEYS


@pytest.mark.parametrize("key", sorted(KEYS))
def test_assets_hang_together_as_in_the_contract(key: str) -> None:
    """An edge more would make Dagster wait for, or rebuild, what it need not."""
    graph = defs.resolve_asset_graph()

    assert {parent.to_user_string() for parent in graph.get(dg.AssetKey(key)).parent_keys} == UPSTREAM[key]


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_asset_is_described_owned_and_holds_the_pool(key: str) -> None:
    """An operator reads the description; without the pool two steps would meet at the DuckDB file."""
    node = defs.resolve_asset_graph().get(dg.AssetKey(key))

    assert "**Second run**" in (node.description or "")
    assert "**Fails**" in (node.description or "")
    assert node.owners == ["team:pathstats"]
    assert node.kinds
    assert node.group_name in {"events", "statistics", "archive"}
    assert node.pools == {"duckdb"}


def test_the_archive_is_gated_by_a_blocking_check_for_each_day() -> None:
    """The check stops a run before anything downstream of the archive."""
    graph = defs.resolve_asset_graph()
    checks = {f"{key.asset_key.to_user_string()}: {key.name}": key for key in graph.asset_check_keys}

    others = {
        "raw_events: rejected_share",
        "raw_events: hot_store_size",
        "path_stats_hourly: requests_sum_to_events",
        "path_stats_daily: hours_complete",
        "path_stats_daily: sketches_readable",
        "events_archive: statistics_equal_archive",
        "raw_events: queue_backlog",
        "raw_events: consumer_heartbeat",
    }
    assert set(checks) == {"events_archive: archive_verified", *others}
    assert graph.get_check_spec(checks["events_archive: archive_verified"]).blocking
    assert not any(graph.get_check_spec(checks[name]).blocking for name in others)


@pytest.mark.parametrize("name", sorted(key.name for key in defs.resolve_asset_graph().asset_check_keys))
def test_every_check_says_what_to_do(name: str) -> None:
    """It is read by whoever is woken by it."""
    graph = defs.resolve_asset_graph()
    [description] = [graph.get_check_spec(key).description for key in graph.asset_check_keys if key.name == name]

    assert len(description or "") > 100


@pytest.mark.parametrize(
    ("asset", "table"),
    [("path_stats_hourly", "path_stats_hourly"), ("path_stats_daily", "path_stats_daily"), ("events_archive", None)],
)
def test_every_column_says_where_it_comes_from(asset: str, table: str | None) -> None:
    """But revision and computed_at, which come from nowhere; and what it names is a column upstream."""
    graph = defs.resolve_asset_graph()
    lineage = graph.get(dg.AssetKey(asset)).metadata["dagster/column_lineage"].deps_by_column
    columns = [column.name for column in TABLES[table]] if table else list(EVENT_NAMES)

    assert set(lineage) == set(columns) - {"revision", "computed_at"}
    for dep in (dep for deps in lineage.values() for dep in deps):
        schema = graph.get(dep.asset_key).metadata["dagster/column_schema"]
        assert dep.column_name in {column.name for column in schema.columns}
        assert dep.asset_key in graph.get(dg.AssetKey(asset)).parent_keys


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_page_names_the_code_and_where_the_data_is(key: str) -> None:
    """The code is a file on this machine: the project has no host of its own to link to."""
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(key)).metadata

    [reference] = metadata["dagster/code_references"].code_references
    assert pathlib.Path(reference.file_path).is_file()
    assert key == "events_cleanup" or metadata["dagster/uri"].startswith(("file:///", "s3://pathstats/archive/"))


def test_what_is_built_each_hour_or_day_has_a_policy_of_freshness() -> None:
    """Clean-up has none: a day on hold is no alarm."""
    graph = defs.resolve_asset_graph()

    assert {key for key in KEYS if graph.get(dg.AssetKey(key)).freshness_policy} == {
        "raw_events",
        "path_stats_hourly",
        "path_stats_daily",
        "events_archive",
    }


def test_hours_go_in_ranges_and_archived_days_one_by_one() -> None:
    """A range of days would lose the blocking check's verdict for each day."""
    graph = defs.resolve_asset_graph()
    policies = {key: graph.get(dg.AssetKey(key)).backfill_policy for key in KEYS}

    assert policies["raw_events"] == policies["path_stats_hourly"]
    assert {key: policy and policy.max_partitions_per_run for key, policy in policies.items()} == {
        "raw_events": 168,
        "path_stats_hourly": 168,
        "path_stats_daily": 31,
        "events_archive": None,
        "archive_metadata": None,
        "events_cleanup": None,
    }


def test_jobs_are_pinned() -> None:
    """A renamed job loses its history in the UI."""
    assert {job.name for job in defs.jobs or []} == {"hourly", "daily", "archive", "cleanup", "drain", "purge_runs"}


def test_sensors_are_pinned_and_on() -> None:
    """What comes by the queue, or late, is noticed without anybody's doing."""
    found = {sensor.name: sensor for sensor in defs.sensors or []}
    assert {name: {job.name for job in (sensor.jobs if sensor.has_jobs else [])} for name, sensor in found.items()} == {
        "due_runs": {"hourly", "daily", "archive", "cleanup"},
        "queue_messages": {"drain"},
        "alarms": set(),
    }
    assert {sensor.default_status for sensor in found.values()} == {dg.DefaultSensorStatus.RUNNING}
    assert {name: sensor.minimum_interval_seconds for name, sensor in found.items()} == {
        "due_runs": 60,
        "queue_messages": 30,
        "alarms": 60,
    }


def test_the_schedule_is_pinned_and_on() -> None:
    """Else Dagster's storage grows for ever."""
    [schedule] = defs.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.job.name, schedule.cron_schedule) == (
        "purge_runs_daily",
        "purge_runs",
        "40 3 * * *",
    )
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_a_run_of_hours_asks_nothing_of_the_queue() -> None:
    """Else `pathstats build` would need the queue, and a backfill would judge it hundreds of times."""
    assert not defs.resolve_job_def("hourly").asset_layer.asset_graph.asset_check_keys


def _load_in_a_fresh_interpreter(tmp_path: pathlib.Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PATHSTATS_"))}
    code = "import dagster, pathstats_pipeline.definitions as d; dagster.Definitions.validate_loadable(d.defs)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "HOME": str(tmp_path), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_definitions_load_in_a_fresh_interpreter_without_secrets_or_warnings(tmp_path: pathlib.Path) -> None:
    """Loading needs no server, no credentials and no state, and leaves none behind."""
    loaded = _load_in_a_fresh_interpreter(tmp_path)

    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_refused_when_the_location_loads(tmp_path: pathlib.Path) -> None:
    """The last line names the variable, the value and what is wrong with it."""
    loaded = _load_in_a_fresh_interpreter(tmp_path, PATHSTATS_HOT_DAYS="three")

    assert loaded.returncode == 1
    assert "PATHSTATS_HOT_DAYS='three'" in loaded.stderr.splitlines()[-1]


def test_the_instance_configuration_is_valid_and_limits_the_pool() -> None:
    """Dagster refuses unknown keys; the pool's limit of one is what keeps steps apart."""
    project = pathlib.Path(__file__).parents[1]
    with dg.instance_for_test(overrides=_yaml(project / "dagster.yaml")) as instance:
        concurrency = instance.get_concurrency_config()

        assert concurrency.pool_config.default_pool_limit == 1
        assert instance.run_monitoring_enabled


def _yaml(path: pathlib.Path) -> dict[str, object]:
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 - only this test reads YAML

    loaded: dict[str, object] = yaml.safe_load(path.read_text())
    return loaded
