"""Versions of objects: for reading what others put into a bucket, where a key may be put again with other bytes.

Our own objects are immutable and need nothing of this. A version is told by its ETag and size, as the listing and the
answer to a get say them.
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol


@dataclasses.dataclass(frozen=True)
class ObjectVersion:
    """One version of the object under a key."""

    key: str
    size_bytes: int
    etag: str


class VersionStream(io.RawIOBase):
    """The bytes of one version as they come; closing it ends the request. Failures are raised in `errors`' words."""

    def __init__(
        self,
        body: BinaryIO,
        version: ObjectVersion,
        errors: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._body, self._errors = body, errors
        self.version = version

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 at the end of an object that came whole."""
        with self._errors():
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """End the request."""
        if not self.closed:
            self._body.close()
        super().close()


class VersionedObjects(Protocol):
    """A store that tells the versions of its objects apart."""

    @property
    def uri(self) -> str:
        """The root, for people."""

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """What stands under each key that starts with a prefix, as the pages of the listing come, in their order."""

    def open_version(self, key: str) -> VersionStream:
        """The version that stands there now, to read; raises MissingObjectError when there is none."""
