"""The sensor of alarms on a real instance and a real webhook: each failure once, none lost, none of before."""

import dataclasses
import datetime as dt
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from commands import Nursery, Shell
from conftest import new_bucket, s3_settings
from dagster_server import serving, wait_for
from instances import BACKENDS, instance_on

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.defs import alarms as room
from pathstats_pipeline.defs.alarms import alarms
from pathstats_pipeline.settings import SettingsError, load_settings
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.webhook import WebhookError, post

SECRET = "/services/T000/B000/s3cr3t"


@dataclasses.dataclass
class Webhook:
    """A server that takes messages, or answers with something else."""

    port: int
    received: list[str] = dataclasses.field(default_factory=list)
    answers: int = 200

    @property
    def url(self) -> str:
        """Its address, with a secret in it."""
        return f"http://127.0.0.1:{self.port}{SECRET}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that takes everything."""
    found: list[Webhook] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found[0].answers == 200:
                found[0].received.append(json.loads(body)["text"])
            self.send_response(found[0].answers)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.append(Webhook(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found[0]
        server.shutdown()
        thread.join()


@dg.op
def fails() -> None:
    """Not ours."""
    raise ValueError("the disk is full")


@dg.job(name="drain")
def failing_job() -> None:
    """A run that fails."""
    fails()


@dataclasses.dataclass
class Ticks:
    """The sensor on an instance, as the daemon has it."""

    instance: dg.DagsterInstance
    cursor: str | None = None
    skipped: str = ""

    def tick(self) -> None:
        """One evaluation; the daemon keeps the cursor."""
        defs = build_defs()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=defs, resources=defs.resources
        ) as context:
            found = alarms.evaluate_tick(context)
        self.cursor, self.skipped = found.cursor, found.skip_message or ""

    def fail(self, **tags: str) -> None:
        """A run fails."""
        done = failing_job.execute_in_process(instance=self.instance, raise_on_error=False, tags=tags)
        assert not done.success

    def judge(self, check: str, *, passed: bool, partition: str | None = None) -> None:
        """A check is evaluated without a run, as sensors do."""
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("raw_events"),
                check_name=check,
                passed=passed,
                severity=dg.AssetCheckSeverity.WARN if check == "queue_backlog" else dg.AssetCheckSeverity.ERROR,
                description="7 message(s) wait",
                metadata={},
                partition=partition,
            )
        )


@pytest.fixture(params=BACKENDS)
def ticks(
    request: pytest.FixtureRequest, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Iterator[Ticks]:
    """A real instance, as of `make dev` and as of deploy/, and the webhook set."""
    monkeypatch.setenv("PATHSTATS_ALARM_WEBHOOK_URL", webhook.url)
    monkeypatch.setenv("PATHSTATS_DAGSTER_URL", "http://ui.example:3000")
    with instance_on(request.param, tmp_path / "dagster", monkeypatch) as instance:
        yield Ticks(instance)


def test_nothing_of_before_is_told_and_everything_since_once(ticks: Ticks, webhook: Webhook) -> None:
    """Runs and verdicts, with a run of their own or without; a second tick tells nothing."""
    ticks.fail()
    ticks.judge("queue_backlog", passed=False)
    ticks.tick()
    ticks.tick()
    assert webhook.received == []

    ticks.fail(**{"dagster/partition": "2026-11-20", "pathstats/reason": "late"})
    ticks.judge("consumer_heartbeat", passed=False)
    ticks.judge("consumer_heartbeat", passed=False)
    ticks.judge("queue_backlog", passed=False)
    ticks.judge("queue_backlog", passed=True)
    ticks.tick()
    heads = [text.splitlines()[0] for text in webhook.received]
    assert heads == [
        ":rotating_light: *Run failed*: drain 2026-11-20",
        ":rotating_light: *Check failed*: consumer_heartbeat of raw_events failed",
        ":warning: *Warning*: queue_backlog of raw_events failed",
        ":white_check_mark: *Resolved*: queue_backlog of raw_events is good again",
    ]
    assert "fails: ValueError: the disk is full" in webhook.received[0]
    assert "asked for: late" in webhook.received[0]
    assert "<http://ui.example:3000/runs/" in webhook.received[0]
    ticks.tick()
    assert len(webhook.received) == 4


def test_a_webhook_that_is_down_loses_no_alarm_and_doubles_none(ticks: Ticks, webhook: Webhook) -> None:
    """What it didn't take waits, in order; the tick says why, without the secret."""
    ticks.tick()
    ticks.fail()
    ticks.judge("consumer_heartbeat", passed=False)
    webhook.answers = 503
    for _ in range(3):
        ticks.tick()
        assert ticks.skipped == "sent 0 message(s); the alarm webhook at 127.0.0.1 answers 503; it is tried again"
    webhook.answers = 200
    ticks.tick()
    ticks.tick()
    assert [text.split("*")[1] for text in webhook.received] == ["Run failed", "Check failed"]
    assert SECRET not in (ticks.cursor or "")


def test_a_storm_is_few_messages_and_comes_tick_by_tick(ticks: Ticks, webhook: Webhook) -> None:
    """Runs of a job that fail one after another are one message; of twenty checks, eight a tick, each once."""
    ticks.tick()
    for _ in range(3):
        ticks.fail()
    for number in range(20):
        ticks.judge("consumer_heartbeat", passed=False, partition=f"p{number:02d}")
    sent = []
    for _ in range(4):
        ticks.tick()
        sent.append(len(webhook.received))
    assert sent == [8, 16, 21, 21]
    assert webhook.received[0].splitlines()[0].startswith(":rotating_light: *3 runs failed*: drain")
    assert len(set(webhook.received[1:])) == 20


def test_a_crash_that_dagster_tries_again_by_itself_is_not_told(ticks: Ticks, webhook: Webhook) -> None:
    """In production crashes are tried again, and what a step raises isn't; locally, as made here, nothing is."""
    ticks.tick()
    crashed = ticks.instance.create_run_for_job(failing_job)
    ticks.instance.report_run_failed(crashed)
    ticks.tick()
    assert len(webhook.received) == (0 if ticks.instance.run_retries_enabled else 1)
    webhook.received.clear()
    ticks.fail()
    ticks.tick()
    assert len(webhook.received) == 1


def test_without_a_webhook_nothing_is_called_and_later_it_begins_anew(
    ticks: Ticks, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed meanwhile isn't told when one is set."""
    ticks.tick()
    monkeypatch.delenv("PATHSTATS_ALARM_WEBHOOK_URL")
    ticks.fail()
    ticks.tick()
    assert (ticks.skipped, ticks.cursor) == ("PATHSTATS_ALARM_WEBHOOK_URL is not set", "unset")
    monkeypatch.setenv("PATHSTATS_ALARM_WEBHOOK_URL", webhook.url)
    ticks.tick()
    ticks.tick()
    assert webhook.received == []


def test_the_daemon_evaluates_it_and_the_exporter_says_so(
    tmp_path: pathlib.Path, nursery: Nursery, webhook: Webhook, s3_server: LocalS3
) -> None:
    """Under `pathstats dev`: a run of a command that fails comes by the webhook, and the ticks are told as metrics."""
    environment = {**s3_settings(s3_server, new_bucket(s3_server)), "PATHSTATS_ALARM_WEBHOOK_URL": webhook.url}
    shell = Shell(tmp_path / "home", tuple(environment.items()), nursery)
    broken = tmp_path / "home" / "landing" / "dt=2026-11-20" / "hour=05" / "broken.parquet"
    with serving(shell, tmp_path / "log"):
        ticked = 'pathstats_automation_last_tick_timestamp_seconds{sensor="alarms"}'
        wait_for("a tick", lambda: ticked in shell.ok("metrics", "--once"), 120)
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"no parquet")
        shell.refused("build", "--from", "2026-11-20T05", "--to", "2026-11-20T06")
        wait_for("the alarm", lambda: bool(webhook.received), 150)
    # Alone, or together with that which the sensor asked for.
    assert "failed*: hourly" in webhook.received[0].splitlines()[0]
    assert "broken.parquet" in webhook.received[0]
    failed = [line for line in shell.ok("metrics", "--once").splitlines() if line.startswith("pathstats_runs_failed ")]
    assert float(failed[0].split()[1]) >= 1


def test_a_server_that_never_answers_holds_a_tick_for_seconds_only() -> None:
    """And the error names its host, and no more of the URL."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}{SECRET}"
        started = dt.datetime.now(dt.UTC)
        with pytest.raises(WebhookError, match=r"^the alarm webhook at 127.0.0.1 can't be reached: timed out$"):
            post(url, {"text": "x"}, timeout_seconds=0.2)
        assert dt.datetime.now(dt.UTC) - started < dt.timedelta(seconds=5)
    with pytest.raises(WebhookError, match=r"can't be reached") as caught:
        post(url, {"text": "x"}, timeout_seconds=0.2)
    assert SECRET not in str(caught.value)
    assert room.MESSAGES_PER_TICK * 5 < 60


@pytest.mark.parametrize("value", ["", " ", "hooks.example/s3cr3t", "ftp://s3cr3t", "https://", "https://a b"])
def test_a_wrong_webhook_is_refused_without_its_secret(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """In one line that names the variable, and doesn't repeat the value."""
    monkeypatch.setenv("PATHSTATS_ALARM_WEBHOOK_URL", value)
    with pytest.raises(SettingsError, match=r"^PATHSTATS_ALARM_WEBHOOK_URL=…: (is blank|is no http or https URL)$"):
        load_settings()


def test_the_secret_stands_neither_in_settings_nor_in_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """The UI shows what resources are configured with."""
    monkeypatch.setenv("PATHSTATS_ALARM_WEBHOOK_URL", f"https://hooks.example{SECRET}")
    assert SECRET not in f"{load_settings()} {build_defs().resources}"
