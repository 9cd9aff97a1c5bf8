"""The identities of events that are in the archive and no longer in the warehouse.

A producer, a queue or a person may deliver events again after their day was cleaned up. The warehouse can't know them
then, so they are looked up where they are. Used by the intake before it appends a load; decides nothing.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterator

import polars as pl

from pathstats_pipeline.archive.deleted import events_of_hours, manifests_of_deleted
from pathstats_pipeline.events.load import LoadFacts
from pathstats_pipeline.storage.objects import Objects


def deleted_ids(
    archive: Callable[[], Objects], hours: Collection[dt.datetime], loads: Collection[LoadFacts]
) -> Iterator[pl.DataFrame]:
    """`event_time` and `event_id` of all archived events of these hours, in batches.

    Reads these hours of the generations that hold a load of them of which anything was deleted, each once. Raises
    ArchiveRefusedError when no manifest covers such a load, and VerificationError, ManifestError or ObjectsError when
    the archive can't be read, or isn't what it was.
    """
    objects = archive()
    deleted = {facts.load for facts in loads if facts.deleted_rows and facts.load.hour in hours}
    for manifest in manifests_of_deleted(objects, deleted):
        for batch in events_of_hours(objects, manifest, hours):
            yield batch.select("event_time", "event_id")
