"""The two partition sets, hours and days in UTC, and the window of time that a run covers.

UTC only: local hours repeat and go missing. The first partition is `PATHSTATS_START_DATE` or, where that isn't set, the
first day that ever landed in a local landing zone. Both are read once, when the code location loads, because Dagster
fixes partition sets at definition time; "Reload definitions" reads them again. No other setting is read here.
"""

import datetime as dt
import pathlib

import dagster as dg

from pathstats_pipeline.events.window import Window, naive_utc
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.storage.landing import first_day

EMPTY_START = dt.timedelta(days=30)


def first_partition(settings: Settings, today: dt.date) -> dt.date:
    """The first day with partitions; 30 days ago where nothing says otherwise."""
    if settings.start_date:
        return settings.start_date
    landing = pathlib.Path(settings.landing_uri)
    return (None if settings.landing_uri.startswith("s3://") else first_day(landing)) or today - EMPTY_START


_START = first_partition(load_settings(), dt.datetime.now(dt.UTC).date()).isoformat()

# The current hour is a partition, so that it can be refreshed while it fills; a day is one when it is over.
HOURLY = dg.HourlyPartitionsDefinition(start_date=f"{_START}-00:00", end_offset=1)
DAILY = dg.DailyPartitionsDefinition(start_date=_START)

FIRST_HOUR = naive_utc(HOURLY.start)

# A run costs seconds to start, whatever it does; one of a week costs a partition a twentieth of a second.
HOURS_PER_RUN = 7 * 24
DAYS_PER_RUN = 31


def window_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Window:
    """The span of time that a run covers, one partition or a whole range of them."""
    span = context.partition_time_window
    return Window(naive_utc(span.start), naive_utc(span.end))


def window_of_key(key: str) -> Window:
    """The hour or the day that a partition key names."""
    if "-" in key[len("2026-01-01") :]:
        return Window.of_hour(dt.datetime.strptime(key, "%Y-%m-%d-%H:%M"))  # noqa: DTZ007 - keys are UTC, and so are windows
    return Window.of_day(dt.date.fromisoformat(key))
