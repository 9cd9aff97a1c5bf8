"""Frames: a header with a good checksum that can't be true, or is of another release, is damage in every kind."""

import types
import zlib

import numpy as np
import polars as pl
import pytest

from pathstats_pipeline.stats import bloom, latency, reservoir, visitors

ONE_GROUP = np.zeros(40_000, np.int64)
TIMES = np.linspace(1, 2, ONE_GROUP.size)
HASHES = np.random.default_rng(1).integers(0, 2**63, ONE_GROUP.size).astype(np.uint64)


def state(kernel: types.ModuleType, n: int) -> bytes:
    """The state of so many samples or visitors."""
    arrays = {latency: (TIMES,), reservoir: (TIMES, HASHES), visitors: (HASHES,), bloom: (HASHES,)}[kernel]
    built = kernel.build(ONE_GROUP[:n], 1, *(array[:n].copy() for array in arrays))
    return bytes(kernel.encode(built)[0])


@pytest.mark.parametrize("n", [3, ONE_GROUP.size])
@pytest.mark.parametrize(
    ("kernel", "field", "value", "reason"),
    [
        (latency, "flags", 0x30, "its flags are unknown"),
        (latency, "centroids", 7, "its length does not fit its header"),
        (reservoir, "capacity", 9, "its capacity is 9, this release reads 1000"),
        (reservoir, "flags", 8, "its flags are unknown"),
        (reservoir, "samples", 7, "its length does not fit its header"),
        (visitors, "precision", 12, "its precision is 12, this release reads 14"),
        (visitors, "flags", 8, "its flags are unknown"),
        (visitors, "entries", 7, "its length does not fit its header"),
        (bloom, "hash_count", 2, "its hash_count is 2, this release reads 1"),
        (bloom, "flags", 8, "its flags are unknown"),
        (bloom, "entries", 7, "its length does not fit its header"),
    ],
)
def test_a_header_that_can_not_be_true_is_refused(
    kernel: types.ModuleType, field: str, value: int, reason: str, n: int
) -> None:
    """Small states and full ones; the reason names what is wrong, and the neighbours are read."""
    good = state(kernel, n)
    header = np.frombuffer(good[: kernel.KIND.header.itemsize], kernel.KIND.header).copy()
    header[field] = value
    forged = header.tobytes() + good[header.nbytes : -4]
    forged += zlib.crc32(forged).to_bytes(4, "little")

    _, damaged = kernel.decode_readable(pl.Series([good, forged, None, good], dtype=pl.Binary))

    assert [(each.row, each.reason) for each in damaged] == [(1, reason)]


@pytest.mark.parametrize("kernel", [latency, reservoir, visitors, bloom])
def test_no_states_at_all_are_no_damage(kernel: types.ModuleType) -> None:
    """NULL rows and an empty series decode to empty sketches."""
    for states in (pl.Series([], dtype=pl.Binary), pl.Series([None, None], dtype=pl.Binary)):
        sketches, damaged = kernel.decode_readable(states)
        assert (len(sketches), damaged) == (len(states), ())
