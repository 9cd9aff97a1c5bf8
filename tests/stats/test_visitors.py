"""Visitor sketches: stable hash, exact while small, equal bytes for equal sets, exchangeable with datasketch."""

import zlib
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash
from datasketch import HyperLogLogPlusPlus
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.stats import framing, visitors

VECTORS = {
    "": 0x2D06800538D394C2,
    "a": 0xE6C632B61E964E1F,
    "203.0.113.7": 0x5A3C573130817A24,
    "2001:db8::1": 0x039294A7A3FF634B,
    "ünïcode": 0xB3AC039FD7D79687,
    "x" * 300: 0xA5D1B4607DC83554,
}
"""Address to xxh3_64 with seed 0: what states are made of, on every machine and in every release."""

sets = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1)), max_size=200)


def random_hashes(n: int, seed: int = 1) -> visitors.Hashes:
    """Distinct hashes, the same ones for a seed."""
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def one(hashes: visitors.Hashes) -> visitors.VisitorSketches:
    """The sketch of one group."""
    return visitors.build(np.zeros(hashes.size, np.int64), 1, hashes)


def state(hashes: visitors.Hashes) -> bytes:
    """The state of one group."""
    return bytes(visitors.encode(one(hashes))[0])


def merged(states: list[bytes]) -> bytes:
    """The state that all these merge into."""
    sketches = visitors.decode(pl.Series(states, dtype=pl.Binary))
    return bytes(visitors.encode(visitors.merge(sketches, np.zeros(len(states), np.int64), 1))[0])


def test_the_hash_is_pinned() -> None:
    """Polars' plugin, the xxhash package and the vectors in this file agree; NULL stays NULL."""
    found = visitors.hash_clients(pl.Series("ip", [*VECTORS, None]))
    assert found.dtype == pl.UInt64
    assert found.to_list() == [*VECTORS.values(), None]
    assert [xxhash.xxh3_64_intdigest(address.encode()) for address in VECTORS] == list(VECTORS.values())
    assert [visitors.hash_client(address.encode()) for address in VECTORS] == list(VECTORS.values())


@given(sets, st.randoms())
def test_order_and_repetition_do_not_change_a_byte(pairs: list[tuple[int, int]], random: Any) -> None:
    """Same hashes, any order, any number of times: the same states."""
    again = pairs + pairs[: len(pairs) // 2]
    random.shuffle(again)
    states = [
        visitors.encode(
            visitors.build(np.array([g for g, _ in each], np.int64), 4, np.array([h for _, h in each], np.uint64))
        )
        for each in (pairs, again)
    ]
    assert states[0].equals(states[1], null_equal=True)


@given(st.integers(1, 4000), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_merging_any_split_gives_the_bytes_of_the_whole(n: int, n_parts: int, seed: int) -> None:
    """merge(build(A), build(B)) is build(A | B), below, across and above the sparse limit, and in rounds."""
    rng = np.random.default_rng(seed)
    hashes = random_hashes(n, seed)
    groups = rng.integers(0, n_parts, n)
    states = [state(hashes[groups == part]) for part in range(n_parts) if np.any(groups == part)]
    overlapping = [*states, state(hashes[: n // 2 + 1])]
    whole = state(hashes)
    assert merged(overlapping) == whole
    assert merged(overlapping[::-1]) == whole
    assert merged([merged(overlapping[:2]), *overlapping[2:]]) == whole
    assert merged([whole, whole]) == whole


def test_many_groups_merge_as_they_would_alone() -> None:
    """Sparse, dense and empty groups side by side don't disturb each other."""
    rng = np.random.default_rng(5)
    hashes = random_hashes(30_000)
    parts = rng.choice(12, hashes.size, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.004, 0.003, 0.002, 0.001])
    of_part = np.array([3, 0, 0, 4, 4, 4, 1, 1, 0, 3, 1, 1])
    together = visitors.encode(visitors.merge(visitors.build(parts, 12, hashes), of_part, 5))
    alone = [state(hashes[of_part[parts] == group]) if group != 2 else None for group in range(5)]
    assert together.to_list() == alone


@pytest.mark.parametrize("n", [0, 1, 100, 1_000, visitors.SPARSE_LIMIT])
def test_counts_are_exact_up_to_the_sparse_limit(n: int) -> None:
    """No estimate while the hashes themselves are kept."""
    assert visitors.estimate(one(np.repeat(random_hashes(n), 2))).tolist() == [n]


@pytest.mark.parametrize("n", [10**2, 10**3, 2_000, 10**4, 10**5, 10**6])
def test_the_error_stays_within_two_standard_errors(n: int) -> None:
    """2 x 1.04 / sqrt(16384) on addresses, hashed as in production."""
    addresses = pl.Series("ip", np.arange(n)).cast(pl.String)
    found = visitors.estimate(one(visitors.hash_clients(addresses).to_numpy()))[0]
    assert abs(found / n - 1) <= 2 * 1.04 / 128


def test_a_state_is_never_larger_than_its_registers() -> None:
    """One visitor takes 24 bytes; the largest sparse state is as long as a dense one."""
    assert len(state(random_hashes(1))) == 24
    assert len(state(random_hashes(visitors.SPARSE_LIMIT))) == 16 + 12_288
    assert len(state(random_hashes(visitors.SPARSE_LIMIT + 1))) == 16 + 12_288


@pytest.mark.parametrize("n", [1, 500, 1_537, 100_000])
def test_states_survive_a_round_trip(n: int) -> None:
    """Decode and encode again: the same bytes."""
    states = pl.Series([state(random_hashes(n)), None], dtype=pl.Binary)
    sketches = visitors.decode(states)
    assert visitors.encode(sketches).to_list() == states.to_list()
    assert visitors.estimate(sketches)[1] == 0


@pytest.mark.parametrize("n", [1, 3, 2_000])
def test_every_flipped_byte_is_detected(n: int) -> None:
    """A state with any one byte changed is refused, and cut or lengthened ones are too."""
    good = state(random_hashes(n))
    places = range(0, len(good), 1 if n < 10 else 7)
    broken = [good[:at] + bytes([good[at] ^ 0x01]) + good[at + 1 :] for at in places]
    broken += [b"", good[:-1], good + b"\0", good[:13]]
    _, damaged = visitors.decode_readable(pl.Series(broken, dtype=pl.Binary))
    assert [each.row for each in damaged] == list(range(len(broken)))


@pytest.mark.parametrize(("at", "value", "reason"), [(6, 12, "precision is 12"), (5, 8, "flags"), (8, 3, "length")])
def test_a_header_that_contradicts_itself_is_refused(at: int, value: int, reason: str) -> None:
    """Even with a good checksum: another precision, unknown flags, a wrong number of hashes."""
    forged = bytearray(state(random_hashes(2)))
    forged[at] = value
    forged[-4:] = zlib.crc32(forged[:-4]).to_bytes(4, "little")
    with pytest.raises(framing.DamagedStatesError, match=f"row 1: .*{reason}"):
        visitors.decode(pl.Series([None, bytes(forged)], dtype=pl.Binary))


def test_the_layout_is_the_documented_one() -> None:
    """Two visitors: header, ascending hashes, checksum, as docs/sketches.md says."""
    expected = b"PSHL" + bytes([1, 0]) + (14).to_bytes(2, "little") + (2).to_bytes(4, "little")
    expected += (7).to_bytes(8, "little") + (2**63).to_bytes(8, "little")
    assert state(np.array([2**63, 7, 7], np.uint64)) == expected + zlib.crc32(expected).to_bytes(4, "little")


@pytest.mark.parametrize("n", [0, 1, 1_000, 20_000])
def test_registers_are_those_of_datasketch(n: int) -> None:
    """The same addresses in both libraries give the same registers, from the sparse and from the dense form."""
    theirs = HyperLogLogPlusPlus(p=14, hashfunc=visitors.hash_client)
    for number in range(n):
        theirs.update(str(number).encode())
    hashes = visitors.hash_clients(pl.Series("ip", np.arange(n)).cast(pl.String)).to_numpy()
    if n == 0:
        assert visitors.encode(one(hashes)).to_list() == [None]
        return
    ours = visitors.to_datasketch(state(hashes))
    assert np.array_equal(ours.reg, theirs.reg)
    assert ours == theirs
    ours.update(b"another")
    assert ours.count() == pytest.approx(n, rel=0.03, abs=2)


def test_extreme_hashes_have_datasketch_s_ranks() -> None:
    """All-zero and all-one hashes touch the highest and the lowest rank."""
    theirs = HyperLogLogPlusPlus(p=14, hashfunc=int)
    hashes = np.array([0, 2**64 - 1, 1, 2**14, 2**63, 12345 << 14 | 77], np.uint64)
    for each in hashes.tolist():
        theirs.update(each)
    assert np.array_equal(visitors.to_datasketch(state(hashes)).reg, theirs.reg)


def test_a_datasketch_object_gives_a_state_that_merges() -> None:
    """Its registers count as they would have been built here."""
    theirs = HyperLogLogPlusPlus(p=14, hashfunc=visitors.hash_client)
    numbers = np.arange(6_000)
    for number in numbers[:4_000].tolist():
        theirs.update(str(number).encode())
    hashes = visitors.hash_clients(pl.Series("ip", numbers).cast(pl.String)).to_numpy()
    given_state = visitors.from_datasketch(theirs)
    assert given_state == state(hashes[:4_000])
    assert merged([given_state, state(hashes[3_900:4_100]), state(hashes[4_000:])]) == state(hashes)


def test_a_datasketch_object_of_another_hash_or_precision_is_refused() -> None:
    """Its registers would merge without an error into a wrong count."""
    with pytest.raises(ValueError, match="hashfunc must be xxh3_64"):
        visitors.from_datasketch(HyperLogLogPlusPlus(p=14))
    with pytest.raises(ValueError, match="p must be 14, got 12"):
        visitors.from_datasketch(HyperLogLogPlusPlus(p=12, hashfunc=visitors.hash_client))
    impossible = np.full(visitors.REGISTERS, 52, np.int8)
    with pytest.raises(ValueError, match="registers must be 0 to 51"):
        visitors.from_datasketch(HyperLogLogPlusPlus(reg=impossible, hashfunc=visitors.hash_client))


def test_slices_and_columns_of_nothing_but_null_are_read() -> None:
    """A piece of a column decodes as that piece; a column of NULL as empty sketches; no rows as none."""
    states = pl.Series([state(random_hashes(n)) for n in (1, 2, 3, 2_000, 5)], dtype=pl.Binary)
    assert visitors.estimate(visitors.decode(states[1:3])).tolist() == [2, 3]
    assert visitors.estimate(visitors.decode(pl.Series([None, None], dtype=pl.Binary))).tolist() == [0, 0]
    assert len(visitors.decode(states.clear())) == 0
    assert visitors.encode(visitors.decode(states.clear())).to_list() == []


def test_parts_are_laid_end_to_end() -> None:
    """`concatenate` keeps every sketch, sparse and dense, in its place."""
    parts = [one(random_hashes(3)), one(random_hashes(5_000)), one(random_hashes(0))]
    assert visitors.encode(visitors.concatenate(parts)).to_list() == [
        state(random_hashes(3)),
        state(random_hashes(5_000)),
        None,
    ]
