"""The identities of events that are in the archive and no longer in the warehouse.

A producer, a queue or a person may deliver events again after their day was cleaned up. The warehouse can't know them
then, so they are looked up where they are. Used by the intake before it appends a load; decides nothing.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterator

import polars as pl

from pathstats_pipeline.archive.day import archived_events, manifests_of
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.events.load import LoadFacts
from pathstats_pipeline.storage.objects import Objects


def deleted_ids(
    archive: Callable[[], Objects], day: dt.date, hours: Collection[dt.datetime], loads: Collection[LoadFacts]
) -> Iterator[pl.DataFrame]:
    """`event_time` and `event_id` of all archived events of these hours of a day, in batches.

    Reads the generations of the day that hold a load of which anything was deleted, each once, to its end. Raises
    ArchiveRefusedError when no manifest covers such a load, and VerificationError, ManifestError or ObjectsError when
    the archive can't be read, or isn't what it was.
    """
    deleted = {facts.load for facts in loads if facts.deleted_rows and facts.load.hour in hours}
    objects = archive()
    manifests = [manifest for manifest in manifests_of(objects, day) if deleted & set(manifest.loads)]
    if lost := deleted.difference(*(manifest.loads for manifest in manifests)):
        raise ArchiveRefusedError(
            f"events of {len(lost)} load(s) were deleted, but no manifest covers them (first: {min(lost)}); "
            "are the manifests still there?"
        )
    wanted = pl.col("event_time").dt.truncate("1h").is_in(list(hours))
    for batch in archived_events(objects, manifests):
        yield batch.select("event_time", "event_id").filter(wanted)
