"""Loads: the ledger, and what changes together with it, in one transaction each. Reading events is in reading.py."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, Final

import polars as pl

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.events.load import Files, Load, LoadFacts
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.session import Session

_FACTS: Final = "hour, load_id, rows, duplicates, rejected, digest, first_event_time, last_event_time, deleted_rows"

_LANDED: Final = pl.Schema({"hour": pl.Datetime("us"), "load_id": pl.String(), "rejected_load": pl.Boolean()})


class RestoreError(RuntimeError):
    """Events can't be put back under their load; one line."""


class Loads(Session):
    """Append loads, delete them, and say what is known of them."""

    _knows_archived = False

    def loads(self, window: Window) -> list[LoadFacts]:
        """What is known of the loads of events in a window, in the order of their identity."""
        return [_load_facts(row) for row in self._loads(window, rejected=False)]

    def known_loads(self, window: Window) -> set[tuple[Load, bool]]:
        """Identity of every load in a window, and whether it is one of rejected lines."""
        events, rejected = (self._loads(window, rejected=kind) for kind in (False, True))
        return {(_load_facts(row).load, kind) for kind, rows in ((False, events), (True, rejected)) for row in rows}

    def unloaded(self, landed: Files) -> Files:
        """Of the files that landed of each day, those that the ledger doesn't know; the days are the same."""
        files = [(load.hour, load.load_id, kind) for each in landed.values() for load, kind in each]
        with self._registered("landed", pl.DataFrame(files, schema=_LANDED, orient="row")):
            rows = self._run("FROM landed ANTI JOIN pathstats.loads USING (hour, load_id, rejected_load)").fetchall()
        found: dict[dt.date, set[tuple[Load, bool]]] = {day: set() for day in landed}
        for hour, load_id, kind in rows:
            found[hour.date()].add((Load(hour, load_id), kind))
        return found

    def _loads(self, window: Window, *, rejected: bool) -> list[tuple[Any, ...]]:
        return self._run(
            f"SELECT {_FACTS} FROM pathstats.loads WHERE hour >= ? AND hour < ? AND rejected_load = ? "
            "ORDER BY hour, load_id",
            (window.start, window.end, rejected),
        ).fetchall()

    def _known(self, load: Load, *, rejected: bool) -> LoadFacts | None:
        row = self._run(
            f"SELECT {_FACTS} FROM pathstats.loads WHERE hour = ? AND load_id = ? AND rejected_load = ?",
            (load.hour, load.load_id, rejected),
        ).fetchone()
        return _load_facts(row) if row else None

    def remember_archived(self, events: Iterable[pl.DataFrame]) -> None:
        """Tell `append_load` of events (`event_time`, `event_id`) that were deleted here, until `forget_archived`.

        They are kept in a temporary table, which DuckDB may write to disk: a day of them need not fit into memory.
        """
        self._run("CREATE OR REPLACE TEMP TABLE archived_ids (hour TIMESTAMP, event_id VARCHAR)")
        for batch in events:
            with self._registered("archived_batch", batch.select("event_time", "event_id")):
                self._run(
                    "INSERT INTO archived_ids SELECT date_trunc('hour', event_time), event_id FROM archived_batch"
                )
        self._knows_archived = True

    def forget_archived(self) -> None:
        """Forget what `remember_archived` was told."""
        self._knows_archived = False
        self._run("DROP TABLE IF EXISTS temp.archived_ids")

    def append_load(
        self,
        load: Load,
        chunks: Iterable[tuple[pl.DataFrame, pl.DataFrame]],
        digest_of: Callable[[pl.DataFrame], Digest],
        now: dt.datetime,
    ) -> LoadFacts:
        """Append a load of events: all of it and its ledger row, or nothing.

        `chunks` are pairs of events (event schema) and rejected rows (of `rejected_events`, without `load_id` and
        `rejected_at`). Events whose id the hour holds already, or held according to `remember_archived`, are counted as
        duplicates and not inserted. A load that the ledger knows is left as it is: its facts, and no chunk is read.
        """
        if known := self._known(load, rejected=False):
            return known
        digest, duplicates, rejected = Digest(), 0, 0
        first: dt.datetime | None = None
        last: dt.datetime | None = None
        with self._transaction():
            for events, refused in chunks:
                fresh = self._without_known(load.hour, events)
                duplicates += len(events) - len(fresh)
                rejected += len(refused)
                digest += digest_of(fresh)
                if len(fresh):
                    low, high = fresh.select(low=pl.col("event_time").min(), high=pl.col("event_time").max()).row(0)
                    first, last = min(first or low, low), max(last or high, high)
                    self._insert("traffic_events", fresh.with_columns(load_id=pl.lit(load.load_id)))
                self._insert_rejected(load, refused, now)
            facts = LoadFacts(load, digest.rows, duplicates, rejected, digest.hex, first, last)
            self._record_load(facts, now, rejected_load=False)
        return facts

    def append_rejected(self, load: Load, rows: pl.DataFrame, now: dt.datetime) -> LoadFacts:
        """Append a load of rejected lines (source, line_number, raw, reason): all of it, or nothing, and once."""
        if known := self._known(load, rejected=True):
            return known
        facts = LoadFacts(load, 0, 0, len(rows), Digest().hex)
        with self._transaction():
            self._insert_rejected(load, rows, now)
            self._record_load(facts, now, rejected_load=True)
        return facts

    def recover_loads(self, loads: Iterable[tuple[LoadFacts, Iterable[pl.DataFrame]]], now: dt.datetime) -> None:
        """Enter loads in the ledger, whose events are elsewhere, with their rejected rows: all of them, or none."""
        with self._transaction():
            for facts, refused in loads:
                rejected = 0
                for rows in refused:
                    self._insert_rejected(facts.load, rows, now)
                    rejected += len(rows)
                self._record_load(dataclasses.replace(facts, rejected=rejected), now, rejected_load=False)

    def _insert_rejected(self, load: Load, rows: pl.DataFrame, now: dt.datetime) -> None:
        if len(rows):
            columns = pl.lit(load.load_id).alias("load_id"), pl.lit(now, pl.Datetime("us")).alias("rejected_at")
            self._insert("rejected_events", rows.with_columns(*columns))

    def _record_load(self, facts: LoadFacts, now: dt.datetime, *, rejected_load: bool) -> None:
        load = facts.load
        values = (load.hour, load.load_id, rejected_load, facts.rows, facts.duplicates, facts.rejected, facts.digest)
        self._run(
            "INSERT INTO pathstats.loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, facts.first_event_time, facts.last_event_time, facts.deleted_rows, now),
        )

    def _without_known(self, hour: dt.datetime, events: pl.DataFrame) -> pl.DataFrame:
        """The events whose id is neither in the hour, here or archived, nor earlier in the frame, in their order."""
        events = events.unique("event_id", keep="first", maintain_order=True)
        if not len(events):
            return events
        window = Window.of_hour(hour)
        hot = "SELECT event_id FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ?"
        away = "SELECT event_id FROM archived_ids WHERE hour = ?"
        parameters = [window.start, window.end, *([hour] if self._knows_archived else [])]
        held = f"{hot} UNION ALL {away}" if self._knows_archived else hot
        with self._registered("incoming", events.select("event_id")):
            known = self._frame(
                f"SELECT DISTINCT event_id FROM ({held}) WHERE event_id IN (SELECT event_id FROM incoming)", parameters
            )
        return events.join(known, on="event_id", how="anti", maintain_order="left") if len(known) else events

    def delete_load(self, load: Load, batch_rows: int) -> int:
        """Delete a load's events in batches, each with its progress in one transaction; returns how many now."""
        window, deleted = Window.of_hour(load.hour), 0
        while True:
            with self._transaction():
                [(count,)] = self._run(
                    "DELETE FROM pathstats.traffic_events WHERE rowid IN (SELECT rowid FROM pathstats.traffic_events "
                    "WHERE event_time >= ? AND event_time < ? AND load_id = ? LIMIT ?)",
                    (window.start, window.end, load.load_id, batch_rows),
                ).fetchall()
                if count:
                    self._run(
                        "UPDATE pathstats.loads SET deleted_rows = deleted_rows + ? "
                        "WHERE hour = ? AND load_id = ? AND NOT rejected_load",
                        (count, load.hour, load.load_id),
                    )
            deleted += int(count)
            if count < batch_rows:
                return deleted

    def restore_load(
        self, facts: LoadFacts, batches: Iterable[pl.DataFrame], digest_of: Callable[[pl.DataFrame], Digest]
    ) -> None:
        """Put a load's events back, all of them and its ledger row in one transaction; what was left of it goes first.

        Raises RestoreError, with nothing changed, when the events aren't those that the load brought.
        """
        load, digest = facts.load, Digest()
        window = Window.of_hour(load.hour)
        with self._transaction():
            self._run(
                "DELETE FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ? AND load_id = ?",
                (window.start, window.end, load.load_id),
            )
            for events in batches:
                digest += digest_of(events)
                self._insert("traffic_events", events.with_columns(load_id=pl.lit(load.load_id)))
            if (digest.rows, digest.hex) != (facts.rows, facts.digest):
                raise RestoreError(
                    f"{load}: the archive gives {digest.rows} events with digest {digest.hex}, but the load brought "
                    f"{facts.rows} with {facts.digest}; it was left as it was"
                )
            self._run(
                "UPDATE pathstats.loads SET deleted_rows = 0 WHERE hour = ? AND load_id = ? AND NOT rejected_load",
                (load.hour, load.load_id),
            )

    def rejected_lines(self, window: Window) -> int:
        """Lines of the loads of a window that went to `rejected_events`."""
        [(count,)] = self._run(
            "SELECT coalesce(sum(rejected), 0)::BIGINT FROM pathstats.loads WHERE hour >= ? AND hour < ?",
            (window.start, window.end),
        ).fetchall()
        return int(count)


def _load_facts(row: tuple[Any, ...]) -> LoadFacts:
    hour, load_id, *facts = row
    return LoadFacts(Load(hour, load_id), *facts)
