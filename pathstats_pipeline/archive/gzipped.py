"""Gzip as the archive wants it: one member, no time stamp, streamed both ways in bounded memory. Pure.

One member, because one-shot readers stop after the first and a file cut between two members looks whole. The same
bytes in give the same bytes out, whatever their chunking.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from isal import isal_zlib

_LEVEL: Final = 2
"""ISA-L's levels 1 and 2 compress access logs alike (ratio 5.5) at several times zlib's speed; 3 is half as fast."""
_GZIP_WBITS: Final = 31
_IN_BYTES: Final = 1 << 20
_OUT_BYTES: Final = 1 << 20
_FRAME: Final = re.compile(rb"[0-9a-fA-F]+(;[^\r\n]*)?\r\n")
"""How aws-chunked framing begins; some stores keep it as if it were of the object."""


class GzipError(ValueError):
    """The bytes are not one whole gzip member; the text says how."""


def compress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as one gzip member, in pieces as they come."""
    compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP_WBITS)
    # ISA-L's output depends on where its input is cut, so it is always cut at the same places.
    for chunk in in_parts(chunks, _IN_BYTES):
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()


def in_parts(pieces: Iterable[bytes], part_bytes: int) -> Iterator[bytes]:
    """The same bytes in parts of exactly `part_bytes`, the last one at most that, and never an empty one."""
    pending: list[memoryview] = []
    held = 0
    for piece in pieces:
        rest = memoryview(piece)
        while held + len(rest) >= part_bytes:
            cut = part_bytes - held
            pending.append(rest[:cut])
            rest, held = rest[cut:], 0
            yield _taken(pending)
        pending.append(rest)
        held += len(rest)
    if held:
        yield _taken(pending)


def _taken(pieces: list[memoryview]) -> bytes:
    """The pieces as one, and the list emptied: nothing but the part itself is held while it is sent."""
    part = b"".join(pieces)
    pieces.clear()
    return part


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
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # typed as an instance
                framed = "aws-chunked framing, kept by the store; " if _FRAME.match(pending) else ""
                raise GzipError(f"damaged within the first {self.compressed_bytes} bytes: {framed}{error}") from None
            if data:
                buffer[: len(data)] = data
                self.raw_bytes += len(data)
                return len(data)

    def _next(self) -> bytes:
        chunk = self._stream.read(_OUT_BYTES)
        self._sha256.update(chunk)
        self.compressed_bytes += len(chunk)
        return chunk

    def _end(self, pending: bytes) -> int:
        if pending or self._member.unused_data:
            raise GzipError("there are bytes after the gzip member")
        return 0
