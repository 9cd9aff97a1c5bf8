"""The queue in Dagster: the job that drains it, the sensor that starts it, and two checks on what comes of it.

What a drain does stands in intake/consumer.py, what is an alarm in intake/drains.py. The queue is no asset: what it
brings are the loads of `raw_events`, which wears its observations and checks.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import dagster as dg

from pathstats_pipeline.defs.jobs import DRAIN_JOB, UNFINISHED
from pathstats_pipeline.defs.presentation import some_of
from pathstats_pipeline.defs.resources import Clock, LandingZone, MessageQueues
from pathstats_pipeline.intake import drains
from pathstats_pipeline.intake.drains import Drain, Verdict
from pathstats_pipeline.intake.messages import QueueError
from pathstats_pipeline.storage.local_server import LocalServerError
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.storage.queue import Depth

INTERVAL_SECONDS: Final = 30
DRAIN_SECONDS: Final = 600
"""A run drains for so long at most; the next one goes on."""
_REPORTED_EVERY_MINUTES: Final = 10
"""While nothing changes: an evaluation is kept for ever."""
_RAW_EVENTS: Final = dg.AssetKey("raw_events")
_BACKLOG, _HEARTBEAT = "queue_backlog", "consumer_heartbeat"
_UNREACHABLE: Final = (QueueError, LocalServerError, ObjectsError)


@dg.op(pool="queue")
def drain_queue(
    context: dg.OpExecutionContext, message_queues: MessageQueues, landing_zone: LandingZone, clock: Clock
) -> None:
    """Take messages off the queue into the landing zone until it is empty, or for ten minutes.

    A message is deleted when all of its events are durable. **Second run**: goes on. **Fails** when the queue can't be
    asked, or the landing zone can't keep a load: what was not durable stays in the queue and comes again.
    """
    landing, end = landing_zone.landing(), time.monotonic() + DRAIN_SECONDS
    consumer = message_queues.consumer(landing, clock.now)
    done, found = drains.drain(consumer, lambda: time.monotonic() < end)
    facts = {**_drain_facts(done), "queue": message_queues.queues()[0].url, "loads_in_hours": len(found.hours)}
    context.add_output_metadata(facts)
    context.log_event(dg.AssetObservation(_RAW_EVENTS, metadata=facts))
    if found.landing_failed:
        reasons = [reason for reason, _ in found.reasons.most_common()]
        raise dg.Failure(f"what could not be kept stays in the queue: {some_of(reasons)}", allow_retries=False)


@dg.job(name=DRAIN_JOB, description="Take messages off the queue into the landing zone.")
def drain_job() -> None:
    """One step: the drain."""
    drain_queue()


def _drain_facts(drain: Drain) -> dict[str, int | float]:
    """A drain as metadata; its numbers make time series."""
    names = ("received", "acknowledged", "unacknowledged", "retried", "refused", "dead", "stored", "rejected")
    oldest = (drain.ended_at - drain.oldest_sent_at).total_seconds() if drain.oldest_sent_at else 0.0
    return {**{name: getattr(drain, name) for name in names}, "oldest_message_seconds": oldest}


@dg.asset_check(asset=_RAW_EVENTS, name=_BACKLOG)
def queue_backlog(message_queues: MessageQueues) -> dg.AssetCheckResult:
    """Warns when more messages wait than PATHSTATS_SQS_BACKLOG_MESSAGES.

    Then the consumer is too slow, or stands still: see `consumer_heartbeat`, and the runs of the job `drain`.
    """

    def judge() -> Verdict:
        return drains.judge_backlog(_waiting(message_queues), message_queues.backlog_messages)

    return _result(judge)


@dg.asset_check(asset=_RAW_EVENTS, name=_HEARTBEAT)
def consumer_heartbeat(message_queues: MessageQueues, landing_zone: LandingZone, clock: Clock) -> dg.AssetCheckResult:
    """Fails when messages wait and nobody drained for PATHSTATS_SQS_HEARTBEAT_MINUTES, neither a run nor a command.

    Look whether the sensor `queue_messages` is on, whether a run of `drain` fails, and whether the daemon lives.
    """

    def judge() -> Verdict:
        landing = landing_zone.landing()
        return drains.heartbeat(landing, _waiting(message_queues), clock.now(), message_queues.heartbeat)[0]

    return _result(judge, dg.AssetCheckSeverity.ERROR)


def _waiting(message_queues: MessageQueues) -> int:
    return message_queues.queues()[0].depth().waiting if message_queues.is_there else 0


def _result(
    judge: Callable[[], Verdict], severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN
) -> dg.AssetCheckResult:
    """The verdict; that the queue can't be asked is a bad one: it must not fail a run that loads events, too."""
    try:
        verdict = judge()
    except _UNREACHABLE as error:
        verdict = Verdict(passed=False, reason=" ".join(str(error).split()))
    return dg.AssetCheckResult(passed=verdict.passed, severity=severity, description=verdict.reason)


@dg.sensor(job=drain_job, minimum_interval_seconds=INTERVAL_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def queue_messages(
    context: dg.SensorEvaluationContext, message_queues: MessageQueues, landing_zone: LandingZone, clock: Clock
) -> dg.SensorResult | dg.SkipReason:
    """Starts a drain when messages wait, one at a time; tells `raw_events` of the queue's depth, and judges it.

    Skips, and says why, where there is no queue, and while it can't be asked.
    """
    try:
        if not message_queues.is_there:
            return dg.SkipReason("there is no queue: PATHSTATS_SQS_QUEUE_URL is not set, and the local one never ran")
        queue, letters = message_queues.queues()
        depth, dead = queue.depth(), letters.depth().messages if letters else 0
        now = clock.now()
        lives, last = drains.heartbeat(landing_zone.landing(), depth.waiting, now, message_queues.heartbeat)
    except _UNREACHABLE as error:
        return dg.SkipReason(" ".join(str(error).split()))
    verdicts = {
        _BACKLOG: drains.judge_backlog(depth.waiting, message_queues.backlog_messages),
        _HEARTBEAT: lives,
    }
    cursor = cursor_of(verdicts, depth, now)
    events = [] if cursor == context.cursor else list(_events(verdicts, depth, dead, last))
    runs = [] if not depth.waiting or _is_draining(context.instance) else [dg.RunRequest()]
    why = None if runs else f"{depth.waiting} message(s) wait" + (", a drain is under way" if depth.waiting else "")
    return dg.SensorResult(run_requests=runs, skip_reason=why, cursor=cursor, asset_events=events)


def cursor_of(verdicts: Mapping[str, Verdict], depth: Depth, now: dt.datetime) -> str:
    """Changes with what is worth telling: another verdict, an empty queue or one no longer empty, or ten minutes."""
    span = now.replace(minute=now.minute // _REPORTED_EVERY_MINUTES * _REPORTED_EVERY_MINUTES)
    told = f"{span:%Y-%m-%dT%H:%M}" if depth.messages else "empty"
    return " ".join([told, *(f"{name}={verdict.passed}" for name, verdict in verdicts.items())])


def _events(
    verdicts: Mapping[str, Verdict], depth: Depth, dead: int, last: Drain | None
) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
    facts: dict[str, Any] = {
        "queue_waiting": depth.waiting,
        "queue_hidden": depth.hidden,
        "queue_dead_letters": dead,
        **({f"last_drain_{name}": value for name, value in _drain_facts(last).items()} if last else {}),
    }
    yield dg.AssetObservation(_RAW_EVENTS, metadata=facts)
    severities = {_BACKLOG: dg.AssetCheckSeverity.WARN, _HEARTBEAT: dg.AssetCheckSeverity.ERROR}
    for name, verdict in verdicts.items():
        yield dg.AssetCheckEvaluation(
            asset_key=_RAW_EVENTS,
            check_name=name,
            passed=verdict.passed,
            severity=severities[name],
            description=verdict.reason,
            metadata={},
        )


def _is_draining(instance: dg.DagsterInstance) -> bool:
    unfinished = dg.RunsFilter(job_name=DRAIN_JOB, statuses=list(UNFINISHED))
    return bool(instance.get_run_records(unfinished, limit=1))
