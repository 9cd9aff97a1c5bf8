"""The command line. Each command: read the settings, call one function of a room, print facts.

The archive's are in archive_commands.py, `metrics` and `watch` in files of their own, what all share in terminal.py.

Errors are one line on stderr and exit code 1; wrong usage is exit code 2. Nothing is reckoned here. Dagster is
imported only by the commands that launch runs, through defs/launch.py, because its import alone takes seconds.
"""

import contextlib
import datetime as dt
import os
import pathlib
import shutil
import sys
import traceback
from typing import Final

import click

from pathstats_pipeline import archive_commands, metrics_command, queue_commands, report, watch_command
from pathstats_pipeline.events.templates import foldings, load_rules
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.choice import FORMAT_NAMES, format_chooser
from pathstats_pipeline.intake.ingest import Intake, first_hour, ingest_files
from pathstats_pipeline.intake.logfiles import find_log_files
from pathstats_pipeline.intake.paths import LIST, count_paths
from pathstats_pipeline.settings import load_settings
from pathstats_pipeline.stats.candidates import verify as verify_candidates
from pathstats_pipeline.storage.blobs import through_blob
from pathstats_pipeline.storage.connect import bucket_objects, landing_zone, local_s3_of, s3_client
from pathstats_pipeline.storage.probe import probe as probe_store
from pathstats_pipeline.terminal import Moment, intake_lock, now, s3_of, sqs_of, warehouse_of

_NO_ROOM_BYTES: Final = 1 << 20
"""With less room than that, an error of the disk is most likely the want of it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pathstats-pipeline")
def cli() -> None:
    """Hourly path statistics of access logs, and a verified archive of the raw events.

    Times are UTC and half-open: --from 2026-11-22 --to 2026-11-23 is one day.
    """


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--format", "format_name", type=click.Choice(FORMAT_NAMES), default="auto", show_default=True)
@click.option("--map", "map_file", type=click.Path(path_type=pathlib.Path), help="Field map for JSON lines (TOML).")
@click.option("--finished", is_flag=True, help="Nobody writes to the files any more: take a last line without its end.")
def ingest(files: tuple[str, ...], format_name: str, map_file: pathlib.Path | None, *, finished: bool) -> None:
    """Log FILES (plain, gzip or zstd) into the landing zone: paths, s3://bucket/key, or s3://bucket/prefix/.

    A line becomes an event, or a rejected line kept with its bytes and the reason; header lines are counted only. A
    file that was ingested before adds nothing; one that has grown adds what is new. A file that can't be read is named;
    the others are ingested.
    """
    settings = load_settings()
    chooser = format_chooser(format_name, map_file)
    uses_s3 = any(name.startswith("s3://") for name in (settings.landing_uri, *files))
    with s3_of(settings) if uses_s3 else contextlib.nullcontext(), intake_lock(settings):
        landing = landing_zone(settings.landing_uri, lambda: s3_client(settings))
        intake = Intake(landing, first_hour(settings), now(), chooser, finished=finished)
        found, missing = find_log_files(files, lambda bucket: bucket_objects(settings, bucket))
        reports, problems = ingest_files(report.progress(found, "ingesting"), intake)
    report.ingested(reports)
    if missing or problems:
        raise click.ClickException("; ".join([*missing, *problems]))


@cli.command()
@click.option("--from", "start", type=Moment(), required=True, help="First hour.")
@click.option("--to", "end", type=Moment(), required=True, help="End, exclusive.")
def build(start: dt.datetime, end: dt.datetime) -> None:
    """Load and build the hours from T to T, and the days that they fill, as Dagster runs."""
    settings = load_settings()
    window = _window(start, end)
    from pathstats_pipeline.defs import launch

    launch.prepare_home(settings.home)
    asked, window = window, launch.clamp(window, now())
    if window != asked:
        report.note(f"there are partitions from {window.start:%Y-%m-%dT%H:%M} to {window.end:%Y-%m-%dT%H:%M} of these")
    days = [day for day in launch.whole_days(window) if Window.of_day(day).end <= now()]
    with s3_of(settings):
        for span in report.progress(launch.build_hours(window), "building hours", unit="week"):
            report.note(f"built {span.start:%Y-%m-%dT%H:%M} to {span.end:%Y-%m-%dT%H:%M}")
        launch.build_days(days)
    report.note(f"built {len(list(window.hours()))} hour(s) and {len(days)} day(s)")


@cli.command()
@click.option("--from", "start", type=Moment(), help="First hour; else the first one with statistics.")
@click.option("--to", "end", type=Moment(), help="End, exclusive; else the end of the last hour with statistics.")
@click.option("--by", type=click.Choice(report.RANKINGS), default="requests", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def top(start: dt.datetime | None, end: dt.datetime | None, by: str, limit: int, form: str) -> None:
    """The top paths of a range: requests, errors, percentiles of the response time, visitors."""
    settings = load_settings()
    with warehouse_of(settings) as warehouse:
        span = warehouse.statistics_span()
        if span is None:
            raise click.ClickException("there are no statistics yet: run `pathstats build --from T --to T`")
        window = _window(start or span.start, end or max(span.end, start or span.end))
        rows, rejected = warehouse.hourly(window), warehouse.rejected_lines(window)
    report.top(rows, window, rejected, by=by, limit=limit, form=form)


@cli.group()
def paths() -> None:
    """Path templates: what raw paths are counted under."""


@paths.command("try")
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--rules", "rules_file", type=click.Path(path_type=pathlib.Path), help="Rules (TOML); else PATHSTATS_PATH_RULES."
)
@click.option("--format", "format_name", type=click.Choice((LIST, *FORMAT_NAMES)), default="auto", show_default=True)
@click.option("--map", "map_file", type=click.Path(path_type=pathlib.Path), help="Field map for JSON lines (TOML).")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Templates to print.")
def try_paths(
    file: pathlib.Path, rules_file: pathlib.Path | None, format_name: str, map_file: pathlib.Path | None, limit: int
) -> None:
    """What the paths in FILE fold to: one path a line, or a log in a known format. Nothing is ingested."""
    rules_file = rules_file or load_settings().path_rules
    rules = load_rules(rules_file) if rules_file else ()
    as_list = format_name == LIST
    chooser = format_chooser("auto" if as_list else format_name, map_file)
    # A format that is named is believed, also where its lines begin with a slash.
    counted = count_paths(file, chooser, as_list=as_list, may_be_list=format_name == "auto" and map_file is None)
    report.folded(foldings(counted.counts, rules), counted, limit=limit)


@cli.command("verify-sketches")
def verify_sketches() -> None:
    """Check our sketches and every candidate library: DuckDB BLOB, speed, size, error. Fails where ours do."""
    findings = list(report.progress(verify_candidates(through_blob), "measuring"))
    report.candidates(findings)
    if failed := [each for each in findings if each.ours and each.failures]:
        raise click.ClickException("; ".join(f"{each.name}: {', '.join(each.failures)}" for each in failed))


@cli.command()
@click.option("--logs", type=click.Path(path_type=pathlib.Path), multiple=True, help="Your own log files or folders.")
def demo(logs: tuple[pathlib.Path, ...]) -> None:
    """The whole way of an event on sample traffic, or on your own LOGS, as Dagster runs."""
    settings = load_settings()
    from pathstats_pipeline import demo as demonstration

    with s3_of(settings):
        demonstration.run(settings, logs, now())


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def dev(host: str, port: int) -> None:
    """Dagster's UI and daemon, with the local S3 and SQS servers beside them where no others are set.

    One at a time on a home: a second one is refused. Ctrl-C or SIGTERM stops everything; a run in hand is finished by
    the next. When it is killed, Dagster's servers are stopped, too; the local ones end with the next command.
    """
    settings = load_settings()
    from pathstats_pipeline.defs import serving

    with serving.alone(settings.home, f"http://{host}:{port}") as lock:
        from pathstats_pipeline.defs import launch

        launch.prepare_home(settings.home)
        with s3_of(settings), sqs_of(settings):
            sys.exit(serving.serve(host, port, settings.absolute_environment(), lock))


@cli.command()
def probe() -> None:
    """Ask the archive's S3 store what it honours, by a few small requests. Fails where it can't be trusted."""
    settings = load_settings()
    with s3_of(settings):
        found = probe_store(s3_client(settings), settings.bucket, settings.s3_prefix)
    report.probed(found)
    if problem := found.problem(looks_first=settings.s3_looks_first):
        raise click.ClickException(problem)


@cli.command("s3")
@click.argument("verb", type=click.Choice(["start", "stop"]))
def local_server(verb: str) -> None:
    """Start the local S3 server, to stay, or stop it; commands that need it start it for as long as one uses it."""
    settings = load_settings()
    server = local_s3_of(settings)
    if verb == "stop":
        server.stop()
        return
    server.start()
    server.ensure_bucket(settings.bucket)
    report.say(f"{server.endpoint_url}, bucket {settings.bucket}")


def _window(start: dt.datetime, end: dt.datetime) -> Window:
    if end <= start:
        raise click.UsageError(f"--to {end:%Y-%m-%dT%H:%M} must lie after --from {start:%Y-%m-%dT%H:%M}")
    return Window(start, end)


for command in (
    archive_commands.archive,
    archive_commands.verify,
    archive_commands.restore,
    archive_commands.recover,
    archive_commands.backup,
    archive_commands.cleanup,
    archive_commands.hold,
    archive_commands.status,
    metrics_command.metrics,
    queue_commands.queue,
    watch_command.watch,
):
    cli.add_command(command)


def _full_disk() -> str:
    """What errors of SQLite, where Dagster keeps its runs, leave out."""
    with contextlib.suppress(Exception):
        home = load_settings().home
        if shutil.disk_usage(home).free < _NO_ROOM_BYTES:
            return f"; the disk of {home} is full"
    return ""


def main() -> None:
    """Run the command line; any error is one line on stderr (and a traceback only with PATHSTATS_TRACEBACK set)."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        where = f"{error.ctx.command_path}: " if isinstance(error, click.UsageError) and error.ctx else ""
        print(f"pathstats: error: {where}{report.visible(error.format_message())}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("pathstats: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the promise is one line, whatever happens
        if os.environ.get("PATHSTATS_TRACEBACK"):
            traceback.print_exc()
        said = " ".join(str(error).split()) or type(error).__name__
        print(f"pathstats: error: {report.visible(said)}{_full_disk()}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
