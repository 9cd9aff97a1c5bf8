"""A span of a file, read by a format that may need what stands before it: where a grown file is read on.

Header lines hold until they are said anew, across blocks and from one run to the next. What they said before a span is
read from the file itself and recorded nowhere, so a segment is read the same way in every try.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO

from pathstats_pipeline.events.formats.parsed import HeadedFormat, LogFormat, ParsedLines, after
from pathstats_pipeline.intake.lines import LineBlock, Source, SourceError, read_blocks


def parsed_span(stream: Source, start: int, end: int, log_format: LogFormat) -> Iterator[tuple[LineBlock, ParsedLines]]:
    """Give the blocks of the bytes from `start` to `end` of a fresh stream, and what the format makes of each.

    `log_format` is the one that reads the file from its beginning; `start` stands behind a line end. Line numbers count
    from the span's own first line. Raises SourceError where the stream ends before.
    """
    if isinstance(log_format, HeadedFormat):
        for block in read_blocks(_limited(stream, start)):
            log_format = after(log_format, block.lines)
    else:
        stream.seek(start)
    for block in read_blocks(_limited(stream, end - start)):
        yield block, log_format.parse(block.lines)
        log_format = after(log_format, block.lines)


def _read(stream: Source, size: int) -> bytes:
    """Bytes that the survey has seen; raises SourceError when they aren't there any more."""
    if data := stream.read(size):
        return data
    raise SourceError(f"{stream.name}: was cut short while it was read; run again")


def _limited(stream: Source, limit: int) -> BinaryIO:
    return io.BufferedReader(_Limited(stream, limit))


class _Limited(io.RawIOBase):
    """At most so many bytes of a stream: a file that grows while it is read is read as it was surveyed."""

    def __init__(self, stream: Source, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = _read(self._stream, min(len(buffer), self._left)) if self._left else b""
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
