"""The sensor that tells people of runs and checks that failed, by a webhook. What is told stands in alarms/.

It reads the event log behind a cursor, and moves the cursor past what the webhook has taken. Dagster's own
`run_failure_sensor` moves on when its body fails, and so would lose an alarm to a webhook that is down; an asset sensor
sees the last of several evaluations only.
"""

import dataclasses
import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import dagster as dg

# Not public: `instance.get_event_records` is refused a plain cursor on SQLite, whose index of checks this reads as on
# PostgreSQL. Exit: a `fetch_asset_check_evaluations`.
from dagster._core.event_api import EventRecordsFilter
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.tags import WILL_RETRY_TAG

from pathstats_pipeline.alarms import messages
from pathstats_pipeline.alarms.judging import Verdict, judge
from pathstats_pipeline.alarms.messages import FailedRun, Message
from pathstats_pipeline.defs.resources import AlarmWebhook
from pathstats_pipeline.events.window import from_rfc3339, naive_utc, rfc3339
from pathstats_pipeline.storage.webhook import WebhookError

INTERVAL_SECONDS: Final = 60
MESSAGES_PER_TICK: Final = 8
"""What is over comes in the next tick: a webhook of Slack takes one a second, and a tick has a minute."""
EVENTS_PER_TICK: Final = 500
_FAILURE: Final = dg.DagsterEventType.RUN_FAILURE
_UNSET: Final = "unset"
"""A cursor that says nothing; Dagster takes an empty one for none, and keeps the one before."""
_EVALUATION: Final = dg.DagsterEventType.ASSET_CHECK_EVALUATION


@dataclasses.dataclass
class _Told:
    """How far the event log was told of, and which verdicts are open; the sensor's cursor."""

    runs: int
    checks: int
    open: dict[str, dt.datetime]

    @classmethod
    def from_json(cls, text: str) -> Self:
        document = json.loads(text)
        return cls(
            document["runs"], document["checks"], {name: from_rfc3339(at) for name, at in document["open"].items()}
        )

    def to_json(self) -> str:
        return json.dumps(
            {"runs": self.runs, "checks": self.checks, "open": {name: rfc3339(at) for name, at in self.open.items()}}
        )


@dg.sensor(minimum_interval_seconds=INTERVAL_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def alarms(context: dg.SensorEvaluationContext, alarm_webhook: AlarmWebhook) -> dg.SensorResult:
    """Tells `PATHSTATS_ALARM_WEBHOOK_URL` of each run that failed, and of checks: when one turns bad, is good again, or
    has been bad for another day. Starts from now: what failed before it was first on is not told.

    Skips where no webhook is set. While the webhook doesn't take a message it says so, keeps it, and sends it in the
    next tick. Several runs of a job that failed one after another are one message; runs that Dagster tries again by
    itself are told when the last try fails.
    """  # noqa: D205 - a sentence is longer than a line
    if not alarm_webhook.is_set:
        # It begins anew when a webhook is set, and doesn't tell of the time without one.
        return dg.SensorResult(skip_reason="PATHSTATS_ALARM_WEBHOOK_URL is not set", cursor=_UNSET)
    storage = context.instance.event_log_storage
    if context.cursor in {None, _UNSET}:
        told = _Told(_newest(storage, _FAILURE), _newest(storage, _EVALUATION), {})
        return dg.SensorResult(skip_reason="tells of what fails from now on", cursor=told.to_json())
    told, sent, problem = _Told.from_json(context.cursor), 0, None
    news = itertools.chain(
        _of_runs(context, told, alarm_webhook.dagster_url), _of_checks(storage, told, alarm_webhook.dagster_url)
    )
    try:
        for message, is_told in news:
            if message is not None and sent == MESSAGES_PER_TICK:
                problem = "more follow in the next tick"
                break
            if message is not None:
                alarm_webhook.post(message)
                sent += 1
            is_told()
    except WebhookError as error:
        problem = f"{error}; it is tried again"
        context.log.warning(problem)
    why = "; ".join(filter(None, [f"sent {sent} message(s)", problem]))
    return dg.SensorResult(skip_reason=why, cursor=told.to_json())


_News = Iterator[tuple[Message | None, Callable[[], None]]]
"""Messages, and what is to be remembered once each was sent; no message where there is only something to remember."""


def _newest(storage: Any, kind: dg.DagsterEventType) -> int:
    records = SqlEventLogStorage.get_event_records(storage, EventRecordsFilter(kind), limit=1)
    return records[0].storage_id if records else 0


def _after(storage: Any, kind: dg.DagsterEventType, storage_id: int) -> Sequence[dg.EventLogRecord]:
    behind = EventRecordsFilter(kind, after_cursor=storage_id)
    return SqlEventLogStorage.get_event_records(storage, behind, limit=EVENTS_PER_TICK, ascending=True)


def _of_runs(context: dg.SensorEvaluationContext, told: _Told, dagster_url: str | None) -> _News:
    records = _after(context.instance.event_log_storage, _FAILURE, told.runs)
    failed = [(record.storage_id, _failed_run(context, record)) for record in records]
    for _, group in itertools.groupby(failed, key=lambda pair: pair[1] and pair[1].job):
        pairs = list(group)
        runs = [run for _, run in pairs if run is not None]

        def is_told(last: int = pairs[-1][0]) -> None:
            told.runs = last

        yield (messages.of_runs(runs, dagster_url) if runs else None), is_told


def _failed_run(context: dg.SensorEvaluationContext, record: dg.EventLogRecord) -> FailedRun | None:
    """The run of a failure; None where Dagster tries it again, where it was deleted, and for other code locations'."""
    run = context.instance.get_run_by_id(record.run_id)
    if run is None or run.tags.get(WILL_RETRY_TAG) == "true" or not _is_ours(context, run):
        return None
    event = record.event_log_entry.dagster_event
    failure = event.event_specific_data if event else None
    step = getattr(failure, "first_step_failure_event", None)
    error = step.step_failure_data.error if step and step.step_failure_data else getattr(failure, "error", None)
    text = (error.cause or error).message if error else (event.message if event else None)
    return FailedRun(
        run_id=run.run_id,
        job=run.job_name,
        partition=_partition_of(run),
        step=step.step_key if step else None,
        error=text or "no reason was recorded",
        reason=run.tags.get("pathstats/reason"),
    )


def _is_ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Runs of commands have no origin; an instance that several code locations share has runs of others."""
    origin, here = run.remote_job_origin, context.code_location_origin
    return origin is None or here is None or origin.location_name == here.location_name


def _partition_of(run: dg.DagsterRun) -> str | None:
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    return run.tags.get("dagster/partition") or (f"{first} to {last}" if first else None)


def _of_checks(storage: Any, told: _Told, dagster_url: str | None) -> _News:
    for record in _after(storage, _EVALUATION, told.checks):
        verdict = _verdict(record)
        news, open_then = judge(verdict, told.open)

        def is_told(last: int = record.storage_id, open_then: Any = open_then) -> None:
            told.checks, told.open = last, dict(open_then)

        yield (messages.of_verdict(verdict, news, dagster_url) if news else None), is_told


def _verdict(record: dg.EventLogRecord) -> Verdict:
    event = record.event_log_entry.dagster_event
    assert event is not None  # noqa: S101 - narrows the type; an evaluation is one of Dagster's events
    found = event.asset_check_evaluation_data
    return Verdict(
        asset=found.asset_key.to_user_string(),
        check=found.check_name,
        partition=found.partition,
        passed=found.passed,
        is_warning=found.severity is dg.AssetCheckSeverity.WARN,
        description=found.description or "",
        at=naive_utc(dt.datetime.fromtimestamp(record.timestamp, dt.UTC)),
        run_id=record.run_id,
    )
