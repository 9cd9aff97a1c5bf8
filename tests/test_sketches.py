"""Sketches on the real assets and commands: either pair, damage in the table, hours of two kinds, and what is said."""

import datetime as dt
import json
import pathlib
from collections.abc import Iterator

import click.testing
import dagster as dg
import duckdb
import polars as pl
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.cli import execute_query
from dagster_server import CHECKED, verdicts_of

from pathstats_pipeline.cli import cli
from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.stats.pairs import SketchChoice, sketch_kind
from pathstats_pipeline.storage.connect import landing_zone
from pathstats_pipeline.storage.warehouse import open_warehouse

DAY = dt.date(2026, 3, 1)
FIRST = dt.datetime(2026, 3, 1, 5)
HOURS = (FIRST, dt.datetime(2026, 3, 1, 6))
EVENTS_AN_HOUR = 1_500


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Two hours of loads in the landing zone, an empty warehouse, an instance."""
    for hour in HOURS:
        land(hour)
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def kept_instance(tmp_path: pathlib.Path) -> Iterator[dg.DagsterInstance]:
    """The same with an instance on disk, which alone can be asked for the state of checks."""
    for hour in HOURS:
        land(hour)
    with dg.DagsterInstance.local_temp(str(tmp_path), {"telemetry": {"enabled": False}}) as local:
        yield local


def land(hour: dt.datetime) -> None:
    """A load of events of three paths, the first of them above what a reservoir holds."""
    number = pl.int_range(EVENTS_AN_HOUR)
    rows = pl.select(
        event_id=pl.format(f"{hour:%H}-{{}}", number),
        event_time=pl.lit(hour, pl.Datetime("us")) + pl.duration(seconds=number),
        host=pl.lit("api.example"),
        method=pl.lit("GET"),
        path=pl.when(number % 10 == 0).then(pl.lit("/rare")).otherwise(pl.format("/users/{}", number)),
        status=pl.lit(200, pl.Int16),
        response_time_ms=(number * 7919 % EVENTS_AN_HOUR).cast(pl.Float64),
        bytes_sent=number,
        client_ip=pl.format("192.0.2.{}", number % 200),
        user_agent=pl.lit("agent"),
    )
    landing_zone(load_settings().landing_uri, lambda: pytest.fail("the landing zone is a directory")).publish(
        Load(hour, "load"), rows.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
    )


def build_hours(instance: dg.DagsterInstance, *hours: dt.datetime) -> None:
    """Load and build hours."""
    for hour in hours:
        job = build_defs().resolve_job_def("hourly")
        assert job.execute_in_process(instance=instance, partition_key=f"{hour:%Y-%m-%d-%H:00}").success


def build_day(instance: dg.DagsterInstance, *, must: bool = True) -> dg.ExecuteInProcessResult:
    """Merge the day."""
    job = build_defs().resolve_job_def("daily")
    done = job.execute_in_process(instance=instance, partition_key=str(DAY), raise_on_error=must)
    assert done.success is must
    return done


def top(*arguments: str) -> click.testing.Result:
    """Run `pathstats top`."""
    return click.testing.CliRunner().invoke(cli, ["top", *arguments])


def flip(column: str, at: int = 60) -> str:
    """Flip a byte of a state of the first hour's `/rare` in the table, through DuckDB; the row's name."""
    with duckdb.connect(str(load_settings().warehouse_path)) as connection:
        where = "WHERE hour = ? AND path = '/rare'"
        [(state,)] = connection.execute(f"SELECT {column} FROM pathstats.path_stats_hourly {where}", [FIRST]).fetchall()
        state = state[:at] + bytes([state[at] ^ 0x10]) + state[at + 1 :]
        connection.execute(f"UPDATE pathstats.path_stats_hourly SET {column} = ? {where}", [state, FIRST])
    return f"2026-03-01T05:00 GET /rare: {column}: damaged: the checksum does not match"


def daily() -> pl.DataFrame:
    """The rows of the day."""
    with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
        return warehouse.daily(Window.of_day(DAY))


def metadata_of(instance: dg.DagsterInstance, asset: str) -> dict[str, object]:
    """Metadata of an asset's newest materialisation."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def of_sketches(done: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    """The verdicts on the day's sketches in a run."""
    return [check for check in done.get_asset_check_evaluations() if check.check_name == "sketches_readable"]


@pytest.mark.parametrize("choice", list(SketchChoice))
def test_either_pair_goes_the_whole_way(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, choice: SketchChoice
) -> None:
    """Hours, day and ranking; the states, the metadata and the answer say which pair it is and how exact."""
    monkeypatch.setenv("PATHSTATS_SKETCHES", choice.value)
    build_hours(instance, *HOURS)
    done = build_day(instance)

    rows = daily()
    assert dict(rows.select("path", "requests").rows()) == {"/users/:id": 2_700, "/rare": 300}
    for column in ("latency_sketch", "visitors_sketch"):
        assert {sketch_kind(state).split(":")[0] for state in rows[column]} == {choice.value}
    assert rows["response_time_ms_p50"].to_list() == pytest.approx([750, 750], rel=0.1)
    assert dict(rows.select("path", "unique_ips").rows()) == {"/users/:id": 180, "/rare": 20}
    [check] = of_sketches(done)
    assert (check.check_name, check.passed) == ("sketches_readable", True)
    for asset in ("path_stats_hourly", "path_stats_daily"):
        facts = metadata_of(instance, asset)
        assert (facts["sketches"], facts["damaged_sketches"], facts["dropped_times"]) == (choice.value, 0, 0)
        assert "percentiles: exact in " in str(facts["exactness"])
    answer = top()
    assert answer.exit_code == 0
    flat = " ".join(answer.output.split())
    assert "3,000 requests: 3,000 with a response time" in flat
    assert "percentiles: exact in 1 of 2 rows" in flat
    assert "visitors: exact in 2 of 2 rows" in flat
    assert f"sketches: {choice.value} (" in flat


def test_json_states_the_exactness_and_csv_is_pure_data(instance: dg.DagsterInstance) -> None:
    """A program reads the one, a spreadsheet the other."""
    build_hours(instance, *HOURS)

    answer = json.loads(top("--format", "json").output)
    assert (answer["requests"], answer["rejected_share"], answer["dropped_times"]) == (3_000, 0.0, 0)
    assert answer["sketches"] == "tdigest_hll"
    assert answer["rank_error_percentage_points"] == {"p50": 0.5, "p95": 0.2, "p99": 0.1}
    assert (answer["rows_with_times"], answer["rows_with_exact_percentiles"]) == (2, 1)
    assert [path["percentiles_exact"] for path in answer["paths"]] == [False, True]
    assert [path["visitors_exact"] for path in answer["paths"]] == [True, True]
    assert [path["damaged_sketches"] for path in answer["paths"]] == [0, 0]
    lines = top("--format", "csv").output.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("path,method,requests,")


@pytest.mark.parametrize("column", ["latency_sketch", "visitors_sketch"])
def test_a_damaged_state_is_named_by_top_and_by_the_day_and_the_others_go_on(
    instance: dg.DagsterInstance, column: str
) -> None:
    """The day counts the row's requests, warns in check, metadata and log; rebuilding the hour mends it."""
    build_hours(instance, *HOURS)
    name = flip(column)

    answer = top("--format", "json")
    assert answer.exit_code == 0
    assert name in " ".join(answer.stderr.split())
    facts = json.loads(answer.stdout)
    assert (facts["requests"], facts["damaged_sketch_count"], facts["damaged_sketches"]) == (3_000, 1, [name])
    assert {row["path"]: row["damaged_sketches"] for row in facts["paths"]} == {"/users/:id": 0, "/rare": 1}
    assert "incomplete: 1 damaged sketch(es) left out" in top().stdout
    assert name in " ".join(top("--format", "csv").stderr.split())

    done = build_day(instance)
    [check] = of_sketches(done)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == name
    found = metadata_of(instance, "path_stats_daily")
    assert (found["damaged_sketches"], found["damaged"]) == (1, name)
    rows = daily()
    assert dict(rows.select("path", "requests").rows()) == {"/users/:id": 2_700, "/rare": 300}
    rare = rows.row(by_predicate=pl.col("path") == "/rare", named=True)
    assert rare["response_time_ms_count"] == (150 if column == "latency_sketch" else 300)

    build_hours(instance, FIRST)
    [check] = of_sketches(build_day(instance))
    assert check.passed
    assert metadata_of(instance, "path_stats_daily")["damaged_sketches"] == 0


def verdicts_shown(instance: dg.DagsterInstance) -> dict[str, str]:
    """What the UI shows of the check `sketches_readable`."""
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="pathstats_pipeline.definitions", attribute="defs"), location_name="pathstats"
    )
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace:
        answer = execute_query(workspace, CHECKED)
    assert "errors" not in answer, answer
    return verdicts_of(answer["data"])


def test_a_range_of_days_has_a_verdict_for_each_day(kept_instance: dg.DagsterInstance) -> None:
    """The UI shows which day of a backfill's run warns; that day alone, run again, mends its verdict."""
    build_hours(kept_instance, *HOURS)
    name = flip("latency_sketch")
    days = {
        f"dagster/asset_partition_range_{end}": day for end, day in (("start", "2026-02-28"), ("end", "2026-03-02"))
    }
    done = build_defs().resolve_job_def("daily").execute_in_process(instance=kept_instance, tags=days)

    assert done.success
    checks = {check.partition: check for check in of_sketches(done)}
    assert {day: check.passed for day, check in checks.items()} == {
        "2026-02-28": True,
        "2026-03-01": False,
        "2026-03-02": True,
    }
    warned = checks["2026-03-01"]
    assert (warned.severity, warned.description) == (dg.AssetCheckSeverity.WARN, name)
    assert {check.description for check in checks.values()} == {name, "every sketch could be read"}
    found = {
        event.partition: event.step_materialization_data.materialization.metadata
        for event in done.get_asset_materialization_events()
    }
    assert {day: facts["requests"].value for day, facts in found.items()} == {
        "2026-02-28": 0,
        "2026-03-01": 3_000,
        "2026-03-02": 0,
    }
    assert found["2026-03-01"]["damaged"].value == name
    assert verdicts_shown(kept_instance) == {
        "2026-02-28 to 2026-02-28": "SUCCEEDED",
        "2026-03-01 to 2026-03-01": "FAILED",
        "2026-03-02 to 2026-03-02": "SUCCEEDED",
        "latest": "SUCCEEDED",
    }

    build_hours(kept_instance, FIRST)
    build_day(kept_instance)
    assert verdicts_shown(kept_instance) == {"2026-02-28 to 2026-03-02": "SUCCEEDED", "latest": "SUCCEEDED"}


def test_hours_of_two_kinds_are_refused_by_the_day_and_by_top(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that names a row of each; each hour alone can still be asked for."""
    build_hours(instance, HOURS[0])
    monkeypatch.setenv("PATHSTATS_SKETCHES", "reservoir_bloom")
    build_hours(instance, HOURS[1])

    failed = build_day(instance, must=False)
    told = str(failed.filter_events(lambda event: event.is_step_failure)[0].event_specific_data)
    for part in ("2026-03-01T05:00 GET", "tdigest_hll", "2026-03-01T06:00 GET", "reservoir_bloom"):
        assert part in told
    answer = top()
    assert answer.exit_code != 0
    assert len(str(answer.exception).splitlines()) == 1
    assert "can't be merged" in str(answer.exception)
    assert top("--to", "2026-03-01T06").exit_code == 0
    assert top("--from", "2026-03-01T06").exit_code == 0


def test_the_library_check_is_a_command() -> None:
    """It prints all candidates and succeeds while ours pass."""
    done = click.testing.CliRunner().invoke(cli, ["verify-sketches"])

    assert done.exit_code == 0, done.output
    for name in ("t-digest (ours)", "HyperLogLog (ours)", "tdigest.TDigest", "datasketch.HyperLogLogPlusPlus"):
        assert name in done.output


def test_the_library_check_fails_when_ours_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and one line that says which and why."""
    monkeypatch.setattr("pathstats_pipeline.stats.candidates.TIME_LIMIT_MS", 0.0)
    done = click.testing.CliRunner().invoke(cli, ["verify-sketches"])

    assert done.exit_code == 1
    assert "Error: t-digest (ours): 100 events take" in done.output


def try_paths(*arguments: str | pathlib.Path) -> click.testing.Result:
    """Run `pathstats paths try`."""
    return click.testing.CliRunner().invoke(cli, ["paths", "try", *map(str, arguments)])


def test_paths_try_shows_what_folds_to_what(tmp_path: pathlib.Path) -> None:
    """Most frequent first, with requests and raw paths; a rules file comes first."""
    listed = tmp_path / "paths.txt"
    listed.write_text("/users/1?x=1\n/users/2\n\n/users/2\r\n/shop/shoes\n/shop/hats\n/[red]\n")
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\npattern = "/shop/.*"\ntemplate = "/shop/:thing"\n')

    done = try_paths(listed)
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines() if ":id" in line] == [
        ["│", "/users/:id", "│", "3", "│", "2", "│", "/users/2", "│"]
    ]
    assert "/[red]" in done.output
    assert "6 request(s) (paths): 5 distinct raw path(s) become 4 template(s)" in done.output
    ruled = try_paths(listed, "--rules", rules, "--limit", "1")
    assert "become 3 template(s)" in ruled.output
    assert "and 2 more template(s)" in ruled.output
    assert "/shop/:thing" not in ruled.output
    assert "/shop/:thing" in try_paths(listed, "--rules", rules).output


def test_paths_try_reads_logs_and_refuses_in_one_line(tmp_path: pathlib.Path) -> None:
    """A log in a known format counts its requests; what holds no path, or no rule, is named."""
    log = tmp_path / "access.log"
    line = '192.0.2.1 - - [01/Mar/2026:05:00:00 +0000] "GET /users/{} HTTP/1.1" 200 5'
    log.write_text("\n".join([*(line.format(number) for number in range(5)), "junk"]))
    done = try_paths(log)
    assert "5 request(s) (" in done.output
    assert "5 distinct raw path(s) become 1 template(s); 1 line(s) rejected" in done.output

    (tmp_path / "junk").write_text("junk\n")
    (tmp_path / "bad.toml").write_text("[[rule]]\n")
    for arguments, told in (
        ((tmp_path / "junk",), "no paths in it (read as unknown, 1 line(s) rejected)"),
        ((tmp_path / "none",), "No such file"),
        ((log, "--rules", tmp_path / "bad.toml"), "rule 1: a rule has a pattern and a template"),
    ):
        failed = try_paths(*arguments)
        assert failed.exit_code != 0
        assert told in str(failed.exception)
        assert len(str(failed.exception).splitlines()) == 1


def test_the_readme_lists_every_command_and_setting() -> None:
    """A command that nobody can find was not added."""
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text("utf-8")

    assert [name for name in cli.commands if f"`{name}" not in text] == []
    assert "`paths try" in text
    assert "`PATHSTATS_SKETCHES`" in text
