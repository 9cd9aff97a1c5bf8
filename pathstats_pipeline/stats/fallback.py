"""The fallback pair of sketches from the events of an hour: a reservoir of times and a Bloom filter of addresses.

Only the way from event columns to reservoir.py and bloom.py stands here; hourly.py calls it where
`PATHSTATS_SKETCHES` asks for it, and merging rows is rollup.py's.
"""

from typing import Any

import numpy.typing as npt
import polars as pl

from pathstats_pipeline.stats import bloom, reservoir, visitors


def sketch(
    events: pl.DataFrame, groups: npt.NDArray[Any], n_groups: int
) -> tuple[reservoir.Reservoirs, bloom.BloomSketches]:
    """Reservoirs of response_time_ms and filters of client_ip of each group [row]; events have their event_id.

    NULL times are no samples and NULL addresses no visitors. Raises ValueError where an id is NULL.
    """
    timed = events["response_time_ms"].is_not_null().to_numpy()
    known = events["client_ip"].is_not_null().to_numpy()
    times = events["response_time_ms"].drop_nulls().to_numpy()
    tags = reservoir.tag_events(events["event_id"])
    hashes = visitors.hash_clients(events["client_ip"]).drop_nulls().to_numpy()
    return (
        reservoir.build(groups[timed], n_groups, times, tags[timed]),
        bloom.build(groups[known], n_groups, hashes),
    )
