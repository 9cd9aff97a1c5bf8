"""What to do next with a day: which loads to archive, and which to delete. Decisions with reasons; pure.

The facts come from the ledger of loads, the manifests and the clock of the caller. Doubt counts against deletion.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.keys import object_key
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.window import Window


class ArchiveRefusedError(RuntimeError):
    """A day can't be archived; one line that says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation to be written: the loads of a day that no manifest covers yet, and what must come out."""

    date: dt.date
    number: int
    loads: tuple[Load, ...]
    digest: Digest
    first_event_time: dt.datetime
    last_event_time: dt.datetime
    strategy: Strategy
    part_bytes: int

    @property
    def key(self) -> str:
        """The object's key below the archive's prefix."""
        return object_key(self.date, self.number, self.digest)


def digest_of_loads(loads: Sequence[LoadFacts]) -> Digest:
    """The digest of everything that these loads brought; digests add."""
    return sum((Digest.parse(load.rows, load.digest) for load in loads), Digest())


def next_generation(
    date: dt.date, now: dt.datetime, loads: Sequence[LoadFacts], manifests: Sequence[Manifest], rule: SizeRule
) -> Generation | None:
    """The next generation of a day; None when every event of it is covered already, or it has none.

    Raises ArchiveRefusedError when the day isn't over, or when events were deleted that no manifest covers.
    """
    if Window.of_day(date).end > now:
        raise ArchiveRefusedError(f"{date} is not over: it can be archived from {Window.of_day(date).end} UTC on")
    covered = {load for manifest in manifests for load in manifest.loads}
    pending = [facts for facts in loads if facts.load not in covered]
    if gone := [facts for facts in pending if facts.deleted_rows]:
        raise ArchiveRefusedError(
            f"{date}: events of {len(gone)} load(s) were deleted, but no manifest covers them (first: {gone[0].load}); "
            "are the manifests still there?"
        )
    firsts = [facts.first_event_time for facts in pending if facts.first_event_time is not None]
    lasts = [facts.last_event_time for facts in pending if facts.last_event_time is not None]
    digest = digest_of_loads(pending)
    if not digest.rows:
        return None
    return Generation(
        date=date,
        number=max((manifest.generation for manifest in manifests), default=0) + 1,
        loads=tuple(sorted(facts.load for facts in pending)),
        digest=digest,
        first_event_time=min(firsts),
        last_event_time=max(lasts),
        strategy=rule.strategy(digest.rows),
        part_bytes=rule.part_bytes(digest.rows),
    )


def is_covered(manifest: Manifest, by_load: Mapping[Load, LoadFacts]) -> bool:
    """Whether a manifest covers exactly what its loads brought."""
    return digest_of_loads([by_load[load] for load in manifest.loads if load in by_load]) == manifest.digest


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a day may be cleaned up: the loads to delete, or the reasons to keep it.

    `hot` tells a day that is merely too young from one that has something wrong with it.
    """

    loads: tuple[LoadFacts, ...]
    reasons: tuple[str, ...] = ()
    hot: bool = False

    @property
    def rows(self) -> int:
        """Events that clean-up will delete."""
        return sum(facts.rows - facts.deleted_rows for facts in self.loads)


def judge_cleanup(
    date: dt.date,
    today: dt.date,
    hot_days: int,
    *,
    loads: Sequence[LoadFacts],
    manifests: Sequence[Manifest],
    requests_by_hour: Mapping[dt.datetime, int],
) -> Verdict:
    """Whether a day's archived loads may be deleted.

    They may when the day has left the hot window, every manifest covers exactly what its loads brought, and the
    statistics of each hour count the events of the archived loads. Loads that came later and that no manifest covers
    are no reason to keep the others; they are not in the verdict, and stay.
    """
    if (today - date).days < hot_days:
        return Verdict((), (f"{date} is within the hot window of {hot_days} day(s)",), hot=True)
    by_load = {facts.load: facts for facts in loads}
    covered = {load for manifest in manifests for load in manifest.loads}
    reasons = [
        f"g{manifest.generation:04d} covers other events than its loads brought"
        for manifest in manifests
        if not is_covered(manifest, by_load)
    ]
    if not covered and any(facts.rows for facts in loads):
        reasons.append("it is not archived")
    archived = [by_load[load] for load in sorted(covered) if load in by_load]
    reasons += _statistics_missing(loads, archived, requests_by_hour)
    if reasons:
        return Verdict((), tuple(f"{date}: {reason}" for reason in reasons))
    return Verdict(tuple(archived))


def _statistics_missing(
    loads: Sequence[LoadFacts], archived: Sequence[LoadFacts], requests_by_hour: Mapping[dt.datetime, int]
) -> list[str]:
    """The hours whose statistics count neither all events nor, before a late load is built, the archived ones."""
    whole, part = _rows_by_hour(loads), _rows_by_hour(archived)
    return [
        f"the statistics of {hour:%H}:00 count {requests_by_hour.get(hour, 0)} requests of {rows} archived events"
        for hour, rows in sorted(part.items())
        if requests_by_hour.get(hour, 0) not in {rows, whole[hour]}
    ]


def _rows_by_hour(loads: Sequence[LoadFacts]) -> dict[dt.datetime, int]:
    rows: dict[dt.datetime, int] = {}
    for facts in loads:
        rows[facts.load.hour] = rows.get(facts.load.hour, 0) + facts.rows
    return rows
