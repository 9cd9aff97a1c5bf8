"""Where log shippers drop files: a directory with what is below it, or a prefix of a bucket; what stands there now.

Here: listing, cheaply and in whatever state the place is. Nothing is opened. What becomes of what is found is decided
in watching.py.
"""

import dataclasses
import fnmatch
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Protocol

from pathstats_pipeline.intake.logfiles import LogFile, ObjectLogFile, PathLogFile, is_log_name
from pathstats_pipeline.storage.objects import ObjectsError, VersionedObjects

Stamp = tuple[int | str, ...]
"""What changes when a file does: size, times and inode, or ETag and size."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file that stands in a place, or, with a `problem`, a part of the place that can't be listed."""

    name: str
    stamp: Stamp = ()
    problem: str = ""


class Place(Protocol):
    """Somewhere that files come to, and go from."""

    @property
    def name(self) -> str:
        """What people call it."""

    def find(self) -> Iterator[Found]:
        """What stands there now, each file once."""

    def log_file(self, name: str) -> LogFile:
        """The file of a name that was found."""


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory and all directories below it, also behind symlinks, each once.

    `but` are directories that are left alone, whatever leads to them: our own.
    """

    root: pathlib.Path
    pattern: str | None = None
    but: tuple[pathlib.Path, ...] = ()

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.root)

    def log_file(self, name: str) -> LogFile:
        """The file at a path."""
        return PathLogFile(pathlib.Path(name))

    def find(self) -> Iterator[Found]:
        """The regular files; what vanishes meanwhile isn't there."""
        visited = {identity for path in self.but if (identity := _identity(path))}
        folders = [str(self.root)]
        while folders:
            folder = folders.pop()
            identity = _identity(folder)
            if identity in visited:
                continue
            if identity:
                visited.add(identity)
            try:
                with os.scandir(folder) as entries:
                    yield from self._files(entries, folders)
            except FileNotFoundError:
                if folder == str(self.root):
                    yield Found(folder, problem=f"{folder}: there is no such directory; waiting for it")
            except OSError as error:
                yield Found(folder, problem=f"{folder}: {error.strerror or error}")

    def _files(self, entries: Iterable["os.DirEntry[str]"], folders: list[str]) -> Iterator[Found]:
        """The files of a directory; the directories in it are added to those still to be looked into."""
        for entry in entries:
            if not is_log_name(entry.name):
                continue
            try:
                status = entry.stat()
            except OSError:  # gone, or a symlink to nothing, or one in a circle
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and _matches(entry.path, str(self.root), self.pattern):
                # The change time moves with permissions, too: a file that couldn't be read is tried again.
                yield Found(entry.path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The objects below a prefix of a bucket; an object is complete when it can be seen.

    `prefix` is empty or ends with a slash. `but` are prefixes that are left alone: our own.
    """

    objects: VersionedObjects
    prefix: str = ""
    pattern: str | None = None
    but: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`s3://bucket/prefix/`."""
        return f"{self.objects.uri}/{self.prefix}"

    def log_file(self, name: str) -> LogFile:
        """The object under a key."""
        return ObjectLogFile(self.objects, name)

    def find(self) -> Iterator[Found]:
        """The objects, as far as they can be listed."""
        try:
            for version in self.objects.versions(self.prefix):
                parts = version.key.removeprefix(self.prefix).split("/")
                if (
                    all(map(is_log_name, parts))
                    and not version.key.startswith(self.but)
                    and _matches(version.key, self.prefix, self.pattern)
                ):
                    yield Found(version.key, (version.etag, version.size_bytes))
        except ObjectsError as error:
            yield Found(self.name, problem=str(error))


def _identity(path: pathlib.Path | str) -> tuple[int, int] | None:
    """Which directory stands at a path; None for one that isn't there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of many directories costs more than the call
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _matches(path: str, root: str, pattern: str | None) -> bool:
    """Whether the file name, or the path below the root for a pattern with a slash, is like the pattern."""
    if pattern is None:
        return True
    name = path.removeprefix(root).lstrip("/") if "/" in pattern else path.rpartition("/")[2]
    return fnmatch.fnmatchcase(name, pattern)
