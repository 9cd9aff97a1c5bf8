"""What a monitor asks for: of a real warehouse, printed, written, served; rules and docs speak of the same."""

import contextlib
import datetime as dt
import pathlib
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import dagster as dg
import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from commands import Nursery, Shell
from conftest import new_bucket, s3_settings
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickData, TickStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from prometheus_client.parser import text_string_to_metric_families

from pathstats_pipeline.alarms.metrics import METRICS, Board, Sample, of_warehouse
from pathstats_pipeline.archive.status import DayFacts, Status
from pathstats_pipeline.defs.instance_facts import facts_of
from pathstats_pipeline.metrics_command import gather
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.duck import exclusive, lock_of
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.warehouse import open_warehouse

ROOT = pathlib.Path(__file__).parents[1]
RULES = [
    rule for group in yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
NOW = dt.datetime(2026, 11, 25, 12)
LINE = '192.0.2.1 - - [20/Nov/2026:05:00:{:02d} +0000] "GET /a HTTP/1.1" 200 12 "-" "Mozilla/5.0"\n'


def values(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' format, by name and label."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            found[sample.name + "".join(f":{value}" for value in sample.labels.values())] = sample.value
    return found


@pytest.fixture
def shell(tmp_path: pathlib.Path, nursery: Nursery, s3_server: LocalS3) -> Shell:
    """A state of its own."""
    return Shell(tmp_path / "home", tuple(s3_settings(s3_server, new_bucket(s3_server)).items()), nursery)


def test_what_is_printed_written_and_served(shell: Shell, tmp_path: pathlib.Path) -> None:
    """From nothing to an archived day: every number is the warehouse's, with the time it is of."""
    assert shell.ok("metrics", "--once") == "\n"
    log = tmp_path / "access.log"
    log.write_text("".join(map(LINE.format, range(40))) + "no log line at all\n")
    shell.ok("ingest", log)
    shell.ok("build", "--from", "2026-11-20T05:00", "--to", "2026-11-20T06:00")
    found = values(shell.ok("metrics", "--once"))
    assert found["pathstats_hot_store_events"] == 40
    assert found["pathstats_days:unarchived"] == 1
    assert found["pathstats_archive_waiting_events"] == 40
    assert found["pathstats_archive_oldest_unarchived_day_timestamp_seconds"] == 1795132800
    assert found["pathstats_statistics_newest_hour_timestamp_seconds"] == 1795132800 + 5 * 3600
    assert found["pathstats_rejected_lines"] == 1
    assert found["pathstats_runs_failed"] == 0
    assert time.time() - found["pathstats_facts_timestamp_seconds:warehouse"] < 120

    shell.ok("archive", "2026-11-20")
    target = tmp_path / "textfile" / "pathstats.prom"
    target.parent.mkdir()
    shell.ok("metrics", "--textfile", target)
    found = values(target.read_text())
    assert [path.name for path in target.parent.iterdir()] == ["pathstats.prom"]
    assert target.stat().st_mode & 0o777 == 0o644
    assert found["pathstats_archive_events"] == 40
    assert found["pathstats_archive_bytes"] > 0
    assert found["pathstats_archive_oldest_unarchived_day_age_seconds"] == 0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with shell.running("metrics", "--port", str(port), "--every", "1", log=tmp_path / "log") as process:
        served = values(_get(port))
        assert served["pathstats_archive_events"] == 40
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "give one of" in shell.refused("metrics")
    assert "give one of" in shell.refused("metrics", "--once", "--port", "9000")


def _get(port: int) -> str:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())
        time.sleep(0.1)
    raise AssertionError("nobody serves")


def test_while_the_warehouse_is_busy_the_last_values_stay_with_their_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run may have it for an hour; neither waits for the other."""
    monkeypatch.setattr("pathstats_pipeline.metrics_command.LOCK_SECONDS", 0.1)
    settings, board = load_settings(), Board()
    with open_warehouse(settings.warehouse_path, lock_timeout_seconds=5):
        pass
    gather(settings, board)
    first = board.parts["warehouse"]
    with exclusive(lock_of(settings.warehouse_path), timeout_seconds=5, what="test"):
        gather(settings, board)
        gather(settings, board)
    assert board.parts["warehouse"] is first
    assert board.parts["disk"][0] > first[0]
    assert re.fullmatch(r"warehouse: .*warehouse.duckdb was in use for 0 s; gave up\n", capsys.readouterr().err)
    gather(settings, board)
    assert board.parts["warehouse"][0] > first[0]


def test_the_instance_says_when_sensors_were_evaluated_and_which_runs_failed(tmp_path: pathlib.Path) -> None:
    """A failed run of today counts; a sensor is named."""

    @dg.op
    def fails() -> None:
        raise ValueError

    @dg.job
    def failing() -> None:
        fails()

    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        failing.execute_in_process(instance=instance, raise_on_error=False)
        for at in (100.0, 200.0):
            _tick(instance, at)
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        assert {(sample.name, sample.label): sample.value for sample in facts_of(instance, now)} == {
            ("pathstats_runs_failed", ""): 1,
            ("pathstats_runs_unfinished", ""): 0,
            ("pathstats_automation_last_tick_timestamp_seconds", "due_runs"): 200,
        }


def _tick(instance: dg.DagsterInstance, at: float) -> None:
    """The daemon evaluates the sensor `due_runs`."""
    code = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="pathstats_pipeline.definitions", attribute="defs"), location_name="ours"
    )
    origin = RemoteRepositoryOrigin(code, "__repository__").get_instigator_origin("due_runs")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE)
    if not instance.all_instigator_state():
        instance.add_instigator_state(state)
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            "due_runs",
            InstigatorType.SENSOR,
            TickStatus.SKIPPED,
            at,
            selector_id=state.selector_id,
        )
    )


def test_a_file_that_was_never_loaded_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Its day is behind, and its hour ages; before, both were 0 for as long as it could not be loaded."""
    settings, board = load_settings(), Board()
    with open_warehouse(settings.warehouse_path, lock_timeout_seconds=5):
        pass
    gather(settings, board)
    before = {sample.name: sample.value for sample in board.parts["warehouse"][1] if not sample.label}
    assert before["pathstats_landing_unloaded_files"] == 0
    assert before["pathstats_landing_oldest_unloaded_hour_age_seconds"] == 0
    broken = pathlib.Path(settings.landing_uri) / "dt=2026-11-20" / "hour=05" / "broken.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"garbage")
    gather(settings, board)
    found = {sample.name: sample.value for sample in board.parts["warehouse"][1] if not sample.label}
    since = time.time() - dt.datetime(2026, 11, 20, 6, tzinfo=dt.UTC).timestamp()
    assert found["pathstats_landing_unloaded_files"] == 1
    assert found["pathstats_landing_oldest_unloaded_hour_age_seconds"] == pytest.approx(since, abs=60)
    assert found["pathstats_archive_oldest_unarchived_day_timestamp_seconds"] == 1795132800
    assert found["pathstats_archive_oldest_unarchived_day_age_seconds"] == pytest.approx(since - 18 * 3600, abs=60)
    assert capsys.readouterr().err == ""


def every_sample() -> Iterator[Sample]:
    """Of a warehouse with one of everything."""
    day = DayFacts(NOW.date() - dt.timedelta(days=1), 1, 90, 0, 10, 0, 90, 1, 50, 0, 90, 90, "why", NOW)
    archives: list[dict[str, Any]] = [{"rows": 50, "bytes": 7, "verified_at": NOW}]
    yield from of_warehouse(Status([day], 10, NOW), archives, NOW, 5)


def test_a_late_day_is_aged_and_the_rejected_share_is_of_recent_lines() -> None:
    """Twelve hours after the end of yesterday."""
    found = {sample.name: sample.value for sample in every_sample() if not sample.label}
    assert found["pathstats_archive_oldest_unarchived_day_age_seconds"] == 12 * 3600
    assert found["pathstats_archive_waiting_events"] == 40
    assert found["pathstats_rejected_ratio"] == 0.1
    assert found["pathstats_held_days"] == 1


def test_every_metric_has_a_unit_a_meaning_and_a_row_in_the_docs() -> None:
    """By Prometheus' conventions; the table is held to the code, word for word."""
    rows = dict(re.findall(r"^\| `(pathstats_\w+)`(?:\{\w+\})? \| ([^|]+) \|$", PAGE, re.MULTILINE))
    assert rows == dict(METRICS)
    for name in METRICS:
        if re.search("_(timestamp|age)(_|$)", name):
            assert name.endswith("_seconds")
        assert not name.endswith(("_total", "_count", "_sum"))
    assert {sample.name for sample in every_sample()} <= set(METRICS)


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_alarm_parses_names_metrics_that_are_there_and_has_a_runbook(rule: dict[str, Any]) -> None:
    """What it means, where to look, what to do."""
    promql_parser.parse(rule["expr"])
    named = set(re.findall(r"pathstats_\w+", rule["expr"]))
    assert named
    assert named <= set(METRICS)
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    section = PAGE.split(f"\n### {rule['alert']}\n")[1].split("\n#")[0]
    assert all(f"**{word}**" in section for word in ("Means", "Look", "Do"))


def test_every_runbook_is_of_an_alarm() -> None:
    """No section stays behind when an alarm goes."""
    assert set(re.findall(r"^### (Pathstats\w+)$", PAGE, re.MULTILINE)) == {rule["alert"] for rule in RULES}
