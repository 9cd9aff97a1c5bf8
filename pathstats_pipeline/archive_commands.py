"""The commands of the archive: archive, verify, restore, cleanup, hold and status. As in cli.py, which lists them."""

import contextlib
import datetime as dt
import pathlib

import click

from pathstats_pipeline import archive_report, report
from pathstats_pipeline.archive.audit import audit, memory_of
from pathstats_pipeline.archive.cleanup import plan_cleanup
from pathstats_pipeline.archive.day import manifests_of, verified_manifests
from pathstats_pipeline.archive.recover import recover as recover_days
from pathstats_pipeline.archive.restore import restore_day, restore_to_warehouse
from pathstats_pipeline.events.load import Files
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.storage.compaction import backup as copy_warehouse
from pathstats_pipeline.storage.connect import archive_objects, landing_zone, s3_client
from pathstats_pipeline.storage.local_server import LocalServerError
from pathstats_pipeline.storage.objects import ObjectsError
from pathstats_pipeline.terminal import Day, now, s3_of, warehouse_of


@click.command()
@click.argument("date", type=Day())
def archive(date: dt.date) -> None:
    """Archive the events of DATE on S3, verify and commit them, as a Dagster run."""
    settings = load_settings()
    from pathstats_pipeline.defs import launch

    launch.prepare_home(settings.home)
    with s3_of(settings):
        launch.archive_day(date)
        objects = archive_objects(settings)
        report.archived(date, manifests_of(objects, date), objects.uri)


@click.command()
@click.argument("date", type=Day())
@click.option("--to", "end", type=Day(), help="End, exclusive; else the day after DATE.")
def verify(date: dt.date, end: dt.date | None) -> None:
    """Read the archive of DATE, or of all days up to another, back from S3; hold it against manifests and records.

    All days are looked at, whatever is found: one line for each object. Drift is where the warehouse remembers another
    archive than S3 has. What can't be listed or read is unverified. All of these end with exit code 1; an object that
    no manifest names is told, and counts as nothing.
    """
    settings = load_settings()
    last = (end or date + dt.timedelta(days=1)) - dt.timedelta(days=1)
    if last < date:
        raise click.UsageError(f"--to {end} must lie after {date}")
    window = Window(Window.of_day(date).start, Window.of_day(last).end)
    memory = None
    if settings.warehouse_path.exists():
        with warehouse_of(settings) as warehouse:
            memory = memory_of(warehouse)
    with s3_of(settings):
        objects = archive_objects(settings)
        findings = archive_report.audited(
            report.progress(audit(objects, window, memory), "reading back", unit="objects")
        )
    if memory is None:
        report.note(f"there is no warehouse at {settings.warehouse_path}: S3 was held against nothing but itself")
    if not findings:
        what = f"{date} is" if end is None else f"no day from {date} to {end} is"
        raise click.ClickException(f"{what} {'not ' if end is None else ''}archived at {objects.uri}")
    if bad := [finding for finding in findings if finding.is_bad]:
        raise click.ClickException(f"{len(bad)} finding(s), first: {bad[0]}")


@click.command()
@click.argument("date", type=Day())
@click.option("--to", "directory", type=click.Path(path_type=pathlib.Path, file_okay=False), help="A directory.")
@click.option("--to-warehouse", is_flag=True, help="The warehouse, under the loads that brought them.")
def restore(date: dt.date, directory: pathlib.Path | None, *, to_warehouse: bool) -> None:
    """Bring the archived events of DATE back: to a directory as Parquet files, or into the warehouse.

    In the warehouse, events that are there, and late loads, stay as they are. The next clean-up of the day deletes what
    came back, unless the day is on hold.
    """
    if to_warehouse == (directory is not None):
        raise click.UsageError("give either --to DIR or --to-warehouse")
    settings = load_settings()
    with s3_of(settings):
        objects = archive_objects(settings)
        if directory is not None:
            for manifest, path in restore_day(objects, date, directory):
                report.say(f"{path}: {manifest.rows} events")
            return
        with warehouse_of(settings) as warehouse:
            restored = 0
            for manifest, rows in restore_to_warehouse(warehouse, objects, date, now):
                report.say(f"{date} g{manifest.generation:04d}: {rows} of {manifest.rows} events put back")
                restored += rows
            if restored and date not in warehouse.holds():
                report.note(f"clean-up may delete them again; to keep them: pathstats hold {date} --reason WHY")


@click.command()
@click.argument("file", type=click.Path(path_type=pathlib.Path, dir_okay=False))
def backup(file: pathlib.Path) -> None:
    """Copy the warehouse to FILE while everything runs: it is held meanwhile, and FILE is replaced at the end.

    Statistics and the ledger as they stand between two runs. docs/operations.md has how to come back from it.
    """
    settings = load_settings()
    size = copy_warehouse(settings.warehouse_path, file, lock_timeout_seconds=settings.lock_timeout_seconds)
    report.say(f"{file}: {size:,} bytes")


@click.command()
def recover() -> None:
    """Make the ledger of a lost warehouse anew from the archive, in an empty one; stop Dagster before.

    Every archived day is read back, and entered as cleaned up: its events are read from the archive from then on. What
    is not archived yet is loaded from the landing zone, and statistics are built, by `pathstats build` afterwards. A
    second run enters nothing; a day that can't be recovered is named, and the others are.
    """
    settings = load_settings()
    with s3_of(settings), warehouse_of(settings) as warehouse:
        landing = landing_zone(settings.landing_uri, lambda: s3_client(settings))
        days = recover_days(warehouse, archive_objects(settings), landing, now)
        problems = archive_report.recovered(report.progress(days, "reading back", unit="days"))
    if problems:
        raise click.ClickException(f"{len(problems)} day(s) left as they were, first: {problems[0]}")


@click.command()
@click.argument("date", type=Day())
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
def cleanup(date: dt.date, *, dry_run: bool) -> None:
    """Delete the archived events of DATE from the warehouse and the landing zone, as a Dagster run."""
    settings = load_settings()
    with s3_of(settings):
        with warehouse_of(settings) as warehouse:
            verdict = plan_cleanup(warehouse, archive_objects(settings), date, now(), settings.retention)
        if verdict.waiting:
            report.say(f"left alone: {'; '.join(verdict.reasons)}")
            return
        if verdict.reasons:
            raise click.ClickException(f"nothing deleted: {'; '.join(verdict.reasons)}")
        if dry_run:
            verified_manifests(archive_objects(settings), date)
        else:
            from pathstats_pipeline.defs import launch

            launch.prepare_home(settings.home)
            launch.clean_day(date)
    verb = "would delete" if dry_run else "deleted"
    report.say(f"{date}: {verb} {verdict.rows} event(s) of {len(verdict.loads)} load(s), and their landing files")


@click.command()
@click.argument("date", type=Day())
@click.option("--reason", help="Why; shown wherever clean-up leaves the day alone.")
@click.option("--release", is_flag=True, help="End the hold.")
def hold(date: dt.date, reason: str | None, *, release: bool) -> None:
    """Keep the events of DATE from clean-up until they are released."""
    if release == (reason is not None):
        raise click.UsageError("give either --reason or --release")
    with warehouse_of(load_settings()) as warehouse:
        if reason is not None:
            warehouse.hold(date, reason, now())
            report.say(f"{date} is on hold: {reason}")
        elif not warehouse.release(date):
            raise click.ClickException(f"{date} is not on hold")
        else:
            report.say(f"{date} is released")


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(form: str) -> None:
    """How every day stands: stored, live, archived, waiting, not loaded, deletable from when; the archive isn't asked.

    Received = stored + duplicates + rejected, and stored = live + deleted: what the ledger says is held against what is
    counted. Exit code 1 says that it doesn't add up, that files of a day that is over aren't loaded, or that the
    landing zone can't be listed.
    """
    settings = load_settings()
    if not settings.warehouse_path.exists():
        raise click.ClickException(f"there is no warehouse at {settings.warehouse_path}")
    landed, unlisted = _landed(settings)
    with warehouse_of(settings) as warehouse:
        found = warehouse.status(now(), None if landed is None else warehouse.unloaded(landed))
    archive_report.status(found, settings.retention, form=form)
    if problems := found.problems():
        raise click.ClickException(f"{len(problems)} number(s) don't add up, first: {problems[0]}")
    if unlisted:
        raise click.ClickException(f"what isn't loaded is not known: {unlisted}")
    if overdue := found.overdue():
        first, last = min(overdue), max(overdue)
        raise click.ClickException(
            f"{sum(overdue.values())} file(s) of days that are over are not loaded; what hinders it is said by "
            f"`pathstats build --from {first} --to {last + dt.timedelta(days=1)}`, and by the sensor due_runs"
        )


def _landed(settings: Settings) -> tuple[Files | None, str]:
    """What landed; or why that can't be said, and the days are told without it."""
    on_s3 = settings.landing_uri.startswith("s3://")
    # The one of the home comes with the first load; one that is named and not there is a typo, or an unmounted disk.
    if settings.landing and not on_s3 and not pathlib.Path(settings.landing_uri).is_dir():
        return None, f"PATHSTATS_LANDING names no directory: {settings.landing_uri}"
    try:
        with s3_of(settings) if on_s3 else contextlib.nullcontext():
            return landing_zone(settings.landing_uri, lambda: s3_client(settings)).landed(), ""
    except (ObjectsError, LocalServerError, OSError) as error:
        return None, str(error)
