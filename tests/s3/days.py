"""A day on the strict server: the world of tests/archive, its recipes, and what must hold after a failure."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest
from archive.fake_objects import FakeObjects
from archive.worlds import DAY, WINDOW, World, world

from pathstats_pipeline.archive.claims import ClaimedError
from pathstats_pipeline.archive.cleanup import CleanupRefusedError
from pathstats_pipeline.archive.keys import manifest_key, object_key
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, digest_of_loads
from pathstats_pipeline.archive.manifest import ManifestError
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.storage.objects import ObjectsError

from .stores import Strict

CLEAN_FAILURES: Final = (
    ArchiveRefusedError,
    ArchiveError,
    ClaimedError,
    CleanupRefusedError,
    ManifestError,
    ObjectsError,
    VerificationError,
)
"""What may be raised: one line each."""


class Thirds(SizeRule):
    """Three parts for the small day of the tests; `copy_of` lowers the server's floor to them."""

    def part_bytes(self, rows: int) -> int:
        """So small that the day is three parts."""
        return PART_BYTES + 0 * rows


PART_BYTES: Final = 600
THREE_PARTS: Final = Thirds(multipart_mb=0)
ONE_PUT: Final = SizeRule()
RULES: Final = pytest.mark.parametrize("rule", [ONE_PUT, THREE_PARTS], ids=["single", "3 parts"])
"""Both ways of an object to the server."""
ROWS: Final = 40


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A directory with a day that is ready to be archived, its events, and the key that its object will have."""

    directory: pathlib.Path
    accepted: Counter[str]
    key: str


def prepare(directory: pathlib.Path) -> Prepared:
    """Two hours of events in the warehouse and the landing zone, with their statistics."""
    with world(directory, FakeObjects()) as here:
        here.bring(0, "a", ROWS // 2)
        here.bring(5, "b", ROWS // 2)
        here.build_statistics()
        digest = digest_of_loads(here.warehouse.loads(WINDOW))
        return Prepared(directory, here.accepted, object_key(DAY, 1, digest))


@contextlib.contextmanager
def copy_of(prepared: Prepared, to: pathlib.Path, strict: Strict) -> Iterator[World]:
    """The prepared day in a directory of its own, on the strict server, which takes parts as small as the day's."""
    strict.server.part_floor = PART_BYTES
    shutil.copytree(prepared.directory, to)
    with world(to, strict.objects) as here:
        here.accepted = prepared.accepted.copy()
        yield here
    shutil.rmtree(to)


def is_one_line(error: BaseException) -> bool:
    """Whether an error is what an operator can read."""
    return len(str(error).splitlines()) == 1


def assert_nothing_lost(here: World, strict: Strict) -> None:
    """Every event is still in the warehouse; nothing was asked to be deleted; no manifest stands."""
    assert here.hot() == here.accepted
    assert not {"Delete", "DeleteMany"} & set(strict.server.verbs())
    assert strict.kept("metadata/") == {}


def assert_finishes(here: World, strict: Strict, rule: SizeRule) -> None:
    """A run with nothing in its way ends with one object, one manifest, nothing pending, and the day cleaned up."""
    strict.heal()
    (manifest,) = here.archive(rule)
    here.clean()
    here.assert_invariants(cleaned=True)
    assert here.hot().total() == 0
    assert sorted(key for key in strict.kept() if not key.startswith("claims/")) == [
        manifest.key,
        manifest_key(DAY, 1),
    ]
    assert [upload for upload in strict.bucket.uploads.values() if upload.key == f"archive/{manifest.key}"] == []
