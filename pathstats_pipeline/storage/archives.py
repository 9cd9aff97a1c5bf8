"""What the warehouse remembers of archives: each step of a generation's life, what is archived, and days on hold."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

import polars as pl

from pathstats_pipeline.archive.lifecycle import Generation, Record, State
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.storage.session import Session
from pathstats_pipeline.storage.tables import TABLES

_MANIFEST_FIELDS: Final = (
    "date",
    "generation",
    "rows",
    "raw_bytes",
    "sha256",
    "first_event_time",
    "last_event_time",
    "archived_at",
    "verified_at",
)


class Archives(Session):
    """Record and read the life of archives. Steps are only ever added; the last one of a generation counts."""

    def record_generation(
        self, date: dt.date, number: int, state: State, document: str | None, now: dt.datetime
    ) -> None:
        """Add a step: the generation is in this state from now on. `document` is what the next step needs to know."""
        self._run(
            "INSERT INTO pathstats.archive_steps SELECT ?, ?, ?, ?, ?, coalesce(max(step), 0) + 1 "
            "FROM pathstats.archive_steps WHERE date = ? AND generation = ?",
            (date, number, state.value, document, now, date, number),
        )

    def generation_records(self, date: dt.date) -> list[Record]:
        """The last state of each generation of a day, by number, with its plan."""
        rows = self._run(
            "SELECT generation, arg_max(state, step), "
            f"arg_max(document, step) FILTER (state = '{State.PLANNED}') "
            "FROM pathstats.archive_steps WHERE date = ? GROUP BY generation ORDER BY generation",
            (date,),
        ).fetchall()
        return [
            Record(number, State(state), Generation.from_json(plan) if plan else None) for number, state, plan in rows
        ]

    def generation_states(self) -> dict[tuple[dt.date, int], State]:
        """The last state of every generation of every day."""
        rows = self._run(
            "SELECT date, generation, arg_max(state, step) FROM pathstats.archive_steps GROUP BY ALL"
        ).fetchall()
        return {(date, number): State(state) for date, number, state in rows}

    def generation_document(self, date: dt.date, number: int, state: State) -> str:
        """What was recorded with the last step of a generation into this state."""
        [(document,)] = self._run(
            "SELECT arg_max(document, step) FROM pathstats.archive_steps "
            "WHERE date = ? AND generation = ? AND state = ?",
            (date, number, state.value),
        ).fetchall()
        if document is None:
            raise AssertionError(f"g{number:04d} of {date} was never {state}")
        return str(document)

    def archive_steps(self, date: dt.date) -> pl.DataFrame:
        """Every step of a day's generations, in their order."""
        return self._frame(
            "SELECT date, generation, step, state, recorded_at FROM pathstats.archive_steps WHERE date = ? "
            "ORDER BY generation, step",
            (date,),
        )

    def record_archives(self, date: dt.date, manifests: Sequence[Manifest], uris: Sequence[str]) -> None:
        """Replace what the warehouse says of a day's archive by what its manifests say."""
        rows = [
            {
                **{name: getattr(manifest, name) for name in _MANIFEST_FIELDS},
                "uri": uri,
                "bytes": manifest.size_bytes,
                "strategy": manifest.strategy.value,
                "digest": manifest.digest.hex,
            }
            for manifest, uri in zip(manifests, uris, strict=True)
        ]
        schema = {column.name: column.dtype for column in TABLES["archives"]}
        with self._transaction():
            self._run("DELETE FROM pathstats.archives WHERE date = ?", (date,))
            if rows:
                self._insert("archives", pl.DataFrame(rows, schema=schema))

    def archives(self) -> pl.DataFrame:
        """Every archived generation, by day."""
        return self._frame("SELECT * FROM pathstats.archives ORDER BY date, generation")

    def hold(self, date: dt.date, reason: str, now: dt.datetime) -> None:
        """Keep a day's events, whatever else says that they may go, until it is released."""
        with self._transaction():
            self._run("DELETE FROM pathstats.holds WHERE date = ?", (date,))
            self._run("INSERT INTO pathstats.holds VALUES (?, ?, ?)", (date, reason, now))

    def release(self, date: dt.date) -> bool:
        """End a hold; False when there was none."""
        [(count,)] = self._run("DELETE FROM pathstats.holds WHERE date = ?", (date,)).fetchall()
        return bool(count)

    def holds(self) -> dict[dt.date, str]:
        """The days on hold, and why."""
        return dict(self._run("SELECT date, reason FROM pathstats.holds ORDER BY date").fetchall())
