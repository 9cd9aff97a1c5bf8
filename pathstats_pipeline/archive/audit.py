"""Looking over the archive of a range of days: every object read back, and S3 held against the warehouse's records.

Changes nothing, and goes on whatever it finds: each finding is a line with its kind. What can't be listed or read is
"unverified"; nobody may conclude from it that something is gone.
"""

import dataclasses
import datetime as dt
import enum
import os.path
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pathstats_pipeline.archive import keys
from pathstats_pipeline.archive.day import verify_generation
from pathstats_pipeline.archive.lifecycle import UNFINISHED, State
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import MissingObjectError, Objects, ObjectsError
from pathstats_pipeline.storage.warehouse import Warehouse

_COMPARED: Final = ("rows", "raw_bytes", "sha256", "first_event_time", "last_event_time", "archived_at", "verified_at")


class Kind(enum.StrEnum):
    """What a finding means."""

    OK = "ok"
    """An object was read back, and is the one that its manifest describes."""
    WRONG = "WRONG"
    """An object or a manifest is missing, or isn't what it should be."""
    UNVERIFIED = "unverified"
    """It could not be listed or read, so nothing is known of it."""
    DRIFT = "drift"
    """S3 and the warehouse's records disagree."""
    UNCOMMITTED = "uncommitted, not ours to remove"
    """An object that no manifest names: a run that died, or another's. It counts as nothing."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of an audit."""

    kind: Kind
    text: str

    @property
    def is_bad(self) -> bool:
        """Whether somebody must see to it."""
        return self.kind not in {Kind.OK, Kind.UNCOMMITTED}

    def __str__(self) -> str:
        return f"{self.text}: {self.kind}"


@dataclasses.dataclass(frozen=True)
class Memory:
    """What the warehouse remembers of the archive: `pathstats.archives`, and the last state of each generation."""

    archives: Mapping[tuple[dt.date, int], Mapping[str, Any]]
    states: Mapping[tuple[dt.date, int], State]

    def committed(self, day: dt.date) -> set[int]:
        """The generations of a day that must have a manifest."""
        gone = UNFINISHED | {State.ABANDONED}
        by_state = {number for (date, number), state in self.states.items() if date == day and state not in gone}
        return by_state | {number for date, number in self.archives if date == day}


def memory_of(warehouse: Warehouse) -> Memory:
    """What the warehouse remembers."""
    rows = warehouse.archives().to_dicts()
    return Memory({(row["date"], row["generation"]): row for row in rows}, warehouse.generation_states())


def audit(objects: Objects, window: Window, memory: Memory | None) -> Iterator[Finding]:
    """Everything that is found of the archived days of a window, object by object, day by day."""
    days = list(window.days())
    remembered = {day for day, _ in (*memory.archives, *memory.states)} if memory else set()
    try:
        manifests, bodies = (_by_day(objects, folder, days) for folder in (keys.manifest_folder, keys.object_folder))
    except ObjectsError as error:
        yield Finding(Kind.UNVERIFIED, f"{days[0]} to {days[-1]}: {error}")
        return
    for day in days:
        if day in remembered or day in manifests or day in bodies:
            yield from _Day(objects, day, manifests.get(day, ()), bodies.get(day, ()), memory).findings()


def _by_day(objects: Objects, folder: Any, days: Sequence[dt.date]) -> dict[dt.date, list[str]]:
    """The keys below the folders of these days; one listing, whether there is one day or 4,000."""
    folders = {folder(day): day for day in days}
    found: dict[dt.date, list[str]] = {}
    # Characters, not components: dt=2026-11-0 is a prefix as good as any.
    prefix = os.path.commonprefix([folder(days[0]), folder(days[-1])])  # noqa: RUF071
    for key in objects.list(prefix):
        if day := folders.get(f"{key.rpartition('/')[0]}/"):
            found.setdefault(day, []).append(key)
    return found


@dataclasses.dataclass(frozen=True)
class _Day:
    """A day's keys on S3, and what is remembered of it."""

    objects: Objects
    day: dt.date
    manifest_keys: Sequence[str]
    object_keys: Sequence[str]
    memory: Memory | None

    def findings(self) -> Iterator[Finding]:
        manifests: dict[int, Manifest] = {}
        hidden = self._hidden()
        for key in (*filter(keys.is_manifest_key, self.manifest_keys), *hidden):
            finding = self._read(key, manifests)
            if finding:
                yield finding
        yield from (Finding(Kind.UNVERIFIED, f"{key}: is there, but isn't listed; may we list?") for key in hidden)
        yield from (self._verified(manifest) for _, manifest in sorted(manifests.items()))
        named = {manifest.key for manifest in manifests.values()}
        yield from (Finding(Kind.UNCOMMITTED, key) for key in self.object_keys if key not in named)
        yield from self._missing(manifests)
        if self.memory:
            yield from self._drift(self.memory, manifests)

    def _hidden(self) -> list[str]:
        """Manifests that are remembered, are there, and aren't listed."""
        expected = [keys.manifest_key(self.day, number) for number in sorted(self._committed())]
        return [key for key in expected if key not in self.manifest_keys and self._is_there(key)]

    def _committed(self) -> set[int]:
        return self.memory.committed(self.day) if self.memory else set()

    def _is_there(self, key: str) -> bool:
        try:
            return self.objects.get(key) is not None
        except ObjectsError:
            return False

    def _read(self, key: str, manifests: dict[int, Manifest]) -> Finding | None:
        """Read a manifest into `manifests`, or say why not."""
        try:
            manifest = Manifest.from_json(self.objects.get(key) or b"")
        except ManifestError as error:
            return Finding(Kind.WRONG, f"{key}: {error}")
        except ObjectsError as error:
            return Finding(Kind.UNVERIFIED, f"{key}: {error}")
        if keys.manifest_key(manifest.date, manifest.generation) != key:
            return Finding(Kind.WRONG, f"{key}: says that it is g{manifest.generation:04d} of {manifest.date}")
        manifests[manifest.generation] = manifest
        return None

    def _verified(self, manifest: Manifest) -> Finding:
        try:
            facts = verify_generation(self.objects, manifest)
        except MissingObjectError:
            return Finding(Kind.WRONG, f"{manifest.key}: does not exist")
        except VerificationError as error:
            return Finding(Kind.WRONG, str(error))
        except ObjectsError as error:
            return Finding(Kind.UNVERIFIED, f"{manifest.key}: {error}")
        return Finding(
            Kind.OK, f"{manifest.key}: {manifest.rows} events, {facts.size_bytes} bytes, sha256 {facts.sha256}"
        )

    def _missing(self, manifests: Mapping[int, Manifest]) -> Iterator[Finding]:
        """Generations are numbered without gaps, but for those that were abandoned."""
        states = self.memory.states if self.memory else {}
        for number in range(1, max(manifests, default=0)):
            read = keys.manifest_key(self.day, number) in self.manifest_keys
            if number not in manifests and not read and states.get((self.day, number)) is not State.ABANDONED:
                yield Finding(Kind.WRONG, f"{keys.manifest_key(self.day, number)}: does not exist, but later ones do")

    def _drift(self, memory: Memory, manifests: Mapping[int, Manifest]) -> Iterator[Finding]:
        known = {*manifests, *(self._number(key) for key in self.manifest_keys)}
        for number in sorted(self._committed() - known):
            yield Finding(
                Kind.DRIFT, f"{self._name(number)}: the warehouse says that it is committed, S3 has no manifest"
            )
        for number, manifest in sorted(manifests.items()):
            row = memory.archives.get((self.day, number))
            if row is None:
                text = "is not in pathstats.archives; materialise archive_metadata"
                yield Finding(Kind.DRIFT, f"{self._name(number)}: {text}")
            elif different := _differences(row, manifest):
                yield Finding(
                    Kind.DRIFT, f"{self._name(number)}: pathstats.archives has another {', '.join(different)}"
                )
            if (self.day, number) not in memory.states:
                text = "is not in pathstats.archive_steps; materialise events_archive"
                yield Finding(Kind.DRIFT, f"{self._name(number)}: {text}")

    def _number(self, key: str) -> int:
        return int(key.rpartition("/g")[2].removesuffix(".json")) if keys.is_manifest_key(key) else 0

    def _name(self, number: int) -> str:
        return f"{self.day} g{number:04d}"


def _differences(row: Mapping[str, Any], manifest: Manifest) -> list[str]:
    pairs = {name: getattr(manifest, name) for name in _COMPARED}
    pairs |= {"bytes": manifest.size_bytes, "digest": manifest.digest.hex, "strategy": manifest.strategy.value}
    different = [name for name, value in pairs.items() if row[name] != value]
    return different if str(row["uri"]).endswith(f"/{manifest.key}") else [*different, "uri"]
