"""One gzip member: the same bytes for the same lines, for every reader; and nothing less passes as one."""

import gzip
import hashlib
import io
import pathlib
import random
import subprocess
import zlib

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.archive.gzipped import GzipError, GzipMember, compress, in_parts
from pathstats_pipeline.archive.jsonl import to_bytes, to_lines
from pathstats_pipeline.events.load import Load

from .worlds import events, hour_of

RAW = to_bytes(to_lines(events(Load(hour_of(5), "gzipped"), 400)))
BODY = b"".join(compress([RAW]))
HEADER_BYTES = 10


def read(body: bytes) -> bytes:
    """Read a stream as one gzip member."""
    return io.BufferedReader(GzipMember(io.BytesIO(body))).read()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(RAW)), max_size=40))
def test_chunking_does_not_change_a_byte(cuts: list[int]) -> None:
    """The same lines in any chunks, empty ones among them, give the same object."""
    ends = sorted([*cuts, len(RAW)])
    chunks = [RAW[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert b"".join(compress(chunks)) == BODY


def test_it_is_one_member_without_a_time_stamp() -> None:
    """A one-shot reader has everything, and the header holds no time and no name."""
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(BODY) == RAW
    assert reader.eof
    assert reader.unused_data == b""
    assert BODY[4:8] == b"\0\0\0\0"
    assert BODY[3] == 0


def test_every_reader_reads_the_same(tmp_path: pathlib.Path) -> None:
    """The gzip module, zcat, one-shot zlib, DuckDB and our own reader agree."""
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(BODY)
    assert gzip.decompress(BODY) == RAW
    assert zlib.decompress(BODY, wbits=31) == RAW
    assert subprocess.run(["/usr/bin/env", "zcat", path], capture_output=True, check=True).stdout == RAW
    assert read(BODY) == RAW
    [(rows, ids)] = duckdb.execute(
        "SELECT count(*), count(DISTINCT event_id) FROM read_json(?)", [str(path)]
    ).fetchall()
    assert rows == ids == 400


def test_nothing_is_a_member_too() -> None:
    """No bytes in give an empty, whole member."""
    assert read(b"".join(compress([]))) == b""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_parts_are_the_same_bytes_and_all_but_the_last_are_full(pieces: list[bytes], part_bytes: int) -> None:
    """Parts have exactly the size asked for, the last one at most that, and none is empty."""
    parts = list(in_parts(pieces, part_bytes))
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == part_bytes for part in parts[:-1])
    assert all(0 < len(part) <= part_bytes for part in parts[-1:])


def test_a_member_tells_its_facts() -> None:
    """Sizes and hash are those of the whole stream once it was read to its end."""
    member = GzipMember(io.BytesIO(BODY))
    assert io.BufferedReader(member).read() == RAW
    assert (member.compressed_bytes, member.raw_bytes) == (len(BODY), len(RAW))
    assert member.sha256 == hashlib.sha256(BODY).hexdigest()


def test_a_cut_at_any_place_is_noticed() -> None:
    """However many bytes are missing at the end, reading raises."""
    for length in [*range(200), *range(200, len(BODY), 97), *range(len(BODY) - 30, len(BODY))]:
        with pytest.raises(GzipError, match="cut after"):
            read(BODY[:length])


def test_two_members_are_not_one() -> None:
    """A second member is refused, and so is a file that is whole only up to a member's end by its facts."""
    half = RAW.index(b"\n", len(RAW) // 2) + 1
    two = b"".join(compress([RAW[:half]])) + b"".join(compress([RAW[half:]]))
    assert gzip.decompress(two) == RAW
    with pytest.raises(GzipError, match="after the gzip member"):
        read(two)


@pytest.mark.parametrize("trailer", [b"\0", b"\n", b"x" * 2_000_000, BODY])
def test_bytes_after_the_member_are_noticed(trailer: bytes) -> None:
    """Nothing may follow the member, be it a zero byte."""
    with pytest.raises(GzipError, match="after the gzip member"):
        read(BODY + trailer)


def test_a_flipped_bit_is_noticed() -> None:
    """Any flipped bit raises, but for those that carry nothing: the header's time, and what fills up a byte."""
    rng = random.Random(20)  # noqa: S311 - test data
    caught = 0
    for position in [0, 1, 2, *range(len(BODY) - 8, len(BODY)), *rng.sample(range(HEADER_BYTES, len(BODY)), 200)]:
        damaged = bytearray(BODY)
        damaged[position] ^= 1 << rng.randrange(8)
        try:
            found = read(bytes(damaged))
        except GzipError:
            caught += 1
        else:
            assert found == RAW
    assert caught > 205


@pytest.mark.parametrize("body", [b"", b"\x1f", b"not gzip at all", b"\0" * 100, RAW])
def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    """An empty object, garbage and plain lines are no member."""
    with pytest.raises(GzipError):
        read(body)


def test_a_stream_may_come_in_small_pieces() -> None:
    """A network that gives few bytes at a time changes nothing."""

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 7))

    assert io.BufferedReader(GzipMember(Trickle(BODY))).read() == RAW
    with pytest.raises(GzipError):
        io.BufferedReader(GzipMember(Trickle(BODY + b"\0"))).read()
