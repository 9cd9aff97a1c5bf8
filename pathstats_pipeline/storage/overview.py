"""How every day stands, counted in the warehouse alone; what the numbers mean stands in archive/status.py."""

import collections
import dataclasses
import datetime as dt
from typing import Final

from pathstats_pipeline.archive.balance import Balance
from pathstats_pipeline.archive.status import DayFacts, Status
from pathstats_pipeline.events.load import Files
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.session import Session

_DAYS: Final = """
WITH ledger AS (
    SELECT CAST(hour AS DATE) AS date, count(*) AS loads, sum(rows) AS stored, sum(duplicates) AS duplicates,
        sum(rejected) AS rejected, sum(deleted_rows) AS deleted
    FROM pathstats.loads GROUP BY ALL),
live AS (SELECT CAST(event_time AS DATE) AS date, count(*) AS live FROM pathstats.traffic_events GROUP BY ALL),
steps AS (
    SELECT date, generation, arg_max(state, step) AS state,
        CAST(arg_max(document, step) FILTER (state = 'planned') ->> 'rows' AS BIGINT) AS planned
    FROM pathstats.archive_steps GROUP BY ALL),
generations AS (
    SELECT date, generation, coalesce(archives.rows, planned) AS rows, verified_at,
        state IN ('planned', 'uploaded', 'verified') AND archives.rows IS NULL AS unfinished
    FROM steps FULL JOIN pathstats.archives USING (date, generation)
    WHERE archives.rows IS NOT NULL OR state <> 'abandoned'),
archive AS (
    SELECT date, count(*) FILTER (NOT coalesce(unfinished, false)) AS generations,
        sum(rows) FILTER (NOT coalesce(unfinished, false)) AS archived,
        count(*) FILTER (unfinished) AS unfinished, max(verified_at) AS verified_at
    FROM generations GROUP BY ALL),
hourly AS (
    SELECT CAST(hour AS DATE) AS date, sum(requests) AS counted FROM pathstats.path_stats_hourly GROUP BY ALL),
daily AS (SELECT day AS date, sum(requests) AS counted_daily FROM pathstats.path_stats_daily GROUP BY ALL)
SELECT date, coalesce(loads, 0), coalesce(stored, 0)::BIGINT, coalesce(duplicates, 0)::BIGINT,
    coalesce(rejected, 0)::BIGINT, coalesce(deleted, 0)::BIGINT, coalesce(live, 0), coalesce(generations, 0),
    coalesce(archived, 0)::BIGINT, coalesce(unfinished, 0), counted::BIGINT, counted_daily::BIGINT, reason, verified_at
FROM ledger FULL JOIN live USING (date) FULL JOIN archive USING (date) FULL JOIN hourly USING (date)
    FULL JOIN daily USING (date) FULL JOIN pathstats.holds USING (date)
ORDER BY date
"""

_HOURS: Final = """
WITH ledger AS (
    SELECT hour, sum(rows) AS stored, sum(duplicates) AS duplicates, sum(rejected) AS rejected,
        sum(deleted_rows) AS deleted
    FROM pathstats.loads WHERE hour >= $start AND hour < $end GROUP BY hour),
live AS (
    SELECT date_trunc('hour', event_time) AS hour, count(*) AS live
    FROM pathstats.traffic_events WHERE event_time >= $start AND event_time < $end GROUP BY ALL),
counted AS (
    SELECT hour, sum(requests) AS counted
    FROM pathstats.path_stats_hourly WHERE hour >= $start AND hour < $end GROUP BY hour)
SELECT hour, coalesce(stored, 0)::BIGINT, coalesce(duplicates, 0)::BIGINT, coalesce(rejected, 0)::BIGINT,
    coalesce(deleted, 0)::BIGINT, coalesce(live, 0), coalesce(counted, 0)::BIGINT
FROM ledger FULL JOIN live USING (hour) FULL JOIN counted USING (hour)
"""


class Overview(Session):
    """Count everything, once."""

    def days(self) -> list[DayFacts]:
        """Every day of which there is anything, in order."""
        return [DayFacts(*row) for row in self._run(_DAYS).fetchall()]

    def status(self, now: dt.datetime, unloaded: Files | None = None) -> Status:
        """How every day stands; `unloaded` are the files in the landing zone that the ledger doesn't know."""
        [(rejected,)] = self._run("SELECT count(*) FROM pathstats.rejected_events").fetchall()
        if unloaded is None:
            return Status(self.days(), rejected, now)
        hours = collections.Counter(load.hour for files in unloaded.values() for load, _ in files)
        counts = collections.Counter(hour.date() for hour in hours.elements())
        known = {day.date: day for day in self.days()}
        days = [known.get(date, DayFacts.of_nothing(date)) for date in sorted({*known, *counts})]
        return Status([dataclasses.replace(day, unloaded=counts[day.date]) for day in days], rejected, now, hours)

    def balances(self, window: Window) -> dict[dt.datetime, Balance]:
        """What is counted of every hour of a window, in order; also of those of which there is nothing."""
        rows = self._connection.execute(_HOURS, {"start": window.start, "end": window.end}).fetchall()
        found = {hour: Balance(*numbers) for hour, *numbers in rows}
        return {hour: found.get(hour, Balance()) for hour in window.hours()}

    def hours_behind(self) -> dict[dt.datetime, tuple[int, int]]:
        """The hours whose statistics count other events than were stored: both numbers."""
        rows = self._run(
            "WITH ledger AS (SELECT hour, sum(rows)::BIGINT AS stored FROM pathstats.loads GROUP BY hour), "
            "counted AS (SELECT hour, sum(requests)::BIGINT AS counted FROM pathstats.path_stats_hourly GROUP BY hour) "
            "SELECT hour, stored, coalesce(counted, 0) FROM ledger LEFT JOIN counted USING (hour) "
            "WHERE stored <> coalesce(counted, 0) ORDER BY hour"
        ).fetchall()
        return {hour: (stored, counted) for hour, stored, counted in rows}
