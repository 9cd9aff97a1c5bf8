"""The commands of the queue: drain, status, redrive, send and stop. As in cli.py, which lists them."""

import contextlib
import functools
import itertools
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import click

from pathstats_pipeline import queue_report, report
from pathstats_pipeline.intake import drains
from pathstats_pipeline.intake.consumer import Bounds, Consumer, consumer_of
from pathstats_pipeline.intake.dead_letters import redrive
from pathstats_pipeline.intake.ingest import first_hour
from pathstats_pipeline.intake.messages import QueueError
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.storage.connect import bucket_objects, landing_zone, queues_of, s3_client
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.terminal import intake_lock, now, s3_of, sqs_of

DRAIN_SECONDS = 60.0
"""After so long a drain is recorded and the next one begins: the heartbeat of a consumer whose queue is never empty."""
IDLE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
_DOUBLINGS = 10
"""After so many failures the pause is the longest one; no larger power is ever reckoned."""


@click.group()
def queue() -> None:
    """Events from SQS: the queue of PATHSTATS_SQS_QUEUE_URL, or the local server's."""


@contextlib.contextmanager
def _landing(settings: Settings, *, reads_logs: bool = False) -> Iterator[Landing]:
    uses_s3 = reads_logs or settings.landing_uri.startswith("s3://")
    with s3_of(settings) if uses_s3 else contextlib.nullcontext(), sqs_of(settings):
        yield landing_zone(settings.landing_uri, lambda: s3_client(settings))


def _consumer(settings: Settings, landing: Landing) -> Consumer:
    bucket = functools.partial(bucket_objects, settings)
    lock = functools.partial(intake_lock, settings)
    return consumer_of(queues_of(settings), landing, bucket, first_hour(settings), now, lock, Bounds.of(settings))


@queue.command("drain")
@click.option("--follow", is_flag=True, help="Go on when the queue is empty, until stopped.")
def drain_queue(*, follow: bool) -> None:
    """Take messages off the queue into the landing zone, until it is empty.

    A message is deleted when all of its events are durable there. One that can't be read goes to the dead letters
    after five tries. SIGTERM and Ctrl-C stop it after the batch in hand.
    """
    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # By a thread: set in the handler itself, it could meet a lock that `wait` holds in the thread it interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    failed = 0
    with _landing(settings, reads_logs=True) as landing:
        consumer = _consumer(settings, landing)
        while not stop.is_set():
            end = time.monotonic() + DRAIN_SECONDS
            problem = _problem_of_draining(consumer, lambda: not stop.is_set() and time.monotonic() < end)  # noqa: B023 - called in this round only
            if problem and not follow:
                raise click.ClickException(problem)
            if not problem and time.monotonic() >= end:
                continue
            if not follow:
                return
            failed = failed + 1 if problem else 0
            if problem:
                report.note(problem)
            stop.wait(min(IDLE_SECONDS * 2 ** min(failed, _DOUBLINGS), LONGEST_PAUSE_SECONDS))


def _problem_of_draining(consumer: Consumer, keep_on: Callable[[], bool]) -> str | None:
    """Drain, and print what came of it; why it didn't end well, where it didn't."""
    try:
        drained, found = drains.drain(consumer, keep_on)
    except (QueueError, ObjectsError) as error:
        return str(error)
    if found.received:
        queue_report.drained(drained, found)
    return f"{next(iter(found.reasons), '')}; it is tried again" if found.landing_failed else None


@queue.command()
def status() -> None:
    """How many messages wait, when the queue was last drained, and how many dead letters there are."""
    settings = load_settings()
    with _landing(settings) as landing:
        messages, letters = queues_of(settings)
        depth = messages.depth()
        lives, last = drains.heartbeat(landing, depth.waiting, now(), settings.heartbeat)
        verdicts = [
            drains.judge_backlog(depth.waiting, settings.sqs_backlog_messages),
            lives,
        ]
        queue_report.status(messages.url, depth, last, letters.depth() if letters else None, verdicts)
    if bad := [verdict.reason for verdict in verdicts if not verdict.passed]:
        raise click.ClickException("; ".join(bad))


@queue.command("redrive")
@click.option("--limit", type=click.IntRange(min=1), default=1_000_000, help="Send so many at most.")
def redrive_letters(limit: int) -> None:
    """Send the dead letters back to the queue, to be tried again: after a fix, or a log file that has come."""
    settings = load_settings()
    with sqs_of(settings):
        messages, letters = queues_of(settings)
        if letters is None:
            raise click.ClickException("there are no dead letters: set PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL")
        report.note(f"sent {redrive(letters, messages, limit)} dead letter(s) back to {messages.url}")


@queue.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False))
@click.option("--lines", type=click.IntRange(min=1), default=100, show_default=True, help="Lines a message.")
def send(file: pathlib.Path, lines: int) -> None:
    """Send the lines of FILE (plain, of any known format) to the queue, to try it out."""
    settings = load_settings()
    sent = 0
    with sqs_of(settings), file.open(encoding="utf-8", errors="surrogateescape") as source:
        messages, _ = queues_of(settings)
        while batch := "".join(itertools.islice(source, lines)):
            try:
                messages.send(batch)
            except QueueError as error:
                told = f"{error}; {sent} message(s) were sent, of the first {sent * lines} lines"
                raise click.ClickException(told) from None
            sent += 1
    report.note(f"sent {sent} message(s) to {messages.url}")


@queue.command()
def stop() -> None:
    """Stop the local server, also where a command uses it or a killed one has left it behind; its messages stay."""
    LocalSqs(load_settings().local_sqs_directory).stop()
