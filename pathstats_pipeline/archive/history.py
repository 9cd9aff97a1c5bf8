"""All events of a window, wherever they are: in the warehouse, or in the archive once they were cleaned up.

Statistics are built from here, so that they can be rebuilt at any time and give the same numbers.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import polars as pl

from pathstats_pipeline.archive.deleted import events_of_hours, manifests_of_deleted
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.stats import tally
from pathstats_pipeline.storage.objects import Objects
from pathstats_pipeline.storage.warehouse import Warehouse

CHUNK_EVENTS: Final = 4_000_000
"""Events whose statistics are built at once, as far as hours allow: an hour is never split."""


def windows_by_size(window: Window, loads: Sequence[LoadFacts], limit: int = CHUNK_EVENTS) -> Iterator[Window]:
    """Cut a window into spans of whole hours of at most `limit` events, and at least one hour each."""
    rows: dict[dt.datetime, int] = {}
    for facts in loads:
        rows[facts.load.hour] = rows.get(facts.load.hour, 0) + facts.rows
    start, held = window.start, 0
    for hour in window.hours():
        if held and held + rows.get(hour, 0) > limit:
            yield Window(start, hour)
            start, held = hour, 0
        held += rows.get(hour, 0)
    yield Window(start, window.end)


def events_of(
    warehouse: Warehouse,
    window: Window,
    columns: Sequence[str],
    archive: Callable[[], Objects],
) -> pl.DataFrame:
    """The events of a window of whole hours: these columns, in no particular order, all of them at once.

    `archive` is only asked for when events of the window were deleted. Of a generation of which anything was deleted,
    everything in the window is read from the archive, and left out of what the warehouse gives. Raises
    ArchiveRefusedError when events were deleted that no manifest covers, and VerificationError or ObjectsError for an
    object that isn't what it was.
    """
    away = _away(warehouse, window, archive)
    return pl.concat([warehouse.read_events(window, columns, without=away.loads), *away.events(columns)])


def tally_of(
    warehouse: Warehouse, window: Window, columns: Sequence[str], archive: Callable[[], Objects]
) -> tally.Tally:
    """The same events, with the same columns, as a tally: what is in the warehouse passes in batches.

    What is in the archive is read once, and these columns of it are held. Asks and raises as `events_of`.
    """
    away = _away(warehouse, window, archive)
    sampled = [name for name in columns if name not in tally.COUNTED]
    hot = warehouse.tally_events(window, sampled, without=away.loads)
    return tally.join([hot, tally.tally(away.events(columns))]) if away.manifests else hot


@dataclasses.dataclass(frozen=True)
class _Away:
    """What of a window must be read from the archive: its part of these generations, and their loads in it."""

    window: Window
    objects: Objects | None
    manifests: Sequence[Manifest]
    loads: Sequence[Load]

    def events(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The archived events of the window."""
        if self.objects is not None:
            hours = frozenset(self.window.hours())
            for manifest in self.manifests:
                for batch in events_of_hours(self.objects, manifest, hours):
                    yield batch.select(columns)


def _away(warehouse: Warehouse, window: Window, archive: Callable[[], Objects]) -> _Away:
    deleted = {facts.load for facts in warehouse.loads(window) if facts.deleted_rows}
    if not deleted:
        return _Away(window, None, (), ())
    objects = archive()
    manifests = manifests_of_deleted(objects, deleted)
    return _Away(window, objects, manifests, _loads_in(manifests, window))


def _loads_in(manifests: Sequence[Manifest], window: Window) -> list[Load]:
    return [load for manifest in manifests for load in manifest.loads if window.start <= load.hour <= window.end - HOUR]
