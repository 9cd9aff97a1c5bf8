r"""From a file to blocks of lines, in bounded memory: the only place that knows about compression and encodings.

What a line means is the business of `events.formats`; which files are read, and what becomes of a file that can't be,
is decided by the caller. A line ends with the byte `\n` and with nothing else.
"""

import contextlib
import dataclasses
import functools
import io
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from isal import igzip, isal_zlib

from pathstats_pipeline.events.formats.parsed import LINE_LIMIT_BYTES
from pathstats_pipeline.storage.objects import ObjectsError

BLOCK_BYTES: Final = 32 * 1024 * 1024
"""Large enough that the cost of a block is its lines; small enough for a small machine."""

FILE_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""What has no line end within this many bytes is no log file."""

_SKIP_BYTES: Final = 1 << 20
_CACHED_BYTES: Final = 1 << 18
"""Looked through at once: what is made of them on the way stays in the cache, which halves the time."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)))
"""A frame, or a skippable frame, which some writers put first."""

_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_NEWLINE: Final = 10
_ISAL_ERROR: Final[Any] = isal_zlib.error  # its stub calls it an instance
_READ_ERRORS: Final[tuple[type[Exception], ...]] = (OSError, EOFError, ValueError, _ISAL_ERROR)


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class SourceError(ValueError):
    """A file that can't be read as a log to its end. One line, which names the file: nothing of it is ingested."""


class SourceGoneError(SourceError):
    """There is no file, or no more."""


class Source:
    """A log file open for reading, uncompressed on the way. Every failure to read is a `SourceError`.

    `version` says which file it is, whatever stands under its name by now; equal for two readings of the same. `inode`
    is 0 where the file has none.
    """

    def __init__(self, name: str, stream: Any, file: IO[bytes], version: Hashable, inode: int = 0) -> None:
        self.name = name
        self.version = version
        self.inode = inode
        self._stream = stream
        self._file = file

    @property
    def compressed(self) -> bool:
        """Whether the file is uncompressed on the way; nobody appends lines to such a file."""
        return self._stream is not self._file

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes; empty only at the end of a file that is whole."""
        try:
            return bytes(self._stream.read(size))
        except ObjectsError as error:
            raise SourceError(str(error)) from error
        except _READ_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SourceError(f"{self.name}: damaged or cut short: {reason}") from error

    @property
    def seekable(self) -> bool:
        """Whether it can be read from any position without reading what stands before."""
        return not self.compressed and self._file.seekable()

    def seek(self, position: int) -> None:
        """Go to a position of a source that hasn't been read, or is seekable; behind the end, nothing can be read."""
        if self.seekable:
            self._file.seek(position)
            return
        while position and (data := self.read(min(position, _SKIP_BYTES))):
            position -= len(data)

    def close(self) -> None:
        """Close the file."""
        try:
            self._stream.close()
        finally:
            self._file.close()  # the readers of compressed files leave it open

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(path: Path) -> Source:
    """Open a plain, gzip or zstd file, told apart by its first bytes and not by its name."""
    try:
        file = path.open("rb")
    except OSError as error:
        kind = SourceGoneError if isinstance(error, FileNotFoundError) else SourceError
        raise kind(f"{path}: {error.strerror or error}") from error
    status = os.fstat(file.fileno())
    return uncompressed(file, str(path), (status.st_dev, status.st_ino), status.st_ino)


def uncompressed(file: io.BufferedReader, name: str, version: Hashable, inode: int = 0) -> Source:
    """A source of a file that is open already, closed with it, or now where it can't be read."""
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        try:
            magic = file.peek(4)[:4]
        except ObjectsError as error:
            raise SourceError(str(error)) from error
        except OSError as error:
            raise SourceError(f"{name}: {error.strerror or error}") from error
        stream: Any = file
        if magic.startswith(_GZIP):
            stream = igzip.open(file, "rb")  # type: ignore[no-untyped-call]  # isal annotates only parts
        elif magic in _ZSTD:
            # Arrow's reader takes several frames, and unlike zstandard's it tells a file that was cut short.
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        undo.pop_all()
    return Source(name, stream, file, version, inode)


@dataclasses.dataclass(frozen=True)
class LineBlock:
    r"""Some lines of a source: their text for the formats, and their bytes for whoever must keep them.

    `text` holds them as valid UTF-8, each up to its place in `ends`; invalid bytes stand as `\xff` (four characters).
    `data` is what was read. `first_line_number` counts from 1.
    """

    first_line_number: int
    text: bytes = dataclasses.field(repr=False)
    ends: npt.NDArray[np.int64] = dataclasses.field(repr=False)
    data: bytes = dataclasses.field(repr=False)
    _ends: npt.NDArray[np.int64] = dataclasses.field(repr=False)

    @functools.cached_property
    def lines(self) -> pl.Series:
        r"""One text for each line, without line end and without one `\r` before it.

        A line longer than 1 MiB is NULL, which every format rejects. Made only for whoever asks.
        """
        lines = _texts(self.text, self.ends)
        if self.first_line_number == 1 and self.data.startswith(_BOM):
            lines = lines.scatter(0, lines.slice(0, 1).str.strip_prefix("\ufeff"))
        lengths = np.diff(self._ends, prepend=-1) - 1
        (long,) = np.nonzero(lengths > LINE_LIMIT_BYTES)
        return lines.scatter(pl.Series(long), None) if long.size else lines

    @property
    def count(self) -> int:
        """How many lines there are."""
        return int(self._ends.size)

    def raw(self, index: int) -> bytes:
        r"""Give the bytes of a line as they were read, without the `\n`."""
        start = int(self._ends[index - 1]) + 1 if index > 0 else 0
        return self.data[start : int(self._ends[index])]


def read_blocks(stream: Readable, block_bytes: int = BLOCK_BYTES) -> Iterator[LineBlock]:
    """Give the lines of a stream in blocks of about `block_bytes`; a last line needs no line end.

    Memory is bounded by the block and the longest line. Raises `SourceError` where the stream is no log file.
    """
    name = str(getattr(stream, "name", "stream"))
    number = 1
    for data in _whole_lines(stream, block_bytes, name):
        if number == 1 and data.startswith(_UTF_16):
            raise SourceError(f"{name}: UTF-16 text; convert it to UTF-8 first")
        block = _block(data, number)
        yield block
        number += block.count


def _whole_lines(stream: Readable, block_bytes: int, name: str) -> Iterator[bytes]:
    """Cut a stream behind line ends; only the last piece may lack one, and it brings its whole lines with it."""
    pieces: list[bytes] = []
    held = 0
    chunk = stream.read(block_bytes)
    while chunk:
        following = stream.read(block_bytes)
        to_line_end = chunk.find(b"\n")
        if held + (len(chunk) if to_line_end < 0 else to_line_end) > FILE_LIMIT_BYTES:
            raise SourceError(f"{name}: no line end within 64 MiB; not a log file")
        cut = chunk.rfind(b"\n") + 1 if following else len(chunk)
        if cut:
            yield b"".join([*pieces, memoryview(chunk)[:cut]]) if pieces or cut < len(chunk) else chunk
            pieces, held = [], 0
        if cut < len(chunk):
            pieces.append(chunk[cut:])
            held += len(chunk) - cut
        chunk = following


def _block(data: bytes, number: int) -> LineBlock:
    ends = _line_ends(data)
    try:
        if not data.isascii():  # costs a tenth of decoding
            data.decode()
        valid, text_ends = data, ends
    except UnicodeDecodeError:
        # A line end is never part of an invalid sequence, so the lines stay the same lines.
        valid = data.decode("utf-8", "backslashreplace").encode()
        text_ends = _line_ends(valid)
    return LineBlock(number, valid, text_ends, data, ends)


def _line_ends(data: bytes) -> npt.NDArray[np.int64]:
    """Give the position of each line end; the end of the data is one where it stops in the middle of a line."""
    whole = np.frombuffer(data, np.uint8)
    pieces = range(0, whole.size, _CACHED_BYTES)
    ends = [np.flatnonzero(whole[start : start + _CACHED_BYTES] == _NEWLINE) + start for start in pieces]
    return np.concatenate(ends if data.endswith(b"\n") else [*ends, [len(data)]])


def _texts(data: bytes, ends: npt.NDArray[np.int64]) -> pl.Series:
    """Give the lines of valid UTF-8 as a column, without copying it line by line."""
    starts = np.concatenate([[0], np.minimum(ends + 1, len(data))]).astype(np.int64)
    array = pa.LargeStringArray.from_buffers(ends.size, pa.py_buffer(starts), pa.py_buffer(data))
    lines = pl.Series("line", pl.from_arrow(array))
    # Taking the head moves no text; `strip_suffix` copies it all, and serves where a last line has nothing to lose.
    lines = lines.str.head(-1) if data.endswith(b"\n") else lines.str.strip_suffix("\n")
    return lines.str.strip_suffix("\r") if b"\r" in data else lines
