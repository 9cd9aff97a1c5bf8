"""The command `metrics`: what is known, for Prometheus. As in cli.py, which lists it.

Each part is asked for itself, now and then, not by a scrape: that reads the last known values, and can't fail or wait.
The warehouse is held for the moment that counting takes, and left alone while somebody else has it.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable

import click
import prometheus_client

from pathstats_pipeline import report
from pathstats_pipeline.alarms.metrics import PARTS, Board, Sample, epoch, of_warehouse
from pathstats_pipeline.events.window import HOUR
from pathstats_pipeline.intake.drains import last_drain
from pathstats_pipeline.intake.messages import QueueError
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.storage.connect import landing_zone, queues_of, s3_client
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.warehouse import open_warehouse
from pathstats_pipeline.terminal import now, stop_on_signals

LOCK_SECONDS = 2.0
"""How long the warehouse is waited for; while a run has it, the last known values stay."""


class NothingToAskError(RuntimeError):
    """A part isn't there; one line. No problem: a deployment without a queue has no metrics of one."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Serve them at http://HOST:PORT/metrics until stopped.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--every", type=click.IntRange(min=1), default=30, show_default=True, help="Seconds between two askings.")
@click.option("--once", is_flag=True, help="Print them.")
@click.option(
    "--textfile", type=click.Path(path_type=pathlib.Path, dir_okay=False), help="Write them for node_exporter, whole."
)
def metrics(port: int | None, host: str, every: int, *, once: bool, textfile: pathlib.Path | None) -> None:
    """What a monitor asks for, in Prometheus' text format: archive, hot store, queue, automation, disk.

    What can't be asked, since a run has the warehouse or S3 is away, keeps its last known values with --port; else it
    is left out. pathstats_facts_timestamp_seconds says of which time the values are. docs/operations.md has them all,
    and alarm rules are in deploy/alerts.yml.
    """
    if [port is not None, once, textfile is not None].count(True) != 1:
        raise click.UsageError("give one of --port, --once and --textfile")
    settings, board = load_settings(), Board()
    registry = prometheus_client.CollectorRegistry()
    registry.register(board)
    if port is None:
        gather(settings, board)
        text = prometheus_client.generate_latest(registry)
        if textfile is None:
            report.say(text.decode().rstrip("\n"))
        else:
            _write_whole(textfile, text)
        return
    with stop_on_signals() as stop:
        gather(settings, board)
        server, thread = prometheus_client.start_http_server(port, host, registry)
        report.note(f"serving http://{host}:{port}/metrics")
        while not stop.wait(every):
            gather(settings, board)
        server.shutdown()
        thread.join()


def gather(settings: Settings, board: Board) -> None:
    """Ask every part, each for itself; one that can't be asked is told once, and keeps its values."""
    asks = {"warehouse": _warehouse, "disk": _disk, "queue": _queue, "dagster": _dagster}
    for part in PARTS:
        try:
            board.put(part, list(asks[part](settings)), now())
        except NothingToAskError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one part, the others are asked
            problem = " ".join(str(error).split()) or type(error).__name__
            if board.is_new(part, problem):
                report.note(f"{part}: {problem}")


def _warehouse(settings: Settings) -> Iterable[Sample]:
    path = settings.warehouse_path
    if not path.exists():
        raise NothingToAskError(f"there is no warehouse at {path}")
    landed = landing_zone(settings.landing_uri, lambda: s3_client(settings)).landed()
    with open_warehouse(path, lock_timeout_seconds=LOCK_SECONDS) as warehouse:
        status = warehouse.status(now(), warehouse.unloaded(landed))
        archives, span = warehouse.archives(), warehouse.statistics_span()
    newest = span.end - HOUR if span else None
    return of_warehouse(status, archives.to_dicts(), newest, path.stat().st_size)


def _disk(settings: Settings) -> Iterable[Sample]:
    folder = settings.warehouse_path.parent
    if not folder.is_dir():
        raise NothingToAskError(f"there is no directory {folder}")
    yield Sample("pathstats_disk_free_bytes", shutil.disk_usage(folder).free)


def _queue(settings: Settings) -> Iterable[Sample]:
    if settings.uses_local_queue and not LocalSqs(settings.local_sqs_directory).was_started:
        raise NothingToAskError("there is no queue")
    queue, letters = queues_of(settings)
    depth = queue.depth()
    yield Sample("pathstats_queue_messages", depth.waiting, "waiting")
    yield Sample("pathstats_queue_messages", depth.hidden, "hidden")
    if letters:
        with contextlib.suppress(QueueError):
            yield Sample("pathstats_queue_messages", letters.depth().messages, "dead")
    if last := last_drain(landing_zone(settings.landing_uri, lambda: s3_client(settings))):
        yield Sample("pathstats_queue_last_drain_timestamp_seconds", epoch(last.ended_at))
        age = (last.ended_at - last.oldest_sent_at).total_seconds() if last.oldest_sent_at else 0.0
        yield Sample("pathstats_queue_oldest_message_age_seconds", age)


def _dagster(settings: Settings) -> Iterable[Sample]:
    from pathstats_pipeline.defs.instance_facts import NoInstanceError, instance_facts

    try:
        return instance_facts(settings.home, now())
    except NoInstanceError as error:
        raise NothingToAskError(str(error)) from None


def _write_whole(path: pathlib.Path, text: bytes) -> None:
    """Under another name first: a collector that reads meanwhile finds the old file or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as unfinished:
        copy = pathlib.Path(unfinished.name)
        try:
            unfinished.write(text)
            unfinished.flush()
            os.fsync(unfinished.fileno())
            copy.chmod(0o644)
            copy.replace(path)
        finally:
            copy.unlink(missing_ok=True)
