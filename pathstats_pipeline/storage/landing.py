"""The landing zone: immutable loads of one hour each, and the records of which files were ingested.

Layout below the root, a directory or an S3 prefix:

    dt=YYYY-MM-DD/hour=HH/<load_id>.parquet            events (also .jsonl, .jsonl.gz, .parquet by anybody)
    _rejected/dt=YYYY-MM-DD/hour=HH/<load_id>.parquet  lines that could not become events
    _sources/<source_id>/<record>.json                 what the intake planned and finished, see intake/sources.py
    _days/YYYY-MM-DD                                   empty: the day has had loads, also when they are cleaned up
"""

import contextlib
import dataclasses
import datetime as dt
import itertools
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Final

import polars as pl

from pathstats_pipeline.events.load import Files, Load
from pathstats_pipeline.storage.objects import DirectoryObjects, Objects

FOLDERS: Final = ("dt=", "_rejected/", "_sources/", "_days/")
"""What every key begins with, below the landing zone's root."""
_LOAD: Final = re.compile(
    r"(?P<rejected>_rejected/)?dt=(?P<date>\d{4}-\d{2}-\d{2})/hour=(?P<hour>[01]\d|2[0-3])/"
    r"(?P<id>[^/]+?)(?P<form>\.parquet|\.jsonl\.gz|\.jsonl)"
)


class LandingError(ValueError):
    """Something in the landing zone breaks its rules; one line that names the file."""


@dataclasses.dataclass(frozen=True, order=True)
class LandedFile:
    """A file of the landing zone: the load it is, its key, and its form (`.parquet`, `.jsonl`, `.jsonl.gz`)."""

    load: Load
    key: str
    form: str
    rejected: bool


def load_key(load: Load, *, rejected: bool = False) -> str:
    """Where the intake puts a load."""
    folder = "_rejected/" if rejected else ""
    return f"{folder}dt={load.hour:%Y-%m-%d}/hour={load.hour:%H}/{load.load_id}.parquet"


@dataclasses.dataclass(frozen=True)
class Landing:
    """The landing zone on a store of objects."""

    objects: Objects

    def publish(self, load: Load, rows: pl.DataFrame, *, rejected: bool = False) -> bool:
        """Write a load; it is complete when it can be seen. False when it is there already, and then unchanged."""
        with tempfile.TemporaryDirectory(prefix="pathstats-load-") as folder:
            path = pathlib.Path(folder) / "load.parquet"
            # Dictionaries do most of it: the default level takes a seventh longer for some 3 % of the file.
            rows.write_parquet(path, compression="zstd", compression_level=1)
            return self.objects.put_file(load_key(load, rejected=rejected), path)

    def files(self, hour: dt.datetime) -> list[LandedFile]:
        """The loads of an hour, events first, each in the order of their ids.

        Raises LandingError when two files claim to be the same load.
        """
        folder = f"dt={hour:%Y-%m-%d}/hour={hour:%H}/"
        keys = self.objects.list(folder) + self.objects.list(f"_rejected/{folder}")
        found = sorted(filter(None, map(_parse, keys)), key=lambda file: (file.rejected, file.load, file.key))
        for one, other in itertools.pairwise(found):
            if (one.load, one.rejected) == (other.load, other.rejected):
                raise LandingError(f"{one.key} and {other.key} are the same load: rename one of them")
        return found

    def hours(self, day: dt.date) -> list[dt.datetime]:
        """The hours of a day that have files, in order."""
        return sorted({load.hour for load, _ in self.loads(day)})

    def days(self) -> list[dt.date]:
        """The days that have files, in order. On S3 that is a listing of all files of events, 1,000 a request."""
        if isinstance(self.objects, DirectoryObjects):
            roots = (self.objects.root, self.objects.root / "_rejected")
            names = {path.name.removeprefix("dt=") for root in roots for path in root.glob("dt=*")}
        else:
            names = {key[len("dt=") :].partition("/")[0] for key in self.objects.list("dt=")}
        return sorted(filter(None, map(_date, names)))

    def loads(self, day: dt.date) -> set[tuple[Load, bool]]:
        """The loads that landed of a day, and whether each is one of rejected lines."""
        folder = f"dt={day}/"
        keys = self.objects.list(folder) + self.objects.list(f"_rejected/{folder}")
        return {(file.load, file.rejected) for file in map(_parse, keys) if file}

    def landed(self) -> Files:
        """The loads that landed, of every day that has any."""
        return {day: loads for day in self.days() if (loads := self.loads(day))}

    def unknown_files(self, hour: dt.datetime) -> list[str]:
        """Keys in an hour's folder that are no loads, by their name."""
        return [key for key in self.objects.list(f"dt={hour:%Y-%m-%d}/hour={hour:%H}/") if not _parse(key)]

    @contextlib.contextmanager
    def local_copy(self, file: LandedFile) -> Iterator[pathlib.Path]:
        """A path at which the file can be read while the context is open."""
        if isinstance(self.objects, DirectoryObjects):
            yield self.objects.root / file.key
            return
        with tempfile.TemporaryDirectory(prefix="pathstats-landing-") as folder:
            path = pathlib.Path(folder) / f"load{file.form}"
            with self.objects.open(file.key) as body, path.open("wb") as copy:
                _copy(body, copy)
            yield path

    def mark_day(self, day: dt.date) -> None:
        """Remember that a day has had loads."""
        self.objects.put(f"_days/{day}", b"")

    def delete(self, file: LandedFile) -> None:
        """Remove a load's file; for clean-up, after its events are archived and deleted."""
        self.objects.delete(file.key)


def first_day(directory: pathlib.Path) -> dt.date | None:
    """The first day that ever had loads in a landing zone on a directory; None for an empty one."""
    names = [path.name.removeprefix("dt=") for path in [*directory.glob("dt=*"), *directory.glob("_days/*")]]
    return min(filter(None, map(_date, names)), default=None)


def _date(name: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(name)
    except ValueError:  # somebody else's folder
        return None


def _parse(key: str) -> LandedFile | None:
    match = _LOAD.fullmatch(key)
    if match is None:
        return None
    hour = dt.datetime.combine(dt.date.fromisoformat(match["date"]), dt.time(int(match["hour"])))
    return LandedFile(Load(hour, match["id"]), key, match["form"], rejected=bool(match["rejected"]))


def _copy(body: BinaryIO, copy: BinaryIO) -> None:
    while chunk := body.read(1 << 20):
        copy.write(chunk)
