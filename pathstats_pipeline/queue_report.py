"""What the commands of the queue print. As in report.py, whose terminal it uses."""

from collections.abc import Sequence

from pathstats_pipeline import report
from pathstats_pipeline.intake.consumer import DrainReport
from pathstats_pipeline.intake.drains import Drain, Verdict
from pathstats_pipeline.storage.queue import Depth

_MAX_REASONS = 5


def drained(drain: Drain, found: DrainReport) -> None:
    """What became of messages and their lines, and the commonest reasons of those that failed."""
    report.say(
        f"{drain.ended_at:%Y-%m-%d %H:%M:%S} received {drain.received}: {drain.acknowledged} acknowledged, "
        f"{drain.retried} to be tried again ({drain.refused} of them for their company), {drain.dead} dead, "
        f"{drain.unacknowledged} durable but not let go; {drain.stored} event(s), {drain.rejected} rejected line(s), "
        f"{len(found.hours)} hour(s)"
    )
    for reason, count in found.reasons.most_common(_MAX_REASONS):
        report.note(f"  {count} x {reason}")


def status(url: str, depth: Depth, last: Drain | None, letters: Depth | None, verdicts: Sequence[Verdict]) -> None:
    """The queue, its consumer and its dead letters."""
    report.say(f"{url}: {depth.waiting} wait, {depth.hidden} hidden, {depth.delayed} delayed")
    if last is None:
        report.say("no drain yet")
    else:
        report.say(
            f"last drain {last.ended_at:%Y-%m-%d %H:%M:%S} UTC: received {last.received}, acknowledged "
            f"{last.acknowledged}, retried {last.retried}, dead {last.dead}"
        )
    report.say("no dead letters are kept" if letters is None else f"{letters.messages} dead letter(s)")
    for verdict in verdicts:
        report.say(f"{'ok' if verdict.passed else 'ALARM'}: {verdict.reason}")
