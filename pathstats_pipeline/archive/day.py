"""The archive of a day: what lifecycle.py decides, done step by step, each recorded before the next; and read again.

Works on any store of objects that takes an upload in parts. The order of the steps is the safety: nothing is
committed that was not read back, and a manifest is the last thing written. Every step can be run again: keys are
create-only, and an object that is there already is judged by its content, since it may be our own write whose answer
was lost.
"""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator

import polars as pl

from pathstats_pipeline.archive import claims, keys, verify
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, Do, Generation, State, Step, next_step
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.publish import ArchiveError, Sent, publish
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import ArchiveObjects, MissingObjectError, Objects
from pathstats_pipeline.storage.reading import TooWideError
from pathstats_pipeline.storage.warehouse import Warehouse

BATCH_ROWS = 3_072
"""Rows on their way from the warehouse to S3 at a time. Twice as many take 12 MiB more, and win little."""
WIDE_BATCH_ROWS = 100
"""The same where rows are megabytes wide."""
STREAM_MEMORY_MB = 10
"""DuckDB's buffers while it streams; the day passes through them, it isn't kept in them."""
SORT_MEMORY_MB = 24
"""The same where an hour has several loads, which are sorted together a few batches at a time."""
WIDE_MEMORY_MB = 96
"""The same where either was too little."""


def manifests_of(objects: Objects, date: dt.date) -> list[Manifest]:
    """The manifests of a day, by generation; raises ManifestError naming the key of one that can't be read."""
    found = []
    for key in filter(keys.is_manifest_key, objects.list(keys.manifest_folder(date))):
        text = objects.get(key)
        if text is None:
            raise ManifestError(f"{objects.uri}/{key}: is listed, but isn't there")
        try:
            found.append(Manifest.from_json(text))
        except ManifestError as error:
            raise ManifestError(f"{objects.uri}/{key}: {error}") from None
    return sorted(found, key=lambda manifest: manifest.generation)


@dataclasses.dataclass
class Archiver:
    """Takes days through their archive; all of it can be run again, and by several at once.

    `on_step` hears of each step before it is taken.
    """

    warehouse: Warehouse
    objects: ArchiveObjects
    rule: SizeRule
    clock: Callable[[], dt.datetime]
    software_version: str
    claimant: claims.Claimant
    on_step: Callable[[Step], None] = lambda _: None

    def archive(self, date: dt.date) -> list[Manifest]:
        """Archive what no generation of a day covers yet; all manifests of the day, the new ones last.

        A second run writes nothing. A day without events has no manifest. Raises ArchiveRefusedError for a day that
        must not be archived, ClaimedError while somebody else archives it, and ArchiveError, VerificationError or
        ObjectsError, with nothing committed, when it fails.
        """
        claim: claims.Claim | None = None
        while True:
            manifests = manifests_of(self.objects, date)
            loads, records = self.warehouse.loads(Window.of_day(date)), self.warehouse.generation_records(date)
            step = next_step(date, self.clock(), loads, manifests, records, self.rule)
            if step.do is Do.NOTHING:
                return manifests
            self.on_step(step)
            if step.do in (Do.UPLOAD, Do.VERIFY, Do.COMMIT) and (claim is None or claim.generation != step.number):
                claim = claims.take(self.objects, date, step.number, self.claimant, self.clock)
            self._take(step, date, claim)

    def _take(self, step: Step, date: dt.date, claim: claims.Claim | None) -> None:
        if step.do is Do.CONFIRM:
            self._record(date, step.number, State.MANIFESTED)
        elif step.generation is None:
            raise AssertionError(f"no generation to {step.do}")
        elif step.do is Do.PLAN:
            self._record(date, step.number, State.PLANNED, step.generation.to_json())
        elif step.do is Do.ABANDON:
            self._record(date, step.number, State.ABANDONED)
        elif claim is None:
            raise AssertionError(f"no claim to {step.do}")
        elif step.do is Do.UPLOAD:
            self._upload(step.generation, claim)
        elif step.do is Do.VERIFY:
            self._verify(step.generation)
        else:
            self._commit(step.generation, claim)

    def _record(self, date: dt.date, number: int, state: State, document: str | None = None) -> None:
        self.warehouse.record_generation(date, number, state, document, self.clock())

    def _upload(self, plan: Generation, claim: claims.Claim) -> None:
        # Whoever began an upload to this very key before is dead, or was taken over by our claim.
        self.objects.abort_uploads(plan.key)
        is_sorted = len({load.hour for load in plan.loads}) < len(plan.loads)
        for megabytes in (SORT_MEMORY_MB if is_sorted else STREAM_MEMORY_MB, WIDE_MEMORY_MB):
            with contextlib.suppress(TooWideError), self.warehouse.limited(megabytes, threads=1):
                sent = self._publish(plan, claim, BATCH_ROWS)
                break
        else:
            # Events of megabytes each: rare enough to pay with memory, and no reason never to archive the day.
            sent = self._publish(plan, claim, WIDE_BATCH_ROWS)
        self._record(plan.date, plan.number, State.UPLOADED, sent.to_json())

    def _publish(self, plan: Generation, claim: claims.Claim, batch_rows: int) -> Sent:
        batches = self.warehouse.stream_lines(plan.loads, batch_rows)
        return publish(self.objects, plan, batches, claim.assert_held)

    def _verify(self, plan: Generation) -> None:
        archived_at = self.clock()
        try:
            facts = self._read_back(plan)
        except (verify.VerificationError, MissingObjectError) as error:
            # The next run uploads again; where the wrong bytes still stand, it says so again.
            self._record(plan.date, plan.number, State.PLANNED, plan.to_json())
            raise verify.VerificationError(f"{error}; if it is none of ours, remove it, and run again") from error
        sent = Sent.from_json(self.warehouse.generation_document(plan.date, plan.number, State.UPLOADED))
        manifest = Manifest(
            date=plan.date,
            generation=plan.number,
            key=plan.key,
            strategy=plan.strategy,
            size_bytes=facts.size_bytes,
            raw_bytes=facts.raw_bytes,
            sha256=facts.sha256,
            digest=facts.digest,
            first_event_time=plan.first_event_time,
            last_event_time=plan.last_event_time,
            loads=plan.loads,
            archived_at=archived_at,
            verified_at=self.clock(),
            software_version=self.software_version,
            # Another archive's object with the same rows may stand there, compressed by another release.
            hours=sent.hours if sent.sha256 == facts.sha256 else (),
        )
        text = manifest.to_json(self.objects.prefix).decode()
        self._record(plan.date, plan.number, State.VERIFIED, text)

    def _read_back(self, plan: Generation) -> verify.ObjectFacts:
        with self.objects.open(plan.key) as stream:
            facts = verify.inspect(stream, plan.key)
        if facts.digest != plan.digest:
            raise verify.VerificationError(
                f"{plan.key}: holds {facts.digest.rows} rows with digest {facts.digest.hex}, "
                f"not {plan.digest.rows} with {plan.digest.hex}"
            )
        return facts

    def _commit(self, plan: Generation, claim: claims.Claim) -> None:
        claim.assert_held()
        text = self.warehouse.generation_document(plan.date, plan.number, State.VERIFIED)
        key = keys.manifest_key(plan.date, plan.number)
        if self.objects.put(key, text.encode()):
            self._record(plan.date, plan.number, State.MANIFESTED)
            return
        standing = Manifest.from_json(self.objects.get(key) or b"")
        if (standing.key, standing.digest, standing.loads) != (plan.key, plan.digest, plan.loads):
            self._record(plan.date, plan.number, State.ABANDONED)
            raise ArchiveError(f"{key}: another archive of the same generation was committed meanwhile; run again")
        self._record(plan.date, plan.number, State.MANIFESTED)


def verify_generation(objects: Objects, manifest: Manifest) -> verify.ObjectFacts:
    """Read a generation's object back and hold it against its manifest; raises VerificationError or ObjectsError."""
    with objects.open(manifest.key) as stream:
        return verify.verify(stream, manifest)


def verified_manifests(objects: Objects, date: dt.date, warehouse: Warehouse | None = None) -> list[Manifest]:
    """The manifests of a day, every object of which was read back just now and is what its manifest says.

    Given the warehouse, also raises ArchiveRefusedError when the day has events of which none is archived. Raises
    VerificationError or ObjectsError for an object that isn't what it should be.
    """
    manifests = manifests_of(objects, date)
    if warehouse and not manifests and any(facts.rows for facts in warehouse.loads(Window.of_day(date))):
        raise ArchiveRefusedError(f"{date} has events, but none of them is archived")
    for manifest in manifests:
        verify_generation(objects, manifest)
    return manifests


def archived_events(objects: Objects, manifests: Iterable[Manifest]) -> Iterator[pl.DataFrame]:
    """The events of these generations, in batches.

    Raises VerificationError, once it is read to its end, for an object that isn't what its manifest says.
    """
    for manifest in manifests:
        with objects.open(manifest.key) as stream:
            yield from verify.read_events(stream, manifest)
