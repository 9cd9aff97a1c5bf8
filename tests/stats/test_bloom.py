"""Bloom filters of visitors: exact while small, within their bound above, the same bytes whatever the split."""

import math
import zlib

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.stats import bloom, visitors


def hashes(n: int, seed: int = 1) -> npt.NDArray[np.uint64]:
    """Random hashes."""
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def sketch(found: npt.NDArray[np.uint64]) -> bloom.BloomSketches:
    """One group of hashes."""
    return bloom.build(np.zeros(found.size, np.int64), 1, found)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 500, 3_000, 8_000]), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_any_order_and_any_split_gives_the_same_bytes(seed: int, n: int, parts: int, groups: int) -> None:
    """Also where some parts are filters and some are not, and where parts overlap."""
    rng = np.random.default_rng(seed)
    found, of_group, part = hashes(n, seed), rng.integers(0, groups, n), rng.integers(0, parts, n)
    whole = bloom.encode(bloom.build(of_group, groups, found))
    order = rng.permutation(n)
    shuffled = bloom.build(of_group[order], groups, found[order])
    split = bloom.build(part * groups + of_group, parts * groups, found)
    target = np.tile(np.arange(groups), parts)
    merged = bloom.merge(split, target, groups)
    twice = bloom.merge(
        bloom.concatenate([merged, split, merged]),
        np.concatenate([target[:groups], target] * 2)[: (parts + 2) * groups],
        groups,
    )

    assert bloom.encode(shuffled).equals(whole)
    assert bloom.encode(merged).equals(whole)
    assert bloom.encode(twice).equals(whole)


@pytest.mark.parametrize("n", [0, 1, 100, bloom.SPARSE_LIMIT])
def test_few_visitors_are_counted_exactly(n: int) -> None:
    """The state keeps their hashes."""
    found = sketch(np.concatenate([hashes(n), hashes(n)]))

    assert bloom.estimate(found).tolist() == [n]
    assert found.filters == ()


@pytest.mark.parametrize("n", [2_500, 10_000, 100_000, 1_000_000])
def test_many_visitors_are_counted_within_the_bound(n: int) -> None:
    """Four standard errors of linear counting, on fixed seeds; the stated error is the largest of them."""
    load = n / bloom.BITS
    standard_error = math.sqrt(bloom.BITS * (math.exp(load) - load - 1)) / n
    assert standard_error < bloom.RELATIVE_ERROR
    for seed in range(3):
        assert bloom.estimate(sketch(hashes(n, seed)))[0] == pytest.approx(n, rel=4 * standard_error, abs=0.5)


def test_a_full_filter_still_has_a_count() -> None:
    """Not infinity: what it would count with one bit unset."""
    assert bloom.estimate(sketch(hashes(4_000_000))).tolist() == [1_713_873]


@pytest.mark.parametrize("n", [3, bloom.SPARSE_LIMIT + 1])
def test_a_round_trip_and_flipped_bytes(n: int) -> None:
    """A state comes back as it was; a flipped byte is noticed and the neighbours go on."""
    [state] = bloom.encode(sketch(hashes(n))).to_list()
    good, damaged = bloom.decode_readable(pl.Series([state]))
    assert not damaged
    assert bloom.encode(good).to_list() == [state]
    places = (
        [*range(40), *range(40, len(state), 311), *range(len(state) - 5, len(state))] if n > 3 else range(len(state))
    )
    flipped = [state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :] for at in places]
    some, damaged = bloom.decode_readable(pl.Series([state, *flipped, state]))
    assert [each.row for each in damaged] == list(range(1, len(flipped) + 1))
    assert bloom.estimate(some)[[0, -1]].tolist() == bloom.estimate(sketch(hashes(n))).tolist() * 2


def test_rblooms_bits_are_pinned() -> None:
    """A release of rbloom that sets other bits would count the union of old and new states wrongly."""
    addresses = pl.Series([f"198.51.{n // 256}.{n % 256}" for n in range(5_000)])
    [state] = bloom.encode(sketch(visitors.hash_clients(addresses).to_numpy())).to_list()

    assert (bloom.BITS, len(state), zlib.crc32(state[:-4])) == (144_272, 18_052, 3_410_903_973)
