import gzip
import io
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.intake.lines import SourceError, open_source, read_blocks

MIB = 1024 * 1024
TEXT = b"".join(b"line %d \xc3\xa9\n" % number for number in range(50_000))


def texts(data: bytes, block_bytes: int = 1 << 20) -> list[str | None]:
    """Give all lines of some bytes."""
    return [line for block in read_blocks(io.BytesIO(data), block_bytes) for line in block.lines]


def raws(data: bytes, block_bytes: int = 1 << 20) -> list[bytes]:
    """Give the bytes of all lines."""
    blocks = read_blocks(io.BytesIO(data), block_bytes)
    return [block.raw(index) for block in blocks for index in range(block.lines.len())]


def read_file(path: Path) -> list[bytes]:
    """Give the bytes of all lines of a file, in small blocks."""
    with open_source(path) as source:
        return [block.raw(index) for block in read_blocks(source, 65_536) for index in range(block.lines.len())]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r", ["a", "b"]),
        (b"a\r\r\n", ["a\r"]),  # one \r only
        (b"a\rb\n", ["a\rb"]),  # an old Mac's line end is none
        ("a\u2028b\u0085c\x0bd\x0ce\n".encode(), ["a\u2028b\u0085c\x0bd\x0ce"]),
        (b"a\x00b\n", ["a\x00b"]),
        (b"a\xffb\nc\xe2\x82\nd\n", ["a\\xffb", "c\\xe2\\x82", "d"]),
        (b"\xed\xa0\x80\n", ["\\xed\\xa0\\x80"]),  # a surrogate is no UTF-8
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),  # a mark only at the start
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 1000])
def test_lines(data: bytes, expected: list[str], block_bytes: int) -> None:
    """A line ends with the byte LF and nothing else, wherever a block ends."""
    assert expected == texts(data, max(block_bytes, 3))
    assert len(expected) == len(raws(data, block_bytes))


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=60) | st.text("a\n\r\u2028é", max_size=30).map(str.encode),
    block_bytes=st.integers(1, 40),
    end=st.booleans(),
)
def test_no_byte_is_lost(data: bytes, block_bytes: int, end: bool) -> None:  # noqa: FBT001 (Hypothesis names it)
    """The bytes of the lines, put together again, are the file; each line has its number and its text."""
    data = b"x" + data + (b"\n" if end else b"")
    blocks = list(read_blocks(io.BytesIO(data), block_bytes))
    lines = [block.raw(index) for block in blocks for index in range(block.lines.len())]
    decoded = [line.removesuffix(b"\r").decode("utf-8", "backslashreplace") for line in lines]

    assert data.removesuffix(b"\n") == b"\n".join(lines)
    assert decoded == [line for block in blocks for line in block.lines]
    assert [1 + sum(block.lines.len() for block in blocks[:place]) for place in range(len(blocks))] == [
        block.first_line_number for block in blocks
    ]


def test_a_small_file_is_one_block() -> None:
    """A last line without a line end does not make a block of its own."""
    assert len(list(read_blocks(io.BytesIO(b"a\nb\nc")))) == 1


def test_a_line_too_long_to_keep_is_marked() -> None:
    """A line beyond 1 MiB is NULL, so every format rejects it; its bytes are kept and its neighbours are read."""
    long = b"x" * (MIB + 1)
    (block,) = read_blocks(io.BytesIO(b"a\n" + long + b"\n" + b"y" * MIB + b"\n"))
    rejected = detect(block.lines).parse(block.lines).rejected

    assert block.lines.to_list() == ["a", None, "y" * MIB]
    assert long == block.raw(1)
    assert rejected.row(1) == (1, "line longer than 1 MiB")


def test_no_line_end_for_64_mib_is_no_log_file() -> None:
    """A file without line ends is refused before it fills the memory."""
    with pytest.raises(SourceError, match="no line end within 64 MiB"):
        list(read_blocks(io.BytesIO(b"x" * (66 * MIB)), 8 * MIB))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named(encoding: str) -> None:
    """A UTF-16 file is refused with a reason, not ingested as noise."""
    with pytest.raises(SourceError, match="UTF-16"):
        list(read_blocks(io.BytesIO("\ufeffa\n".encode(encoding))))


@pytest.mark.parametrize(
    "packed",
    [
        TEXT,
        gzip.compress(TEXT),
        gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]),
        zstandard.compress(TEXT),
        zstandard.compress(TEXT[:1000]) + zstandard.compress(TEXT[1000:]),
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + zstandard.compress(TEXT),
    ],
    ids=["plain", "gzip", "gzip of two members", "zstd", "zstd of two frames", "zstd after a skippable frame"],
)
def test_compression_is_told_by_the_first_bytes(tmp_path: Path, packed: bytes) -> None:
    """A file is read by what it is, not by its name."""
    file = tmp_path / "access.log"
    file.write_bytes(packed)

    assert TEXT.splitlines() == read_file(file)


def damaged() -> dict[str, bytes]:
    """Give files that are cut short or damaged."""
    packed = {"gzip": gzip.compress(TEXT), "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)}
    files: dict[str, bytes] = {}
    for name, data in packed.items():
        files[f"{name} without its last byte"] = data[:-1]
        files[f"half of {name}"] = data[: len(data) // 2]
        files[f"{name} and half of a second"] = data + data[: len(data) // 2]
        files[f"{name} with another byte within"] = data[:500] + bytes([data[500] ^ 255]) + data[501:]
    return files


@pytest.mark.parametrize("packed", damaged().values(), ids=damaged())
def test_a_damaged_file_is_an_error(tmp_path: Path, packed: bytes) -> None:
    """A file that can't be read to its end is an error in one line that names it, so that nothing is ingested."""
    file = tmp_path / "access.log.gz"
    file.write_bytes(packed)
    with pytest.raises(SourceError) as caught:
        read_file(file)

    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A missing file and a directory are errors of the same kind."""
    with pytest.raises(SourceError, match="No such file"):
        open_source(tmp_path / "none.log")
    with pytest.raises(SourceError):
        open_source(tmp_path)
