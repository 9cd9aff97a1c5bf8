"""Objects as files below a directory: for the landing zone of one machine, and for tests. Knows no S3."""

import contextlib
import dataclasses
import io
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, cast

from pathstats_pipeline.storage.objects.protocol import MissingObjectError, ObjectsError
from pathstats_pipeline.storage.section import Section

_COPY_BYTES: Final = 1 << 20
_TEMPORARY: Final = ".tmp-"


@dataclasses.dataclass(frozen=True)
class DirectoryObjects:
    """Objects as files below a directory; each is written under another name, synced, then linked into place."""

    root: pathlib.Path

    @property
    def uri(self) -> str:
        """The directory."""
        return str(self.root)

    @property
    def prefix(self) -> str:
        """Nothing."""
        return ""

    def put(self, key: str, body: bytes) -> bool:
        """Create the file from bytes."""
        return self._create(key, lambda file: shutil.copyfileobj(io.BytesIO(body), file))

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """Create the file as a copy of another."""
        with path.open("rb") as source:
            return self._create(key, lambda file: shutil.copyfileobj(source, file, _COPY_BYTES))

    def _create(self, key: str, write: Callable[[BinaryIO], None]) -> bool:
        path = self.root / key
        with _os_errors("write", path):
            if path.exists():
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            try:
                with temporary.open("xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                return _link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
                _sync_directory(path.parent)

    def get(self, key: str) -> bytes | None:
        """The file's bytes."""
        with _os_errors("read", self.root / key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """The file, open for reading."""
        with _os_errors("read", self.root / key):
            try:
                file = (self.root / key).open("rb")
            except FileNotFoundError:
                raise MissingObjectError(f"{self.root / key} does not exist") from None
        with file:
            yield file

    @contextlib.contextmanager
    def open_range(self, key: str, first: int, size: int) -> Iterator[BinaryIO]:
        """The file, from a position on."""
        with self.open(key) as file:
            file.seek(first)
            yield cast("BinaryIO", Section(file, 0, size))

    def list(self, prefix: str) -> list[str]:
        """Keys of the files whose key starts with the prefix, hidden ones left out."""
        folder = self.root / prefix.rpartition("/")[0]
        found = (path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted(key for key in found if key.startswith(prefix) and not key.rpartition("/")[2].startswith("."))

    def delete(self, key: str) -> None:
        """Remove the file."""
        with _os_errors("delete", self.root / key):
            (self.root / key).unlink(missing_ok=True)


def _link(temporary: pathlib.Path, path: pathlib.Path) -> bool:
    """Give a file its name; False where the name is taken. A rename would overwrite."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def _os_errors(verb: str, path: pathlib.Path) -> Iterator[None]:
    """Turn the system's errors into one line that says what was done to what."""
    try:
        yield
    except OSError as error:
        raise ObjectsError(f"cannot {verb} {path}: {error.strerror or error}") from error


def _sync_directory(folder: pathlib.Path) -> None:
    """Make a new name in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
