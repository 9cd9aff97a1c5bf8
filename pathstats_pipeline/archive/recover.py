"""A warehouse that was lost: its ledger made anew from the archive, so that it knows again what was cleaned up.

Every event that a manifest names is entered as deleted from the warehouse, whether clean-up had come to it or not: it
is read from the archive from then on, is absorbed when it comes again, and can't be archived or deleted twice. What no
manifest names stands in the landing zone, and is loaded from there as always. Statistics are built anew from both.

Add here what must be known of a day before its hours may be built again; statistics themselves are no business of it.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from pathstats_pipeline.archive import keys
from pathstats_pipeline.archive.day import archived_events, manifests_of
from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_lines
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, State, is_covered
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.loading import UnreadableLoadError, read_load
from pathstats_pipeline.storage.landing import LandedFile, Landing, LandingError
from pathstats_pipeline.storage.objects import Objects, ObjectsError
from pathstats_pipeline.storage.warehouse import Warehouse

_PROBLEMS = (ArchiveRefusedError, ManifestError, VerificationError, ObjectsError, LandingError, UnreadableLoadError)


@dataclasses.dataclass(frozen=True)
class RecoveredDay:
    """What became of an archived day: the events and loads that were entered now, or why it was left as it is."""

    date: dt.date
    generations: int = 0
    loads: int = 0
    events: int = 0
    problem: str | None = None


def recover(
    warehouse: Warehouse, objects: Objects, landing: Landing, clock: Callable[[], dt.datetime]
) -> Iterator[RecoveredDay]:
    """Enter every archived day in the ledger of a warehouse that doesn't know it; yields day after day.

    Each object is read back to its end first. A day that can't be read, or of which the warehouse has loads that
    contradict the archive, is left as it is, and says why; the others go on. A second run enters nothing, and one that
    died is finished by the next. Raises ObjectsError when the archive can't be listed.
    """
    for date in keys.archived_days(objects.list(keys.MANIFESTS)):
        try:
            yield _Day(warehouse, objects, landing, date, clock).recovered()
        except _PROBLEMS as error:
            yield RecoveredDay(date, problem=" ".join(str(error).split()))


@dataclasses.dataclass(frozen=True)
class _Day:
    warehouse: Warehouse
    objects: Objects
    landing: Landing
    date: dt.date
    clock: Callable[[], dt.datetime]

    def recovered(self) -> RecoveredDay:
        manifests = manifests_of(self.objects, self.date)
        by_load = {facts.load: facts for facts in self.warehouse.loads(Window.of_day(self.date))}
        lost = [manifest for manifest in manifests if not set(manifest.loads) <= set(by_load)]
        self._refuse_contradictions(manifests, lost, by_load)
        self.landing.mark_day(self.date)
        for manifest in lost:
            self._enter(manifest)
        recorded = {record.number for record in self.warehouse.generation_records(self.date)}
        for manifest in manifests:
            if manifest.generation not in recorded:
                self.warehouse.record_generation(self.date, manifest.generation, State.MANIFESTED, None, self.clock())
        uris = [f"{self.objects.uri}/{manifest.key}" for manifest in manifests]
        self.warehouse.record_archives(self.date, manifests, uris)
        loads = sum(len(manifest.loads) for manifest in lost)
        return RecoveredDay(self.date, len(lost), loads, sum(manifest.rows for manifest in lost))

    def _refuse_contradictions(
        self, manifests: Sequence[Manifest], lost: Sequence[Manifest], by_load: Mapping[Load, LoadFacts]
    ) -> None:
        """Refuse a day of which the warehouse has loads that may hold archived events under other names."""
        way_out = "to recover it, begin with an empty warehouse (docs/operations.md)"
        named = {load for manifest in lost for load in manifest.loads}
        if known := named & set(by_load):
            raise ArchiveRefusedError(
                f"the warehouse knows {len(known)} of {len(named)} loads of generations that it lost; {way_out}"
            )
        archived = {load for manifest in manifests for load in manifest.loads}
        hours = {load.hour for load in named}
        if later := [load for load in sorted(set(by_load) - archived) if load.hour in hours]:
            raise ArchiveRefusedError(
                f"load {later[0]} came before its hour was recovered, and may hold archived events; {way_out}"
            )
        for manifest in manifests:
            if manifest not in lost and not is_covered(manifest, by_load):
                raise ArchiveRefusedError(
                    f"g{manifest.generation:04d} covers other events than the warehouse has of its loads; {way_out}"
                )

    def _enter(self, manifest: Manifest) -> None:
        files = {
            file.load: file
            for hour in sorted({load.hour for load in manifest.loads})
            for file in self.landing.files(hour)
            if not file.rejected
        }
        facts = ledger_of(manifest, archived_events(self.objects, [manifest]))
        rejected = ((each, self._rejected(files.get(each.load))) for each in facts)
        self.warehouse.recover_loads(rejected, self.clock())

    def _rejected(self, file: LandedFile | None) -> Iterator[pl.DataFrame]:
        """The rows of a landing file that are no events: clean-up will take the file away, so they are kept now."""
        if file is not None:
            with self.landing.local_copy(file) as path:
                for _, refused in read_load(path, file):
                    yield refused


@dataclasses.dataclass
class _Hour:
    """What an object holds of an hour."""

    digest: Digest
    first: dt.datetime
    last: dt.datetime


def ledger_of(manifest: Manifest, batches: Iterator[pl.DataFrame]) -> list[LoadFacts]:
    """The loads of a generation as the ledger has them once clean-up is done with them, in their order.

    An object tells hours apart, not loads: all events of an hour are entered under its first load, and the others of
    the generation's hour have none. Their sums are what they were. Raises ManifestError for events of an hour that the
    manifest names no load of, and what reading the batches raises.
    """
    hours = _hours_of(batches)
    found = []
    for load in sorted(manifest.loads):
        hour = hours.pop(load.hour, None)
        if hour is None:
            found.append(LoadFacts(load, 0, 0, 0, Digest().hex))
            continue
        rows = hour.digest.rows
        found.append(LoadFacts(load, rows, 0, 0, hour.digest.hex, hour.first, hour.last, deleted_rows=rows))
    if hours:
        raise ManifestError(f"{manifest.key}: has events of {min(hours):%H}:00, but no load of that hour")
    return found


def _hours_of(batches: Iterator[pl.DataFrame]) -> dict[dt.datetime, _Hour]:
    hours: dict[dt.datetime, _Hour] = {}
    for batch in batches:
        for (start,), events in batch.group_by(pl.col("event_time").dt.truncate("1h")):
            low, high = events.select(low=pl.col("event_time").min(), high=pl.col("event_time").max()).row(0)
            hour = hours.setdefault(start, _Hour(Digest(), low, high))
            hour.digest += digest_of(to_lines(events))
            hour.first, hour.last = min(hour.first, low), max(hour.last, high)
    return hours
