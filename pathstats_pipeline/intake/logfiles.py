"""What a log file is, wherever it stands: a path of this machine, or an object of a bucket.

Add another place where logs stand here: `LogFile` is all that the intake asks of it. What is in a file is the business
of lines.py; which of it was ingested before, of sources.py.
"""

import dataclasses
import datetime as dt
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake.lines import Source, SourceError, SourceGoneError, open_source, uncompressed
from pathstats_pipeline.storage.objects import MissingObjectError, ObjectsError, VersionedObjects

SETTLED_AFTER: Final = dt.timedelta(seconds=60)
"""Buffers of servers and log shippers are flushed sooner: a line that is still half after that stays half."""
CLOCK_OFF: Final = dt.timedelta(days=1)
"""A file that was written to so far in the future was so by another clock than ours, which says nothing."""
_BUFFER_BYTES: Final = 1 << 20
_OBJECT: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<key>.*))?", re.DOTALL)
_NOT_A_LOG: Final = re.compile(r"\..*|.*(\.tmp|\.swp|\.part|~)", re.DOTALL)


def printable(path: str) -> str:
    """The same path but for bytes that aren't UTF-8: they come as surrogates, which neither hashes nor tables take."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class LogFile(Protocol):
    """A file of log lines that can be read several times."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def identity(self) -> str:
        """The path by which a short file is known, the same before and after it is compressed; see sources.py."""

    def open(self) -> Source:
        """The lines, uncompressed; `version` of the source says which file stood there. Raises SourceError."""

    def may_grow(self, now: dt.datetime) -> bool:
        """Whether somebody may still be writing to it, so that a last line without its end may be half a line."""


@dataclasses.dataclass(frozen=True)
class PathLogFile:
    """A file of this machine; its inode tells which file stands at the path."""

    path: pathlib.Path

    @property
    def name(self) -> str:
        """The path as it was given."""
        return printable(str(self.path))

    @property
    def identity(self) -> str:
        """The path without symlinks and without what compressing adds."""
        return _before_compression(str(self.path.resolve()))

    def open(self) -> Source:
        """The file."""
        return open_source(self.path)

    def may_grow(self, now: dt.datetime) -> bool:
        """Whether it was written to a moment ago, or isn't there any more: then its writer may follow it."""
        try:
            written = naive_utc(dt.datetime.fromtimestamp(self.path.stat().st_mtime, dt.UTC))
        except OSError:
            return True
        return -CLOCK_OFF < now - written <= SETTLED_AFTER


@dataclasses.dataclass(frozen=True)
class ObjectLogFile:
    """An object of a bucket; it is complete when it can be seen, and streamed whenever it is read."""

    objects: VersionedObjects
    key: str

    @property
    def name(self) -> str:
        """`s3://bucket/key`."""
        return f"{self.objects.uri}/{self.key}"

    @property
    def identity(self) -> str:
        """The URI without what compressing adds."""
        return _before_compression(self.name)

    def open(self) -> Source:
        """The answer to a get."""
        try:
            stream = self.objects.open_version(self.key)
        except MissingObjectError as error:
            raise SourceGoneError(str(error)) from error
        except ObjectsError as error:
            raise SourceError(str(error)) from error
        return uncompressed(io.BufferedReader(stream, _BUFFER_BYTES), self.name, stream.version)

    def may_grow(self, now: dt.datetime) -> bool:  # noqa: ARG002 - of the protocol
        """Never."""
        return False


def _before_compression(path: str) -> str:
    return printable(path).removesuffix(".gz").removesuffix(".zst")


def is_log_name(path: str) -> bool:
    """Whether the last part of a path may be a log: not a folder, hidden, or what editors and shippers write first."""
    name = path.rpartition("/")[2]
    return bool(name) and not _NOT_A_LOG.fullmatch(name)


def in_bucket(name: str) -> tuple[str, str] | None:
    """Bucket and key of `s3://bucket/key`; None for a path. Raises SourceError where no bucket is named."""
    if not name.startswith("s3://"):
        return None
    match = _OBJECT.fullmatch(name)
    if match is None:
        raise SourceError(f"{name}: names no bucket: write s3://bucket/key or s3://bucket/prefix/")
    return match["bucket"], match["key"] or ""


def find_log_files(names: Iterable[str], bucket: Callable[[str], VersionedObjects]) -> tuple[list[LogFile], list[str]]:
    """The log files that names stand for, and one line for each name that stands for none.

    A name is a path, an object, or a prefix that ends with a slash: the objects below it.
    """
    found: list[LogFile] = []
    problems = []
    for name in names:
        try:
            place = in_bucket(name)
            found.extend(_objects_at(name, bucket(place[0]), place[1]) if place else [PathLogFile(pathlib.Path(name))])
        except (SourceError, ObjectsError) as error:
            problems.append(str(error))
    return found, problems


def _objects_at(name: str, objects: VersionedObjects, key: str) -> list[ObjectLogFile]:
    if key and not key.endswith("/"):
        return [ObjectLogFile(objects, key)]
    keys = [version.key for version in objects.versions(key) if is_log_name(version.key)]
    if not keys:
        raise SourceError(f"{name}: there are no objects")
    return [ObjectLogFile(objects, key) for key in keys]
