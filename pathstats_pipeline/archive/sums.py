"""Sums over archived events, hour by hour: what the statistics of the day must say, reckoned without them."""

from collections.abc import Iterable

import polars as pl

from pathstats_pipeline.archive.balance import SUMS
from pathstats_pipeline.archive.day import archived_events
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.storage.objects import Objects

_SCHEMA = {"hour": pl.Datetime("us"), **dict.fromkeys(SUMS, pl.Int64())}


def archived_sums(objects: Objects, manifests: Iterable[Manifest]) -> pl.DataFrame:
    """`balance.SUMS` of the events of these generations, by hour. Every object is read to its end, batch by batch.

    Raises VerificationError or ObjectsError for an object that isn't what its manifest says, or can't be read.
    """
    total = pl.DataFrame(schema=_SCHEMA)
    for events in archived_events(objects, manifests):
        total = pl.concat([total, sums_of(events)]).group_by("hour").agg(pl.col(SUMS).sum())
    return total.sort("hour")


def sums_of(events: pl.DataFrame) -> pl.DataFrame:
    """`balance.SUMS` of events by hour."""
    classes = {
        f"status_{each}xx": pl.col("status").is_between(each * 100, each * 100 + 99).sum() for each in range(2, 6)
    }
    return (
        events.group_by(pl.col("event_time").dt.truncate("1h").alias("hour"))
        .agg(pl.len().alias("requests"), pl.col("bytes_sent").sum(), **classes)
        .select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())
    )
