"""Events that clean-up has deleted, where they are now: which generations cover them, and hours of these, read.

For whoever needs events that the warehouse no longer has: statistics (history.py) and the intake (redelivery.py). What
may be deleted is decided in lifecycle.py, and a whole generation is read by day.py.
"""

import datetime as dt
from collections.abc import Collection, Iterator

import polars as pl

from pathstats_pipeline.archive import verify
from pathstats_pipeline.archive.day import archived_events, manifests_of
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.storage.objects import Objects


def manifests_of_deleted(objects: Objects, deleted: set[Load]) -> list[Manifest]:
    """The manifests that name any of these loads, of which events were deleted; by day and generation.

    Raises ArchiveRefusedError when no manifest covers one of them, and ManifestError or ObjectsError when the
    manifests can't be read.
    """
    manifests = [
        manifest
        for day in sorted({load.hour.date() for load in deleted})
        for manifest in manifests_of(objects, day)
        if deleted & set(manifest.loads)
    ]
    if lost := deleted.difference(*(manifest.loads for manifest in manifests)):
        raise ArchiveRefusedError(
            f"events of {len(lost)} load(s) were deleted, but no manifest covers them (first: {min(lost)}); "
            "are the manifests still there?"
        )
    return manifests


def events_of_hours(objects: Objects, manifest: Manifest, hours: Collection[dt.datetime]) -> Iterator[pl.DataFrame]:
    """The events of a generation that are in these hours, in batches; of the others no more is read than must be.

    Of an object whose hours are known, the ranges of the hours are fetched, each checked for itself: 24 hours, asked
    for one by one, read the object once. Where all of them are needed, it is read in one go. Raises VerificationError,
    once a range or the object is read to its end, when it isn't what the manifest says, and ObjectsError.
    """
    within = pl.col("event_time").dt.truncate("1h").is_in(list(hours))
    for batch in _batches_with(objects, manifest, hours):
        yield batch.filter(within)


def _batches_with(objects: Objects, manifest: Manifest, hours: Collection[dt.datetime]) -> Iterator[pl.DataFrame]:
    midnight = Window.of_day(manifest.date).start
    wanted = [span for span in manifest.hours if midnight + span.hour * HOUR in hours]
    if len(wanted) == len(manifest.hours):
        yield from archived_events(objects, [manifest])
        return
    for span in wanted:
        with objects.open_range(manifest.key, span.offset, span.size_bytes) as stream:
            yield from verify.read_hour(stream, manifest, span)
