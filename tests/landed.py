"""Loads that tests put into a landing zone."""

import polars as pl
import pytest

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.storage.connect import landing_zone


def land_at(directory: str, load: Load, count: int) -> None:
    """Put a load of so many events into a landing zone; what is in it follows from its name and its hour."""
    second = pl.int_range(count)
    rows = pl.select(
        event_id=pl.format(f"{load.load_id}-{load.hour:%Y%m%d%H}-{{}}", second),
        event_time=pl.lit(load.hour, pl.Datetime("us")) + pl.duration(seconds=second),
        host=pl.lit("api.example"),
        method=pl.lit("GET"),
        path=pl.format("/users/{}", second % 7),
        status=(pl.lit(200) + 300 * (second % 10 == 0).cast(pl.Int64)).cast(pl.Int16),
        response_time_ms=(second * 1.5).cast(pl.Float64),
        bytes_sent=second * 10,
        client_ip=pl.format("192.0.2.{}", second % 200),
        user_agent=pl.lit('quoted "agent" \u2028'),
    )
    landing_zone(directory, lambda: pytest.fail("the landing zone is a directory")).publish(
        load, rows.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
    )
