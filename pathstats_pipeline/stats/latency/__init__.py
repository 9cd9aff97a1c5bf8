"""Latency sketches: t-digests of all groups at once, as arrays. The percentiles of every statistic come from here.

A file for each question: what a sketch is and how it is built (sketches.py), how centroids are clustered (clusters.py),
how sketches are merged (merging.py), read (reading.py) and kept as bytes (states.py). No frame columns, no paths, no
hours in this room; bytes are framed by framing.py. A change of a constant here changes the bytes of states: see
docs/sketches.md first. The names below are the room's own, since it is passed on as a whole: `pairs.LatencyKernel`.
"""

from pathstats_pipeline.stats.latency.clusters import COMPRESSION
from pathstats_pipeline.stats.latency.merging import merge, merge_all
from pathstats_pipeline.stats.latency.reading import percentiles
from pathstats_pipeline.stats.latency.sketches import EXACT_LIMIT, LatencySketches, build, build_grouped
from pathstats_pipeline.stats.latency.states import (
    KIND,
    decode,
    decode_readable,
    encode,
    from_tdigest,
    to_tdigest,
)

__all__ = [
    "COMPRESSION",
    "EXACT_LIMIT",
    "KIND",
    "LatencySketches",
    "build",
    "build_grouped",
    "decode",
    "decode_readable",
    "encode",
    "from_tdigest",
    "merge",
    "merge_all",
    "percentiles",
    "to_tdigest",
]
