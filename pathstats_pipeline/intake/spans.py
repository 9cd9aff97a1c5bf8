"""A span of a file, read by a format that may need what stands before it: where a grown file is read on.

Header lines hold until they are said anew, across blocks and from one run to the next. What they said before a span is
read from the file itself and recorded nowhere, so a segment is read the same way in every try.
"""

import dataclasses
from collections.abc import Iterator

from pathstats_pipeline.archive import ahead
from pathstats_pipeline.events.formats.parsed import HeadedFormat, LogFormat, ParsedLines, after, parse_block
from pathstats_pipeline.intake.lines import LineBlock, Source, SourceError, read_blocks


@dataclasses.dataclass(frozen=True)
class FirstBlock:
    """What a format made of the lines that a file begins with: they needn't be parsed again where they are the same."""

    block: LineBlock
    parsed: ParsedLines


def parsed_span(
    stream: Source, start: int, end: int, log_format: LogFormat, first: FirstBlock | None = None
) -> Iterator[tuple[LineBlock, ParsedLines]]:
    """Give the blocks of the bytes from `start` to `end` of a fresh stream, and what the format makes of each.

    `log_format` is the one that reads the file from its beginning; `start` stands behind a line end. Line numbers count
    from the span's own first line. Raises SourceError where the stream ends before. While a block is in the caller's
    hands, the next ones are read and parsed.
    """
    if isinstance(log_format, HeadedFormat):
        for block in read_blocks(_Limited(stream, start)):
            log_format = after(log_format, block)
    else:
        stream.seek(start)

    def with_formats() -> Iterator[tuple[LineBlock, LogFormat]]:
        reads = log_format
        for block in read_blocks(_Limited(stream, end - start)):
            yield block, reads
            reads = after(reads, block)

    def parse(block_and_format: tuple[LineBlock, LogFormat]) -> tuple[LineBlock, ParsedLines]:
        block, reads = block_and_format
        if first and not start and block.first_line_number == 1 and first.block.data == block.data:
            return block, first.parsed
        return block, parse_block(reads, block)

    with ahead.threads() as workers:
        yield from workers.map(parse, with_formats())


def _read(stream: Source, size: int) -> bytes:
    """Bytes that the survey has seen; raises SourceError when they aren't there any more."""
    if data := stream.read(size):
        return data
    raise SourceError(f"{stream.name}: was cut short while it was read; run again")


class _Limited:
    """At most so many bytes of a stream: a file that grows while it is read is read as it was surveyed.

    Reading gives less than was asked for only at the end: where blocks end decides where loads end.
    """

    def __init__(self, stream: Source, limit: int) -> None:
        self.name = stream.name
        self._stream = stream
        self._left = limit

    def read(self, size: int, /) -> bytes:
        """The next bytes, as they come from the stream where it gives them at once."""
        wanted = min(size, self._left)
        self._left -= wanted
        pieces = []
        while wanted:
            pieces.append(_read(self._stream, wanted))
            wanted -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
