"""The two partition sets, hours and days in UTC, and the window of time that a run covers.

UTC only: local hours repeat and go missing. The first partition is `PATHSTATS_START_DATE`, read once when the code
location loads, because Dagster fixes partition sets at definition time. Nothing else is read from a setting here.
"""

import dagster as dg

from pathstats_pipeline.events.window import Window, naive_utc
from pathstats_pipeline.settings import load_settings

_START = load_settings().start_date.isoformat()

# The current hour is a partition, so that it can be refreshed while it fills; a day is one when it is over.
HOURLY = dg.HourlyPartitionsDefinition(start_date=f"{_START}-00:00", end_offset=1)
DAILY = dg.DailyPartitionsDefinition(start_date=_START)

HOURS_PER_RUN = 24
DAYS_PER_RUN = 31


def window_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Window:
    """The span of time that a run covers, one partition or a whole range of them."""
    span = context.partition_time_window
    return Window(naive_utc(span.start), naive_utc(span.end))
