"""The command that follows a directory or a prefix of a bucket. What it does stands in intake/watching.py.

Here: from what the user typed to a watcher, the loop over its passes, and its end.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import click

from pathstats_pipeline import report
from pathstats_pipeline.archive.keys import FOLDERS as ARCHIVE_FOLDERS
from pathstats_pipeline.intake.choice import FORMAT_NAMES, format_chooser
from pathstats_pipeline.intake.ingest import Intake, first_hour
from pathstats_pipeline.intake.logfiles import in_bucket
from pathstats_pipeline.intake.places import Directory, Place, Prefix
from pathstats_pipeline.intake.watching import Watcher
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.storage.connect import bucket_objects, landing_zone, s3_client
from pathstats_pipeline.storage.landing import FOLDERS as LANDING_FOLDERS
from pathstats_pipeline.terminal import intake_lock, now, s3_of, stop_on_signals

LOCK_SECONDS = 1.0
"""How long the intake is waited for at a time: a signal to stop is seen in between."""


@click.command()
@click.argument("place")
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds between passes."
)
@click.option("--once", is_flag=True, help="One pass; fails where a file can't be read.")
@click.option("--format", "format_name", type=click.Choice(FORMAT_NAMES), default="auto", show_default=True)
@click.option("--map", "map_file", type=click.Path(path_type=pathlib.Path), help="Field map for JSON lines (TOML).")
@click.option("--pattern", help="Only files whose name is like this, or whose path below PLACE where it has a slash.")
def watch(
    place: str, every: float, format_name: str, map_file: pathlib.Path | None, pattern: str | None, *, once: bool
) -> None:
    """Follow PLACE, a directory or s3://bucket/prefix, and ingest the log files that are dropped there.

    Each line once: files may grow, be renamed, rotated and compressed. A last line that is still being written is left
    until it is whole, or nobody has written for a minute. Hidden files, *.tmp, *.swp, *.part and *~ are left alone.
    SIGTERM or SIGINT stops after the file in hand.
    """
    settings = load_settings()
    chooser = format_chooser(format_name, map_file)
    uses_s3 = any(name.startswith("s3://") for name in (settings.landing_uri, place))
    with s3_of(settings) if uses_s3 else contextlib.nullcontext(), stop_on_signals() as stop:
        landing = landing_zone(settings.landing_uri, lambda: s3_client(settings))
        intake = Intake(landing, first_hour(settings), now(), chooser)
        followed = _place(place, settings, pattern)
        watcher = Watcher(followed, intake, lambda: intake_lock(settings, LOCK_SECONDS), now, stop)
        while True:
            done = watcher.look()
            report.watched(done, now())
            if done.more and not stop.asked():
                continue
            if once and done.stuck:
                raise click.ClickException(f"{followed.name}: not all could be ingested")
            if once and done.unread:
                raise click.ClickException(f"{followed.name}: {done.unread} could not be read")
            if once or stop.wait(every):
                return


def _place(name: str, settings: Settings, pattern: str | None) -> Place:
    """What is followed, without what is ours in it."""
    where = in_bucket(name)
    if where is None:
        path = pathlib.Path(name)
        if path.exists() and not path.is_dir():
            raise click.UsageError(f"{name} is no directory: ingest a file with `pathstats ingest`")
        return Directory(path, pattern, (settings.home, pathlib.Path(settings.landing_uri)))
    bucket, key = where
    prefix = f"{key.rstrip('/')}/".lstrip("/")
    return Prefix(bucket_objects(settings, bucket), prefix, pattern, tuple(_ours(bucket, settings)))


def _ours(bucket: str, settings: Settings) -> Iterator[str]:
    """What the keys of the archive and of the landing zone begin with, where they are in the bucket."""
    places = [(settings.bucket, settings.s3_prefix, ARCHIVE_FOLDERS)]
    if settings.landing_uri.startswith("s3://"):
        uri = urlsplit(settings.landing_uri)
        places.append((uri.netloc, uri.path.strip("/"), LANDING_FOLDERS))
    for owner, prefix, folders in places:
        if owner == bucket:
            yield from (f"{prefix}/{folder}" if prefix else folder for folder in folders)
