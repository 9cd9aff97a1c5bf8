"""The queue in Dagster, on a real SQS server and a real instance: what its sensor asks for and tells, and the drain."""

import dataclasses
import datetime as dt
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest
from clocks import SetClock
from queueing import HOUR, NOWHERE, event_lines, new_queue, queue_settings
from test_pipeline import land

from pathstats_pipeline.definitions import build_defs
from pathstats_pipeline.defs.queue import consumer_heartbeat, cursor_of, queue_backlog, queue_messages
from pathstats_pipeline.defs.sensors import due_runs
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import Window, naive_utc
from pathstats_pipeline.intake import drains
from pathstats_pipeline.intake.consumer import DrainReport
from pathstats_pipeline.intake.drains import Drain, Verdict
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.storage.connect import landing_zone
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.queue import Depth, SqsQueue
from pathstats_pipeline.storage.warehouse import open_warehouse

PARTITION = f"{HOUR:%Y-%m-%d-%H}:00"
_RANGE_END = "dagster/asset_partition_range_end"
WELL = {"queue_backlog": True, "consumer_heartbeat": True}


@dataclasses.dataclass
class Ticks:
    """The sensors and the runs that they ask for, on a real instance, as the daemon would have them."""

    instance: dg.DagsterInstance
    queue: SqsQueue
    letters: SqsQueue
    cursor: str | None = None
    skipped: str | None = None
    told: Sequence[Any] = ()
    now: dt.datetime | None = None
    """None: the real time."""

    def tick(self) -> list[str | None]:
        """The jobs that the queue's sensor asks for now, after what it told and whether it skipped is kept."""
        data = self._evaluate(queue_messages, self.cursor)
        if data.cursor:
            self.cursor = data.cursor
        self.skipped, self.told = data.skip_message, data.asset_events
        return [queue_messages.job.name for _ in data.run_requests or []]

    def due(self) -> list[tuple[str | None, dict[str, str]]]:
        """The runs that end with `HOUR` that automation asks for now: their partition (a range has none) and tags."""
        data = self._evaluate(due_runs, None)
        self.skipped = data.skip_message
        requests = data.run_requests or []
        last = {request.partition_key or request.tags[_RANGE_END]: request for request in requests}
        return [(request.partition_key, dict(request.tags)) for key, request in last.items() if key == PARTITION]

    def _evaluate(self, sensor: dg.SensorDefinition, cursor: str | None) -> Any:
        defs = build_defs(**({"clock": SetClock(at=self.now.isoformat())} if self.now else {}))
        with dg.build_sensor_context(
            instance=self.instance, cursor=cursor, definitions=defs, resources=defs.resources
        ) as context:
            return sensor.evaluate_tick(context)

    def run(self, job: str, **partition: Any) -> dg.ExecuteInProcessResult:
        """Run a job to its end, whatever that is."""
        return (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(instance=self.instance, raise_on_error=False, **partition)
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers of the observation that was told."""
        [observation] = [each for each in self.told if isinstance(each, dg.AssetObservation)]
        return {name: value.value for name, value in observation.metadata.items()}

    @property
    def verdicts(self) -> dict[str, bool]:
        """The verdicts that were told."""
        return {each.check_name: each.passed for each in self.told if isinstance(each, dg.AssetCheckEvaluation)}

    def executed(self) -> dict[str, tuple[bool, str | None, dg.AssetCheckSeverity]]:
        """The verdicts of both checks, executed as the UI's button does."""
        checks = dg.define_asset_job("checks", dg.AssetSelection.checks(queue_backlog, consumer_heartbeat))
        both = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[checks]))
        done = both.resolve_job_def("checks").execute_in_process(instance=self.instance, raise_on_error=False)
        assert done.success
        found = done.get_asset_check_evaluations()
        return {each.check_name: (each.passed, each.description, each.severity) for each in found}


@pytest.fixture
def ticks(other_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    """An empty queue and its dead letters, an empty landing zone, an instance on SQLite; S3 isn't there."""
    queue, letters = new_queue(other_s3_server), new_queue(other_s3_server)
    for name, value in queue_settings(queue, letters).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.local_temp() as instance:
        yield Ticks(instance, queue, letters)


def landing() -> Landing:
    """The landing zone of the settings."""
    return landing_zone(load_settings().landing_uri, lambda: pytest.fail("the landing zone is a directory"))


def now() -> dt.datetime:
    """The clock, as naive UTC."""
    return naive_utc(dt.datetime.now(dt.UTC))


def test_where_there_is_no_queue_it_skips_and_the_checks_pass(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Nothing is started, and nothing is written."""
    for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "ENDPOINT_URL"):
        monkeypatch.delenv(f"PATHSTATS_SQS_{name}")
    assert ticks.tick() == []
    assert "PATHSTATS_SQS_QUEUE_URL is not set, and the local one never ran" in (ticks.skipped or "")
    assert ticks.told == []
    assert {name: verdict[0] for name, verdict in ticks.executed().items()} == WELL
    assert not (tmp_path / "home").exists()


def test_messages_are_drained_and_their_hours_loaded(ticks: Ticks) -> None:
    """One run is asked for; what it brought is in the landing zone, then in the warehouse; a second run brings none."""
    for count in (3, 4):
        ticks.queue.send(event_lines(count))
    assert ticks.tick() == ["drain"]

    assert ticks.run("drain").success
    assert ticks.tick() == []
    assert ticks.skipped == "0 message(s) wait"
    assert ticks.queue.depth() == Depth(0, 0, 0)
    before = landing().loads(HOUR.date())
    again = ticks.run("drain")

    assert again.success
    assert len(before) == 1
    assert landing().loads(HOUR.date()) == before
    assert ticks.run("hourly", partition_key=PARTITION).success
    with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
        assert len(warehouse.read_events(Window.of_hour(HOUR), ["event_id"])) == 7
        assert warehouse.hourly(Window.of_hour(HOUR))["requests"].sum() == 7
    [second, first] = ticks.instance.fetch_observations(dg.AssetKey("raw_events"), limit=10).records
    observed = first.asset_observation
    assert observed is not None
    metadata = {name: value.value for name, value in observed.metadata.items()}
    assert metadata["queue"] == ticks.queue.url
    assert {name: metadata[name] for name in ("received", "acknowledged", "stored", "dead", "loads_in_hours")} == {
        "received": 2,
        "acknowledged": 2,
        "stored": 7,
        "dead": 0,
        "loads_in_hours": 1,
    }
    assert second.asset_observation
    assert second.asset_observation.metadata["received"].value == 0


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_one_drain_is_under_way_at_a_time(ticks: Ticks, status: dg.DagsterRunStatus) -> None:
    """While one waits or runs none is asked for, and that is said; when it has ended, whatever came of it, one is."""
    ticks.queue.send(event_lines(1))
    run = ticks.instance.create_run_for_job(build_defs().resolve_job_def("drain"), status=status)

    assert ticks.tick() == []
    assert ticks.skipped == "1 message(s) wait, a drain is under way"

    ticks.instance.report_run_failed(run)
    assert ticks.tick() == ["drain"]


def test_what_is_told_is_told_once(ticks: Ticks) -> None:
    """The depth and both verdicts: of an empty queue, when messages come, when they are gone; and not between."""
    assert ticks.tick() == []
    assert (ticks.facts["queue_waiting"], ticks.verdicts) == (0, WELL)
    ticks.tick()
    assert ticks.told == []

    ticks.queue.send(event_lines(2))
    ticks.letters.send("dead")
    ticks.tick()
    assert {**ticks.facts} == {"queue_waiting": 1, "queue_hidden": 0, "queue_dead_letters": 1}
    assert ticks.verdicts == WELL

    assert ticks.run("drain").success
    ticks.tick()
    assert ticks.verdicts == WELL
    assert (ticks.facts["last_drain_received"], ticks.facts["last_drain_stored"]) == (1, 2)
    ticks.tick()
    assert ticks.told == []


def test_the_cursor_changes_with_what_is_worth_telling() -> None:
    """Another verdict, an empty queue or one no longer empty, and every ten minutes while messages are in it."""
    good = {"a": Verdict(passed=True, reason="1")}
    time = dt.datetime(2026, 3, 1, 5, 10)
    some = Depth(1, 0, 0)
    same = cursor_of(good, some, time)

    assert cursor_of({"a": Verdict(passed=True, reason="2")}, Depth(70, 3, 0), time + dt.timedelta(minutes=9)) == same
    assert cursor_of(good, some, time + dt.timedelta(minutes=10)) != same
    assert cursor_of({"a": Verdict(passed=False, reason="1")}, some, time) != same
    assert cursor_of(good, Depth(0, 1, 0), time) == same
    empty = cursor_of(good, Depth(0, 0, 0), time)
    assert empty != same
    assert cursor_of(good, Depth(0, 0, 0), time + dt.timedelta(days=1)) == empty


def test_the_verdicts_are_the_same_by_the_sensor_and_by_the_checks(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many wait: a warning. They wait, and nobody drained for long, or ever: an error, until somebody drains."""
    monkeypatch.setenv("PATHSTATS_SQS_BACKLOG_MESSAGES", "1")
    for _ in range(2):
        ticks.queue.send(event_lines(1))

    def judged() -> dict[str, tuple[bool, str | None]]:
        ticks.cursor = None
        ticks.tick()
        executed = ticks.executed()
        told = [each for each in ticks.told if isinstance(each, dg.AssetCheckEvaluation)]
        assert {each.check_name: (each.passed, each.description, each.severity) for each in told} == executed
        assert {name: severity for name, (_, _, severity) in executed.items()} == {
            "queue_backlog": dg.AssetCheckSeverity.WARN,
            "consumer_heartbeat": dg.AssetCheckSeverity.ERROR,
        }
        return {name: (passed, reason) for name, (passed, reason, _) in executed.items()}

    many = (False, "2 message(s) wait; more than 1 are an alarm")
    assert judged() == {
        "queue_backlog": many,
        "consumer_heartbeat": (True, "2 message(s) wait; no drain yet, for 0 minute(s)"),
    }
    landing().objects.delete("_queue/waiting-since")
    drains.waiting_since(landing(), now() - dt.timedelta(minutes=16))
    assert judged()["consumer_heartbeat"] == (False, "2 message(s) wait; no drain yet, for 16 minute(s)")
    long_ago, soon = now() - dt.timedelta(minutes=16), now()
    drains.record(landing(), Drain.of(DrainReport(), long_ago, long_ago))
    assert judged() == {
        "queue_backlog": many,
        "consumer_heartbeat": (False, "2 message(s) wait; the last drain ended 16 minute(s) ago"),
    }
    drains.record(landing(), Drain.of(DrainReport(), soon, soon))
    found = judged()
    assert (found["queue_backlog"], found["consumer_heartbeat"][0]) == (many, True)
    assert ticks.run("drain").success
    assert {name: passed for name, (passed, _) in judged().items()} == WELL


def test_a_queue_that_cannot_be_asked_is_one_line_and_fails_no_other_run(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor skips with it, both checks fail with it, a drain's run fails, and hours are loaded all the same."""
    monkeypatch.setenv("PATHSTATS_SQS_ENDPOINT_URL", NOWHERE)
    land(Load(HOUR, "load"), 5)

    assert ticks.tick() == []
    skipped = ticks.skipped or ""
    assert skipped.startswith(f"cannot ask for the depth of queue {ticks.queue.url}: ")
    assert len(skipped.splitlines()) == 1
    assert {(passed, reason) for passed, reason, _ in ticks.executed().values()} == {(False, skipped)}
    assert not ticks.run("drain").success
    assert ticks.run("hourly", partition_key=PARTITION).success


@pytest.mark.parametrize("state", ['{"ports": {"sqs.port": 9}, "pid": null}', "damaged"])
def test_a_local_server_that_was_stopped_is_one_line_too(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """It ran once and doesn't any more, or its state can't be read: skipped, and no tick fails."""
    for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "ENDPOINT_URL"):
        monkeypatch.delenv(f"PATHSTATS_SQS_{name}")
    server = LocalSqs(load_settings().local_sqs_directory)
    server.directory.mkdir(parents=True)
    server._state_path.write_text(state)

    assert ticks.tick() == []
    assert ("is damaged" if state == "damaged" else "can't be created") in (ticks.skipped or "")
    assert {verdict[0] for verdict in ticks.executed().values()} == {False}


def test_without_a_region_it_skips(ticks: Ticks, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """AWS's own settings are told of like the queue itself."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert ticks.tick() == []
    assert "region" in (ticks.skipped or "")


def test_what_cannot_be_kept_fails_the_drain_and_stays_in_the_queue(ticks: Ticks) -> None:
    """The run says why; it is recorded all the same, and nothing is deleted."""
    root = pathlib.Path(load_settings().landing_uri)
    root.mkdir(parents=True)
    (root / f"dt={HOUR:%Y-%m-%d}").write_text("in the way")
    ticks.queue.send(event_lines(3))

    done = ticks.run("drain")

    assert not done.success
    [failure] = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    assert failure.error
    assert "Not a directory" in str(failure.user_failure_data and failure.user_failure_data.description)
    last = drains.last_drain(landing())
    assert last
    assert (last.received, last.acknowledged, last.retried) == (1, 0, 1)
    assert ticks.queue.depth() == Depth(0, 1, 0)


def test_automation_is_not_held_up_by_a_drain(ticks: Ticks) -> None:
    """A drain may be under way all day: it builds nothing. Any other run of the hour is waited for, beside drains."""
    ticks.now = HOUR + dt.timedelta(minutes=30)
    land(Load(HOUR, "load"), 5)
    assert ticks.run("hourly", partition_key=PARTITION).success
    land(Load(HOUR, "late"), 5)
    drain = build_defs().resolve_job_def("drain")
    for status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED):
        ticks.instance.create_run_for_job(drain, status=status)

    assert [partition for partition, _ in ticks.due()] == [PARTITION]

    other = build_defs().resolve_job_def("hourly")
    tags = {"dagster/partition": PARTITION}
    ticks.instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED, tags=tags)
    ticks.instance.create_run_for_job(drain, status=dg.DagsterRunStatus.STARTED)
    assert ticks.due() == []


def test_the_hour_that_fills_is_asked_for_once_in_five_minutes(ticks: Ticks) -> None:
    """Files that come to it within five minutes wait for their end; then they are loaded in one run."""
    land(Load(HOUR, "load 0"), 5)
    assert ticks.run("hourly", partition_key=PARTITION).success
    asked = []
    for minute in (12, 13, 15, 19, 20, 21):
        ticks.now = HOUR + dt.timedelta(minutes=minute)
        land(Load(HOUR, f"load {minute}"), 5)
        for partition, tags in ticks.due():
            asked.append(minute)
            assert ticks.run("hourly", partition_key=partition, tags=tags).success
    assert asked == [12, 15, 20]

    ticks.now = HOUR + dt.timedelta(minutes=62)
    [(partition, tags)] = ticks.due()
    assert "1 file(s) that the ledger doesn't know" in tags["pathstats/reason"]
    assert ticks.run("hourly", partition_key=partition, tags=tags).success
    with open_warehouse(load_settings().warehouse_path, lock_timeout_seconds=10) as warehouse:
        assert warehouse.hourly(Window.of_hour(HOUR))["requests"].sum() == 7 * 5
