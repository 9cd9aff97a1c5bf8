"""Clean-up of a day: judge, read the archive back once more, then delete exactly what its manifests name.

Deleting is by loads, never by a predicate on the day: what came in the meantime belongs to other loads. Plan and run
are apart, and a dry run is the plan alone.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable

from pathstats_pipeline.archive.day import manifests_of, verified_manifests
from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_lines
from pathstats_pipeline.archive.lifecycle import (
    Retention,
    State,
    Verdict,
    digest_of_loads,
    is_covered,
    judge_cleanup,
)
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.landing import LandedFile, Landing
from pathstats_pipeline.storage.objects import Objects
from pathstats_pipeline.storage.warehouse import Warehouse

STREAM_ROWS = 20_000
"""Events that are compared with the ledger at a time, before they are deleted."""


class CleanupRefusedError(RuntimeError):
    """A day must not be cleaned up; one line with every reason. Nothing was deleted."""


@dataclasses.dataclass(frozen=True)
class CleanedDay:
    """What clean-up did: events deleted now, landing files removed now, generations that were read back before."""

    deleted_rows: int
    landing_files: int
    generations: int


def plan_cleanup(
    warehouse: Warehouse, objects: Objects, date: dt.date, now: dt.datetime, retention: Retention
) -> Verdict:
    """The verdict on a day, from the warehouse and the manifests on S3. Changes nothing.

    Holds in the warehouse count beside those of `retention`.
    """
    window = Window.of_day(date)
    return judge_cleanup(
        date,
        now,
        dataclasses.replace(retention, held={**warehouse.holds(), **retention.held}),
        loads=warehouse.loads(window),
        manifests=manifests_of(objects, date),
        requests_by_hour=warehouse.requests_by_hour(window),
    )


def clean_day(
    warehouse: Warehouse,
    objects: Objects,
    landing: Landing,
    verdict: Verdict,
    date: dt.date,
    batch_rows: int,
    clock: Callable[[], dt.datetime],
) -> CleanedDay:
    """Delete the events and then the landing files of the loads in a verdict.

    Every object of the day is read back first, and the events in the warehouse are held against the ledger; raises
    VerificationError, ObjectsError or CleanupRefusedError, with nothing deleted, when an object is not what its
    manifest says, or an event not the one that was archived. Raises CleanupRefusedError also for a verdict with
    reasons, and for a landing file that is still there although the store said that it was deleted. Runs again where it
    was interrupted: what is deleted already is not found again.
    """
    if verdict.reasons:
        raise CleanupRefusedError("; ".join(verdict.reasons))
    manifests = verified_manifests(objects, date)
    # The manifests were read for the verdict, too; what stands there now is what is deleted by.
    by_load = {facts.load: facts for facts in verdict.loads}
    if {load for manifest in manifests if is_covered(manifest, by_load) for load in manifest.loads} != set(by_load):
        raise CleanupRefusedError(f"{date}: the manifests have changed since the verdict; nothing was deleted")
    _refuse_changed(warehouse, verdict)
    states = {record.number: record.state for record in warehouse.generation_records(date)}
    going = [manifest.generation for manifest in manifests if states.get(manifest.generation) is not State.DELETED]
    for number in going:
        warehouse.record_generation(date, number, State.DELETING, None, clock())
    deleted = sum(warehouse.delete_load(facts.load, batch_rows) for facts in verdict.loads)
    warehouse.checkpoint()
    landing_files = _delete_landing_files(landing, verdict)
    for number in going:
        warehouse.record_generation(date, number, State.DELETED, None, clock())
    return CleanedDay(deleted, landing_files, len(manifests))


def _refuse_changed(warehouse: Warehouse, verdict: Verdict) -> None:
    """Refuse when the warehouse doesn't hold the very events that were archived: one was changed, added or removed.

    Nobody else can have the warehouse open between this look and the deletion. Loads that an interrupted clean-up has
    begun to delete were looked at before it began; of them, only the number is known.
    """
    whole = [facts for facts in verdict.loads if not facts.deleted_rows]
    held = Digest()
    for batch in warehouse.stream_loads([facts.load for facts in whole], STREAM_ROWS):
        held += digest_of(to_lines(batch))
    if held == digest_of_loads(whole):
        return
    for facts in whole:
        frames = warehouse.stream_loads([facts.load], STREAM_ROWS)
        if sum((digest_of(to_lines(frame)) for frame in frames), Digest()) != digest_of_loads([facts]):
            raise CleanupRefusedError(
                f"the warehouse holds other events of load {facts.load} than it brought; nothing was deleted"
            )


def _delete_landing_files(landing: Landing, verdict: Verdict) -> int:
    files = _landing_files(landing, verdict)
    for file in files:
        landing.delete(file)
    # A store that answers with success may have kept it all the same.
    if kept := _landing_files(landing, verdict) if files else []:
        raise CleanupRefusedError(
            f"{len(kept)} landing file(s) are still there after their deletion (first: {kept[0].key}); may they be "
            "deleted by us? Run again then"
        )
    return len(files)


def _landing_files(landing: Landing, verdict: Verdict) -> list[LandedFile]:
    loads = {facts.load for facts in verdict.loads}
    return [
        file
        for hour in sorted({load.hour for load in loads})
        for file in landing.files(hour)
        if file.load in loads and not file.rejected
    ]
