"""The statistics of hours and days: partitions are replaced whole, each time with the next revision."""

import datetime as dt

import polars as pl

from pathstats_pipeline.archive.balance import SUMS
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.session import Session


class Statistics(Session):
    """Replace and read partitions of statistics."""

    def replace_hourly(self, window: Window, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Replace the hourly statistics of a window; each hour's revision goes up by one."""
        self._replace("path_stats_hourly", "hour", (window.start, window.end), rows, now)

    def replace_daily(self, window: Window, rows: pl.DataFrame, now: dt.datetime) -> None:
        """Replace the daily statistics of a window of whole days; each day's revision goes up by one."""
        self._replace("path_stats_daily", "day", (window.start.date(), window.end.date()), rows, now)

    def _replace(
        self, table: str, key: str, span: tuple[dt.date, dt.date], rows: pl.DataFrame, now: dt.datetime
    ) -> None:
        with self._transaction():
            before = self._frame(
                f"SELECT {key}, max(revision) AS before FROM pathstats.{table} "
                f"WHERE {key} >= ? AND {key} < ? GROUP BY {key}",
                span,
            )
            built = rows.join(before, on=key, how="left").with_columns(
                (pl.col("before").fill_null(0) + 1).alias("revision"),
                pl.lit(now, pl.Datetime("us")).alias("computed_at"),
            )
            self._run(f"DELETE FROM pathstats.{table} WHERE {key} >= ? AND {key} < ?", span)
            if len(built):
                self._insert(table, built.drop("before"))

    def hourly(self, window: Window) -> pl.DataFrame:
        """The hourly statistics of a window."""
        return self._frame(
            "SELECT * FROM pathstats.path_stats_hourly WHERE hour >= ? AND hour < ? ORDER BY hour, path, method",
            (window.start, window.end),
        )

    def daily(self, window: Window) -> pl.DataFrame:
        """The daily statistics of the days of a window."""
        return self._frame(
            "SELECT * FROM pathstats.path_stats_daily WHERE day >= ? AND day < ? ORDER BY day, path, method",
            (window.start.date(), window.end.date()),
        )

    def requests_by_hour(self, window: Window) -> dict[dt.datetime, int]:
        """Requests that the hourly statistics of a window count, hour by hour."""
        return dict(
            self._run(
                "SELECT hour, sum(requests)::BIGINT FROM pathstats.path_stats_hourly "
                "WHERE hour >= ? AND hour < ? GROUP BY hour",
                (window.start, window.end),
            ).fetchall()
        )

    def sums_by_hour(self, window: Window) -> pl.DataFrame:
        """`balance.SUMS` of the hourly statistics of a window, by hour."""
        sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in SUMS)
        return self._frame(
            f"SELECT hour, {sums} FROM pathstats.path_stats_hourly "
            "WHERE hour >= ? AND hour < ? GROUP BY hour ORDER BY hour",
            (window.start, window.end),
        )

    def requests_of_day(self, day: dt.date) -> int | None:
        """Requests that the daily statistics of a day count; None where there are none."""
        [(count,)] = self._run(
            "SELECT sum(requests)::BIGINT FROM pathstats.path_stats_daily WHERE day = ?", (day,)
        ).fetchall()
        return None if count is None else int(count)

    def statistics_span(self) -> Window | None:
        """From the first to the end of the last hour that has statistics; None when there are none."""
        [(first, last)] = self._run("SELECT min(hour), max(hour) FROM pathstats.path_stats_hourly").fetchall()
        return None if first is None else Window(first, Window.of_hour(last).end)
