"""The life of a generation: what to do next with a day, what may be deleted, and why. Decisions with reasons; pure.

The facts come from the ledger of loads, the manifests, what was recorded of earlier steps, and the clock of the caller.
Each state is recorded in the warehouse before the side effect that it allows, so that a run that died is finished from
what stands there and on S3. Doubt counts against deletion.
"""

import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.keys import object_key
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.window import Window, from_rfc3339, rfc3339


class State(enum.StrEnum):
    """How far a generation has come."""

    PLANNED = "planned"
    """Its loads are fixed; the object may be written."""
    UPLOADED = "uploaded"
    """The store took the object; it may be read back."""
    VERIFIED = "verified"
    """What was read back is what the loads brought; the manifest may be written."""
    MANIFESTED = "manifested"
    """It is committed."""
    DELETING = "deleting"
    """Its events and landing files may be deleted."""
    DELETED = "deleted"
    """They are gone."""
    ABANDONED = "abandoned"
    """Another archive committed this generation; its loads are planned anew."""


UNFINISHED = frozenset({State.PLANNED, State.UPLOADED, State.VERIFIED})
"""The states of a generation that isn't committed."""


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

    def to_json(self) -> str:
        """The plan, for the record."""
        document = {
            "date": self.date.isoformat(),
            "generation": self.number,
            "loads": [[f"{load.hour:%H}", load.load_id] for load in self.loads],
            "rows": self.digest.rows,
            "digest": self.digest.hex,
            "first_event_time": rfc3339(self.first_event_time),
            "last_event_time": rfc3339(self.last_event_time),
            "strategy": self.strategy.value,
            "part_bytes": self.part_bytes,
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        date = dt.date.fromisoformat(document["date"])
        loads = (Load(dt.datetime.combine(date, dt.time(int(hour))), load_id) for hour, load_id in document["loads"])
        return cls(
            date=date,
            number=document["generation"],
            loads=tuple(loads),
            digest=Digest.parse(document["rows"], document["digest"]),
            first_event_time=from_rfc3339(document["first_event_time"]),
            last_event_time=from_rfc3339(document["last_event_time"]),
            strategy=Strategy(document["strategy"]),
            part_bytes=document["part_bytes"],
        )


@dataclasses.dataclass(frozen=True)
class Record:
    """What the warehouse says of a generation: its last state, and its plan; None where only its manifest is known."""

    number: int
    state: State
    plan: Generation | None = None


class Do(enum.StrEnum):
    """What a run does next."""

    PLAN = "plan"
    UPLOAD = "upload"
    VERIFY = "verify"
    COMMIT = "commit"
    CONFIRM = "confirm"
    ABANDON = "abandon"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Step:
    """What to do next with a day, with which generation, and why."""

    do: Do
    reason: str
    number: int = 0
    generation: Generation | None = None


_AFTER = {State.PLANNED: Do.UPLOAD, State.UPLOADED: Do.VERIFY, State.VERIFIED: Do.COMMIT}


def digest_of_loads(loads: Sequence[LoadFacts]) -> Digest:
    """The digest of everything that these loads brought; digests add."""
    return sum((Digest.parse(load.rows, load.digest) for load in loads), Digest())


def next_step(
    date: dt.date,
    now: dt.datetime,
    loads: Sequence[LoadFacts],
    manifests: Sequence[Manifest],
    records: Sequence[Record],
    rule: SizeRule,
) -> Step:
    """What to do next with a day: finish what was begun, confirm what stands on S3, or plan what nothing covers yet.

    Raises ArchiveRefusedError when the day isn't over, when a manifest that was written is missing, or when events
    were deleted that no manifest covers.
    """
    standing = {manifest.generation: manifest for manifest in manifests}
    recorded = {record.number: record for record in records}
    for record in records:
        if record.state in UNFINISHED:
            return _next_of_unfinished(record, standing.get(record.number), loads, manifests)
        if record.state is not State.ABANDONED and record.number not in standing:
            raise ArchiveRefusedError(
                f"{date}: g{record.number:04d} was committed, but its manifest is not there; was it removed, or hidden?"
            )
    for number in sorted(standing):
        if number not in recorded:
            return Step(Do.CONFIRM, f"g{number:04d} stands on S3, and isn't in the warehouse's records", number)
    first_number = max((*standing, *recorded), default=0) + 1
    generation = next_generation(date, now, loads, manifests, rule, first_number)
    if generation is None:
        return Step(Do.NOTHING, "every event is covered by a manifest" if manifests else "the day has no events")
    reason = f"{len(generation.loads)} load(s) with {generation.digest.rows} events are in no generation"
    return Step(Do.PLAN, reason, generation.number, generation)


def _next_of_unfinished(
    record: Record, standing: Manifest | None, loads: Sequence[LoadFacts], manifests: Sequence[Manifest]
) -> Step:
    plan, name = record.plan, f"g{record.number:04d}"
    if plan is None:
        raise AssertionError(f"{name} is {record.state} without a plan")
    if standing is not None:
        if (standing.key, standing.digest, standing.loads) == (plan.key, plan.digest, plan.loads):
            return Step(Do.CONFIRM, f"the manifest of {name} stands", record.number, plan)
        return Step(Do.ABANDON, f"another archive committed {name}", record.number, plan)
    if {load for manifest in manifests for load in manifest.loads} & set(plan.loads):
        return Step(Do.ABANDON, f"another archive committed loads of {name}", record.number, plan)
    by_load = {facts.load: facts for facts in loads}
    if any(load not in by_load or by_load[load].deleted_rows for load in plan.loads):
        raise ArchiveRefusedError(f"{plan.date}: loads of {name} are gone, but it was never committed")
    return Step(_AFTER[record.state], f"{name} is {record.state}", record.number, plan)


def next_generation(
    date: dt.date,
    now: dt.datetime,
    loads: Sequence[LoadFacts],
    manifests: Sequence[Manifest],
    rule: SizeRule,
    number: int,
) -> Generation | None:
    """The generation of what no manifest covers, under this number; None when that is no event.

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
        number=number,
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

    `waiting` tells a day that merely has to wait from one that has something wrong with it.
    """

    loads: tuple[LoadFacts, ...]
    reasons: tuple[str, ...] = ()
    waiting: bool = False

    @property
    def rows(self) -> int:
        """Events that clean-up will delete."""
        return sum(facts.rows - facts.deleted_rows for facts in self.loads)


@dataclasses.dataclass(frozen=True)
class Retention:
    """How long events stay: days of the hot window, how long after its verification a generation stays, and holds.

    `held` has the reason for each day that an operator put on hold.
    """

    hot_days: int
    grace: dt.timedelta = dt.timedelta()
    held: Mapping[dt.date, str] = dataclasses.field(default_factory=dict)


def judge_cleanup(
    date: dt.date,
    now: dt.datetime,
    retention: Retention,
    *,
    loads: Sequence[LoadFacts],
    manifests: Sequence[Manifest],
    requests_by_hour: Mapping[dt.datetime, int],
) -> Verdict:
    """Whether a day's archived loads may be deleted.

    They may when the day has left the hot window, isn't on hold, the grace of its last verification is over, every
    manifest covers exactly what its loads brought, and the statistics of each hour count the events of the archived
    loads. Loads that came later and that no manifest covers are no reason to keep the others; they are not in the
    verdict, and stay.
    """
    verified_at = max((manifest.verified_at for manifest in manifests), default=None)
    if waiting := reasons_to_wait(date, now, retention, verified_at):
        return Verdict((), tuple(f"{date} {reason}" for reason in waiting), waiting=True)
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


def reasons_to_wait(
    date: dt.date, now: dt.datetime, retention: Retention, verified_at: dt.datetime | None
) -> list[str]:
    """Why a day is to be left alone for now; `verified_at` is when its last generation was, if it has one."""
    reasons = []
    hot, graced = _ends_of_waiting(date, retention, verified_at)
    if now < hot:
        reasons.append(f"is within the hot window of {retention.hot_days} day(s)")
    if date in retention.held:
        reasons.append(f"is on hold: {retention.held[date]}")
    if verified_at is not None and now < graced:
        reasons.append(f"was verified at {verified_at:%Y-%m-%d %H:%M} UTC: it may go from {graced:%Y-%m-%d %H:%M} on")
    return reasons


def deletable_from(date: dt.date, retention: Retention, verified_at: dt.datetime | None) -> dt.datetime | None:
    """From when on there is no reason to wait, as things stand; None for a day on hold.

    Of a day that isn't archived it is the earliest: nothing goes before, and the grace counts from its verification.
    """
    return None if date in retention.held else max(_ends_of_waiting(date, retention, verified_at))


def _ends_of_waiting(
    date: dt.date, retention: Retention, verified_at: dt.datetime | None
) -> tuple[dt.datetime, dt.datetime]:
    """When a day leaves the hot window, and when the grace of its last verification is over."""
    hot = Window.of_day(date).start + dt.timedelta(days=retention.hot_days)
    return hot, hot if verified_at is None else verified_at + retention.grace


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
