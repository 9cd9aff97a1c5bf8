"""Reservoirs: the same sample in any order and any split, uniform, exact while small, and true at the ends."""

import zlib

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.stats import reservoir

Floats = npt.NDArray[np.float64]


def tags(count: int, first: int = 0) -> npt.NDArray[np.uint64]:
    """Tags of events with consecutive ids."""
    return reservoir.tag_events(pl.Series(np.arange(first, first + count)).cast(pl.String))


def sketch(values: Floats, first: int = 0) -> reservoir.Reservoirs:
    """One group of values, whose events have consecutive ids."""
    return reservoir.build(np.zeros(values.size, np.int64), 1, values, tags(values.size, first))


def in_quarters(values: npt.ArrayLike) -> Floats:
    """Values whose sums are exact in floating point, in any order."""
    return np.round(np.asarray(values, np.float64) * 4) / 4


@given(st.integers(0, 2**32 - 1), st.integers(0, 4_000), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_any_order_and_any_split_gives_the_same_bytes(seed: int, n: int, parts: int, groups: int) -> None:
    """Merging parts in one round or in several is the sample of the whole."""
    rng = np.random.default_rng(seed)
    values, of_group = in_quarters(rng.lognormal(3, 2, n)), rng.integers(0, groups, n)
    marks = tags(n)
    whole = reservoir.encode(reservoir.build(of_group, groups, values, marks))
    order, part = rng.permutation(n), rng.integers(0, parts, n)
    shuffled = reservoir.build(of_group[order], groups, values[order], marks[order])
    split = reservoir.build(part * groups + of_group, parts * groups, values, marks)
    target = np.tile(np.arange(groups), parts)
    half = np.where(np.arange(parts * groups) < parts * groups // 2, target, target + groups)
    in_rounds = reservoir.merge(reservoir.merge(split, half, 2 * groups), np.tile(np.arange(groups), 2), groups)

    assert reservoir.encode(shuffled).equals(whole)
    assert reservoir.encode(reservoir.merge(split, target, groups)).equals(whole)
    assert reservoir.encode(in_rounds).equals(whole)


def test_equal_values_do_not_collapse() -> None:
    """Half of the samples share a value: so do half of the kept ones."""
    values = np.concatenate([np.full(50_000, 7.0), np.linspace(100, 200, 50_000)])
    kept = sketch(values).values

    assert kept.size == reservoir.CAPACITY
    assert np.sum(kept == 7.0) == pytest.approx(500, abs=3 * np.sqrt(250))


def test_a_sample_is_uniform() -> None:
    """Chi-square of 200 samples of 20,000 ordered values over 20 bins; 43.8 is its 99.9th percentile for 19 degrees."""
    counts = np.zeros(20)
    for part in range(200):
        kept = sketch(np.arange(20_000, dtype=np.float64), first=part * 20_000).values
        counts += np.histogram(kept, bins=20, range=(0, 20_000))[0]
    expected = 200 * reservoir.CAPACITY / 20

    assert np.sum((counts - expected) ** 2 / expected) < 43.8


def test_it_is_not_the_first_thousand() -> None:
    """Late events are in it as often as early ones."""
    kept = sketch(np.arange(100_000, dtype=np.float64)).values

    assert np.mean(kept) == pytest.approx(50_000, rel=0.06)
    assert kept.max() > 99_000


@pytest.mark.parametrize("n", [1, 2, 10, 999, 1_000])
def test_up_to_a_thousand_samples_it_is_exact(n: int) -> None:
    """Percentiles are those of numpy; the state says so."""
    values = np.random.default_rng(n).lognormal(3, 2, n)
    found = sketch(values)

    assert reservoir.percentiles(found, [0, 0.5, 0.95, 1])[0].tolist() == pytest.approx(
        np.quantile(values, [0, 0.5, 0.95, 1]).tolist()
    )
    assert reservoir.encode(found)[0][5] & 1


@pytest.mark.parametrize("seed", range(5))
def test_rank_errors_stay_within_their_bounds(seed: int) -> None:
    """On fixed seeds; ends, count and sum are true whatever was sampled."""
    values = np.random.default_rng(seed).pareto(1.1, 200_000)
    found = sketch(values, first=seed * 1_000_000)
    answers = reservoir.percentiles(found, [0.5, 0.95, 0.99, 0, 1])[0]

    for answer, wanted, bound in zip(answers, (0.5, 0.95, 0.99), reservoir.RANK_ERROR_PP.values(), strict=False):
        assert abs(np.mean(values <= answer) - wanted) * 100 <= bound
    assert answers[3:].tolist() == [values.min(), values.max()]
    assert (found.count[0], found.sum[0]) == (200_000, pytest.approx(values.sum()))
    assert bool(np.all(np.diff(reservoir.percentiles(found, np.linspace(0, 1, 101).tolist())[0]) >= 0))


def test_unusable_times_are_counted_apart() -> None:
    """NaN, infinite and negative ones are neither sampled nor summed."""
    found = sketch(np.array([1.0, np.nan, np.inf, -1.0, 2.0, -0.0]))

    assert (found.count[0], found.dropped[0], found.sum[0]) == (3, 3, 3.0)


def test_a_round_trip_and_every_flipped_byte() -> None:
    """A state comes back as it was; a flipped byte anywhere is noticed and the neighbours go on."""
    values = np.random.default_rng(1).lognormal(3, 1, 30)
    [state] = reservoir.encode(sketch(values)).to_list()
    good, damaged = reservoir.decode_readable(pl.Series([state]))
    assert not damaged
    assert reservoir.encode(good).to_list() == [state]
    flipped = [state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :] for at in range(len(state))]
    some, damaged = reservoir.decode_readable(pl.Series([state, *flipped, state]))
    assert [each.row for each in damaged] == list(range(1, len(state) + 1))
    assert some.count[[0, -1]].tolist() == [30, 30]


def test_the_bytes_of_a_fixed_sample_are_pinned() -> None:
    """A change of tag, format or rule must be a new version."""
    [state] = reservoir.encode(sketch(in_quarters(np.arange(5_000) * 1.25))).to_list()

    assert (len(state), zlib.crc32(state[:-4])) == (16_056, 347_619_428)


def test_events_without_an_id_are_refused() -> None:
    """There would be nothing to sample by."""
    with pytest.raises(ValueError, match="1 event\\(s\\) have no event_id"):
        reservoir.tag_events(pl.Series(["a", None]))


def test_a_group_without_samples_has_no_state_and_no_percentile() -> None:
    """Empty groups stay empty through a merge."""
    found = reservoir.build(np.array([1]), 3, np.array([5.0]), tags(1))
    assert [state is None for state in reservoir.encode(found)] == [True, False, True]
    assert np.isnan(reservoir.percentiles(found, [0.5])[:, 0]).tolist() == [True, False, True]
    merged = reservoir.merge(found, np.array([0, 1, 1]), 3)
    assert merged.count.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="quantiles must be 0 to 1"):
        reservoir.percentiles(found, [1.5])
