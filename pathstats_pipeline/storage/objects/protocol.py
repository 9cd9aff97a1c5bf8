"""What a store of objects promises, and the errors in which it says that it can't keep it. No store stands here."""

import contextlib
import pathlib
from collections.abc import Iterable
from typing import BinaryIO, Protocol


class ObjectsError(RuntimeError):
    """The store can't do what was asked; one line that names the store, the verb and the key."""


class MissingObjectError(ObjectsError):
    """There is no object under the key."""


class Objects(Protocol):
    """A store of immutable objects under keys relative to its root."""

    @property
    def uri(self) -> str:
        """The root, for people."""

    @property
    def prefix(self) -> str:
        """What stands before every key where others see it; empty where nothing does."""

    def put(self, key: str, body: bytes) -> bool:
        """Create the object, durable on return; False when the key was taken, and nothing was changed."""

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """Create the object from a file; as `put`."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none."""

    def open(self, key: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A stream of the object's bytes; raises MissingObjectError when there is none."""

    def open_range(self, key: str, first: int, size: int) -> contextlib.AbstractContextManager[BinaryIO]:
        """A stream of `size` bytes of the object from `first` on; as `open`. Beyond its end: fewer, or ObjectsError."""

    def list(self, prefix: str) -> list[str]:
        """All keys that start with a prefix, sorted; unfinished objects are never seen."""

    def delete(self, key: str) -> None:
        """Delete the object; it isn't an error when there is none."""


class ArchiveObjects(Objects, Protocol):
    """A store that the archive can be written to: also takes an upload in parts."""

    def put_parts(self, key: str, parts: Iterable[bytes | bytearray]) -> bool:
        """Create the object from parts as they come; as `put`. Aborts the upload when anything fails."""

    def abort_uploads(self, key: str) -> int:
        """Abort the unfinished uploads to exactly this key, whoever began them; how many there were."""
