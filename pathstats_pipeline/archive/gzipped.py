"""Gzip as the archive wants it: one member, no time stamp, streamed both ways in bounded memory. Pure.

One member, because one-shot readers stop after the first and a file cut between two members looks whole. Within it,
each MiB is compressed for itself, in threads, and so is each named run: a run can be decoded without the rest. The
same bytes in give the same bytes out, whatever their chunking and the number of threads.

A thread that compresses should do nothing else: ISA-L 1.9's deflate and its CRC leave the upper halves of the vector
registers in use, and whatever the thread runs next that was compiled for SSE2 takes twice its time (measured: DuckDB
reading rows, 0.43 to 0.88 s a million). So both are left to such threads; inflating has no such effect.
"""

import dataclasses
import hashlib
import io
import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, TypeAlias

from isal import isal_zlib

from pathstats_pipeline.archive import ahead
from pathstats_pipeline.archive.ahead import Ahead

Buffer: TypeAlias = bytes | bytearray | memoryview

_LEVEL: Final = 2
"""ISA-L's levels 1 and 2 compress access logs alike (ratio 5.5) at several times zlib's speed; 3 is half as fast."""
_GZIP_WBITS: Final = 31
_RAW_WBITS: Final = -15
_BLOCK_BYTES: Final = 1 << 20
"""Compressed without what came before it: 0.3 % larger than in one go, and any thread can do it."""
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_END: Final = b"\x03\0"
"""The last block of the deflate stream; it is empty."""
_READ_BYTES: Final = 1 << 20
_RUN_READ_BYTES: Final = 1 << 14
"""Decoded in one piece; deflate makes at most a thousand times as much of it."""
_ISAL_ERROR: Final[Any] = isal_zlib.IsalError  # typed as an instance
_FRAME: Final = re.compile(rb"[0-9a-fA-F]+(;[^\r\n]*)?\r\n")
"""How aws-chunked framing begins; some stores keep it as if it were of the object."""


class GzipError(ValueError):
    """The bytes are not one whole gzip member, or no whole run of one; the text says how."""


@dataclasses.dataclass
class Span:
    """Where a run stands in the member, as raw deflate, and the bytes that it decodes to."""

    offset: int
    size_bytes: int = 0
    raw_bytes: int = 0


class GzipRuns:
    """Named runs of bytes as one gzip member, in pieces as they come; can be taken once.

    `workers` compress. `spans` knows a run as soon as its pieces were taken. Raises ValueError for a run that isn't in
    one piece.
    """

    def __init__(self, chunks: Iterable[tuple[str, Buffer]], workers: Ahead) -> None:
        self._chunks, self._workers = chunks, workers
        self.spans: dict[str, Span] = {}

    def __iter__(self) -> Iterator[bytes]:
        yield _HEADER
        position, checksum, raw_bytes = len(_HEADER), 0, 0
        for block in self._workers.map(_deflate, self._blocks()):
            span = self.spans.setdefault(block.run, Span(position))
            if span.offset + span.size_bytes != position:
                raise ValueError(f"{block.run} comes again after another run")
            span.size_bytes += len(block.deflated)
            span.raw_bytes += block.raw_bytes
            position += len(block.deflated)
            raw_bytes += block.raw_bytes
            checksum = isal_zlib.crc32_combine(checksum, block.checksum, block.raw_bytes)
            yield block.deflated
        yield _END + struct.pack("<LL", checksum, raw_bytes % 2**32)

    def _blocks(self) -> Iterator[tuple[str, list[memoryview]]]:
        for name, chunks in itertools.groupby(self._chunks, key=lambda chunk: chunk[0]):
            for block in _in_blocks(data for _, data in chunks):
                yield name, block


@dataclasses.dataclass(frozen=True)
class _Block:
    """A block of a run as raw deflate that ends on a byte and needs nothing before it; size and CRC-32 of its bytes."""

    run: str
    deflated: bytes
    raw_bytes: int
    checksum: int


def _deflate(pieces_of_run: tuple[str, list[memoryview]]) -> _Block:
    run, pieces = pieces_of_run
    block = b"".join(pieces)
    compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_RAW_WBITS)
    deflated = compressor.compress(block) + compressor.flush(isal_zlib.Z_FULL_FLUSH)
    return _Block(run, deflated, len(block), isal_zlib.crc32(block))


def _in_blocks(pieces: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    """The same bytes in blocks, each as the pieces that make it: joining them is left to the thread that compresses."""
    pending: list[memoryview] = []
    missing = _BLOCK_BYTES
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= missing:
            yield [*pending, rest[:missing]]
            rest = rest[missing:]
            pending, missing = [], _BLOCK_BYTES
        pending.append(rest)
        missing -= len(rest)
    if missing < _BLOCK_BYTES:
        yield pending


def compress(chunks: Iterable[Buffer], threads: int = ahead.THREADS) -> Iterator[bytes]:
    """The chunks as one gzip member, in pieces as they come: one run without a name."""
    with ahead.threads(threads) as workers:
        yield from GzipRuns((("", chunk) for chunk in chunks), workers)


def in_parts(pieces: Iterable[Buffer], part_bytes: int) -> Iterator[bytearray]:
    """The same bytes in parts of exactly `part_bytes`, the last one at most that, and never an empty one."""
    # A part is written where it will stay, and forgotten here when it is given: nothing else is held while it is sent.
    pending = [bytearray()]
    for piece in pieces:
        rest = memoryview(piece)
        while len(pending[0]) + len(rest) >= part_bytes:
            cut = part_bytes - len(pending[0])
            pending[0] += rest[:cut]
            rest = rest[cut:]
            pending.append(bytearray())
            yield pending.pop(0)
        pending[0] += rest
    if pending[0]:
        yield pending.pop()


class GzipMember(io.RawIOBase):
    """The decompressed bytes of a stream that is one gzip member, and the facts of the stream read so far.

    Reading raises GzipError where the stream is damaged, is cut, holds a second member or anything after the first.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
        self._sha256 = hashlib.sha256()
        self.compressed_bytes = 0
        self.raw_bytes = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the compressed bytes read so far."""
        return self._sha256.hexdigest()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with decompressed bytes; 0 at the end of a whole member."""
        while True:
            pending = self._member.unconsumed_tail or self._next()
            if self._member.eof:
                return self._end(pending)
            if not pending:
                raise GzipError(f"cut after {self.compressed_bytes} bytes: the gzip member does not end")
            try:
                data = self._member.decompress(pending, len(buffer))
            except _ISAL_ERROR as error:
                framed = "aws-chunked framing, kept by the store; " if _FRAME.match(pending) else ""
                raise GzipError(f"damaged within the first {self.compressed_bytes} bytes: {framed}{error}") from None
            if data:
                buffer[: len(data)] = data
                self.raw_bytes += len(data)
                return len(data)

    def _next(self) -> bytes:
        chunk = self._stream.read(_READ_BYTES)
        self._sha256.update(chunk)
        self.compressed_bytes += len(chunk)
        return chunk

    def _end(self, pending: bytes) -> int:
        if pending or self._member.unused_data:
            raise GzipError("there are bytes after the gzip member")
        return 0


class GzipRun(io.RawIOBase):
    """The decompressed bytes of one run of a member, from a stream that holds just its span.

    Reading raises GzipError where the bytes are no deflate. A run knows nothing of its end: who reads it, counts.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._run = isal_zlib.decompressobj(wbits=_RAW_WBITS)
        self._pending = memoryview(b"")
        self.compressed_bytes = 0
        self.raw_bytes = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with decompressed bytes; 0 at the end of the stream."""
        while not self._pending:
            chunk = self._stream.read(_RUN_READ_BYTES)
            self.compressed_bytes += len(chunk)
            try:
                self._pending = memoryview(self._run.decompress(chunk) if chunk else self._run.flush())
            except _ISAL_ERROR as error:
                raise GzipError(f"damaged within the first {self.compressed_bytes} bytes: {error}") from None
            if not chunk and not self._pending:
                return 0
        data, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(data)] = data
        self.raw_bytes += len(data)
        return len(data)
