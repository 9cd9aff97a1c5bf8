"""An in-memory store of objects that the tests of the archive can make fail at any arrow.

Every verb passes two boundaries: one before the store does it, one after it did and before the answer is back. Keys
are create-only, as on the real stores; the contract pack (test_objects_contract.py) holds it to the same behaviour.
"""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pathstats_pipeline.storage.objects import MissingObjectError, ObjectsError


class KilledError(BaseException):
    """Stands for the death of the process: no `except Exception` may survive it."""


@dataclasses.dataclass
class Faults:
    """Counts the boundaries that are passed, and raises `error` at number `fail_at` (from 0), or at one of a name."""

    fail_at: int | None = None
    fail_on: str | None = None
    error: BaseException = dataclasses.field(default_factory=lambda: ObjectsError("the store is gone"))
    passed: list[str] = dataclasses.field(default_factory=list)

    def boundary(self, name: str) -> None:
        """Pass a boundary, or fail at it."""
        self.passed.append(name)
        if self.fail_at == len(self.passed) - 1 or (self.fail_on and name.startswith(self.fail_on)):
            raise self.error


@dataclasses.dataclass
class FakeObjects:
    """Objects in a dictionary."""

    stored: dict[str, bytes] = dataclasses.field(default_factory=dict)
    faults: Faults = dataclasses.field(default_factory=Faults)
    writes: list[str] = dataclasses.field(default_factory=list)
    part_sizes: list[int] = dataclasses.field(default_factory=list)
    ranges: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    @property
    def published(self) -> list[str]:
        """Keys of what was created here, claims left out, in their order."""
        return [key for key in self.writes if not key.startswith("claims/")]

    @property
    def uri(self) -> str:
        """The root, for people."""
        return "fake://archive"

    @property
    def prefix(self) -> str:
        """Nothing."""
        return ""

    @contextlib.contextmanager
    def _arrow(self, verb: str, key: str) -> Iterator[None]:
        self.faults.boundary(f"before {verb} {key}")
        yield
        self.faults.boundary(f"after {verb} {key}")

    def put(self, key: str, body: bytes) -> bool:
        """Create the object."""
        with self._arrow("put", key):
            created = key not in self.stored
            if created:
                self.stored[key] = body
                self.writes.append(key)
        return created

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """Create the object from a file."""
        return self.put(key, path.read_bytes())

    def put_parts(self, key: str, parts: Iterable[bytes | bytearray]) -> bool:
        """Create the object from parts; nothing is seen of it when the parts fail."""
        body = b""
        for part in parts:
            self.part_sizes.append(len(part))
            self.faults.boundary(f"part of {key}")
            body += part
        return self.put(key, body)

    def abort_uploads(self, key: str) -> int:
        """There are never any: parts are held in memory."""
        with self._arrow("abort the uploads of", key):
            return 0

    def get(self, key: str) -> bytes | None:
        """The object's bytes."""
        with self._arrow("get", key):
            return self.stored.get(key)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """A stream of the object's bytes."""
        with self._arrow("open", key):
            if key not in self.stored:
                raise MissingObjectError(f"{self.uri}/{key} does not exist")
        yield io.BytesIO(self.stored[key])

    @contextlib.contextmanager
    def open_range(self, key: str, first: int, size: int) -> Iterator[BinaryIO]:
        """A stream of a part of the object's bytes."""
        with self.open(key) as stream:
            part = stream.read()[first : first + size]
        self.ranges.append((key, len(part)))
        yield io.BytesIO(part)

    def list(self, prefix: str) -> list[str]:
        """All keys with a prefix."""
        with self._arrow("list", prefix):
            return sorted(key for key in self.stored if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._arrow("delete", key):
            self.stored.pop(key, None)
