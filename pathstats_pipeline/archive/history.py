"""All events of a window, wherever they are: in the warehouse, or in the archive once they were cleaned up.

Statistics are built from here, so that they can be rebuilt at any time and give the same numbers.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import polars as pl

from pathstats_pipeline.archive import verify
from pathstats_pipeline.archive.day import archived_events, manifests_of
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
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
        within = pl.col("event_time").is_between(self.window.start, self.window.end, closed="left")
        if self.objects is not None:
            for manifest in self.manifests:
                for batch in _events_within(self.objects, manifest, self.window):
                    yield batch.filter(within).select(columns)


def _away(warehouse: Warehouse, window: Window, archive: Callable[[], Objects]) -> _Away:
    deleted = {facts.load for facts in warehouse.loads(window) if facts.deleted_rows}
    if not deleted:
        return _Away(window, None, (), ())
    objects = archive()
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
    return _Away(window, objects, manifests, _loads_in(manifests, window))


def _events_within(objects: Objects, manifest: Manifest, window: Window) -> Iterator[pl.DataFrame]:
    """At least those events of a generation that are in the window, and of the others no more than must be read.

    Of an object whose hours are known, the ranges of the hours are fetched, each checked for itself: 24 hours, built
    one by one, read the object once. Where all of them are needed, it is read in one go.
    """
    midnight = Window.of_day(manifest.date).start
    wanted = [span for span in manifest.hours if window.start <= midnight + span.hour * HOUR < window.end]
    if len(wanted) == len(manifest.hours):
        yield from archived_events(objects, [manifest])
        return
    for span in wanted:
        with objects.open_range(manifest.key, span.offset, span.size_bytes) as stream:
            yield from verify.read_hour(stream, manifest, span)


def _loads_in(manifests: Sequence[Manifest], window: Window) -> list[Load]:
    return [load for manifest in manifests for load in manifest.loads if window.start <= load.hour <= window.end - HOUR]
