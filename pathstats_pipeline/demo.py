"""`make demo`: the whole way of an event, on sample traffic or on your own files, as Dagster runs.

A story told with the same functions that the commands call; no step of its own. A second demo finds its files
ingested and its days archived, builds the same statistics again, and changes no number.
"""

import contextlib
import datetime as dt
import pathlib
from collections.abc import Iterator, Sequence

import polars as pl

from pathstats_pipeline import report
from pathstats_pipeline.archive.cleanup import plan_cleanup
from pathstats_pipeline.archive.day import manifests_of
from pathstats_pipeline.events.window import DAY, Window, runs_of_days
from pathstats_pipeline.intake.choice import format_chooser
from pathstats_pipeline.intake.ingest import Intake, first_hour, ingest_files
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.sample import write_sample
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.connect import archive_objects, landing_zone, s3_client
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse
from pathstats_pipeline.terminal import now as clock

SAMPLE_DAYS = 3
TOP_PATHS = 15


def run(settings: Settings, logs: Sequence[pathlib.Path], now: dt.datetime) -> None:
    """Ingest, build, archive, verify, record and clean up; print what came of it. S3 must be up."""
    files = list(_files(logs)) if logs else _sample(settings, now)
    hours = _ingest(settings, files, now)
    # Only now: the first partition is fixed by what has landed when the definitions are imported.
    from pathstats_pipeline.defs import launch

    launch.prepare_home(settings.home)
    spans = [launch.clamp(span, now) for span in runs_of_days(hour.date() for hour in hours)]
    for span in spans:
        report.note(f"building {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}")
        for _ in launch.build_hours(span):
            pass
        launch.build_days([day for day in launch.whole_days(span) if Window.of_day(day).end <= now])
    _archive(settings, sorted({hour.date() for hour in hours if Window.of_day(hour.date()).end <= now}))
    _tell(settings, spans)


def _files(logs: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """The log files that were named, and those directly in the folders that were named."""
    for path in logs:
        if path.is_dir():
            yield from sorted(child for child in path.iterdir() if child.is_file() and not child.name.startswith("."))
        else:
            yield path


def _sample(settings: Settings, now: dt.datetime) -> list[pathlib.Path]:
    """Synthetic traffic of the last whole days, a folder a day: tomorrow's demo finds today's days ingested."""
    report.note(f"writing synthetic traffic of {SAMPLE_DAYS} days to {settings.home / 'sample'}")
    midnight = dt.datetime.combine(now.date(), dt.time(), dt.UTC)
    ends = [midnight - ago * DAY for ago in reversed(range(SAMPLE_DAYS))]
    return [
        file
        for end in ends
        for file in write_sample(settings.home / "sample" / f"{end - DAY:%Y-%m-%d}", end=end, days=1)
    ]


def _ingest(settings: Settings, files: Sequence[pathlib.Path], now: dt.datetime) -> set[dt.datetime]:
    landing = landing_zone(settings.landing_uri, lambda: s3_client(settings))
    intake = Intake(landing, first_hour(settings), now, format_chooser("auto", None))
    reports, problems = ingest_files(map(PathLogFile, report.progress(files, "ingesting")), intake)
    report.ingested(reports)
    for problem in problems:
        report.note(f"not ingested: {problem}")
    return {hour for each in reports for hour in each.hours}


def _archive(settings: Settings, days: Sequence[dt.date]) -> None:
    from pathstats_pipeline.defs import launch

    objects = archive_objects(settings)
    for day in days:
        launch.archive_day(day)
        report.archived(day, manifests_of(objects, day), objects.uri)
        with _open(settings) as warehouse:
            verdict = plan_cleanup(warehouse, objects, day, clock(), settings.retention)
        if verdict.waiting:
            report.say(f"{day}: stays in the warehouse, {'; '.join(verdict.reasons)}")
        else:
            launch.clean_day(day)
            report.say(f"{day}: cleaned up, {verdict.rows:,} events deleted from the warehouse")


def _open(settings: Settings) -> contextlib.AbstractContextManager[Warehouse]:
    return open_warehouse(settings.warehouse_path, lock_timeout_seconds=settings.lock_timeout_seconds)


def _tell(settings: Settings, spans: Sequence[Window]) -> None:
    if not spans:
        report.say("no line of these files became an event; the reasons stand above")
        return
    with _open(settings) as warehouse:
        rows = pl.concat([warehouse.hourly(span) for span in spans])
        rejected = sum(warehouse.rejected_lines(span) for span in spans)
    whole = Window(spans[0].start, spans[-1].end)
    report.top(rows, whole, rejected, by="requests", limit=TOP_PATHS, form="table")
    report.say("next: `make dev` shows these runs in Dagster's UI; `.venv/bin/pathstats top --by p95` ranks anew;")
    report.say("      `make demo LOGS=/var/log/nginx/access.log` does the same with your own files")
