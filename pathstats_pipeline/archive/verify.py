"""Reading an archive object back, and the verdict on it. Knows streams, not S3.

An object is judged by its content: that an upload was answered with success, or that an object has the right size,
proves nothing.
"""

import dataclasses
import io
from collections.abc import Generator, Iterator
from typing import BinaryIO, Final

import polars as pl

from pathstats_pipeline.archive import ahead
from pathstats_pipeline.archive.gzipped import GzipError, GzipMember, GzipRun
from pathstats_pipeline.archive.hours import HourSpan
from pathstats_pipeline.archive.jsonl import Digest, digest_of, from_bytes
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.formats.jsonl import CANONICAL_MAP, JsonFormat
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.intake.lines import FILE_LIMIT_BYTES, LineBlock, SourceError, read_blocks

_CANONICAL: Final = JsonFormat(CANONICAL_MAP, name="canonical")
_BLOCK_BYTES: Final = 1024 * 1024
"""A small part of what the intake reads at once: reading back a million events takes a third of the memory."""


class VerificationError(RuntimeError):
    """An archive object is not what it should be; one line that names the object and every mismatch."""


@dataclasses.dataclass(frozen=True)
class ObjectFacts:
    """What reading an object to its end has shown."""

    size_bytes: int
    raw_bytes: int
    sha256: str
    digest: Digest


def inspect(stream: BinaryIO, name: str) -> ObjectFacts:
    """Read an object to its end; `name` is for messages.

    Raises VerificationError when it isn't one whole gzip member of lines.
    """
    member = GzipMember(stream)
    try:
        with ahead.threads() as workers:
            digest = sum(workers.map(_digest_of_text, _whole_lines(io.BufferedReader(member))), Digest())
    except (GzipError, UnicodeDecodeError) as error:
        raise VerificationError(f"{name}: {error}") from error
    return ObjectFacts(member.compressed_bytes, member.raw_bytes, member.sha256, digest)


def _digest_of_text(data: bytes) -> Digest:
    return digest_of(from_bytes(data))


def _whole_lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """The stream cut behind line ends; memory is bounded by a block and the longest line."""
    rest: list[bytes] = []
    while block := stream.read(_BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, block[:cut]])
            rest.clear()
        rest.append(block[cut:])
        if sum(map(len, rest)) > FILE_LIMIT_BYTES:
            raise GzipError("no line end within 64 MiB")
    if last := b"".join(rest):
        yield last


def _lines(member: GzipMember | GzipRun, name: str) -> Iterator[tuple[LineBlock, pl.Series]]:
    """The lines of an object, block by block; of whatever length, for an event may be longer than any log line."""
    try:
        for block in read_blocks(io.BufferedReader(member), _BLOCK_BYTES):
            yield block, _with_long_lines(block)
    except (GzipError, SourceError) as error:
        raise VerificationError(f"{name}: {error}") from error


def _with_long_lines(block: LineBlock) -> pl.Series:
    long = block.lines.is_null().arg_true()
    if not len(long):
        return block.lines
    texts = [block.raw(index).decode(errors="backslashreplace") for index in long]
    return block.lines.scatter(long, pl.Series(texts, dtype=pl.String))


def mismatches(facts: ObjectFacts, manifest: Manifest) -> list[str]:
    """Everything in which an object differs from its manifest, in words; empty when it is the very object."""
    pairs = {
        "rows": (facts.digest.rows, manifest.rows),
        "digest": (facts.digest.hex, manifest.digest.hex),
        "sha256": (facts.sha256, manifest.sha256),
        "bytes": (facts.size_bytes, manifest.size_bytes),
        "raw_bytes": (facts.raw_bytes, manifest.raw_bytes),
    }
    return [f"{name} is {found}, not {expected}" for name, (found, expected) in pairs.items() if found != expected]


def verify(stream: BinaryIO, manifest: Manifest) -> ObjectFacts:
    """Read an object back and hold it against its manifest; raises VerificationError when they differ."""
    facts = inspect(stream, manifest.key)
    _refuse(facts, manifest)
    return facts


def read_events(stream: BinaryIO, manifest: Manifest) -> Iterator[pl.DataFrame]:
    """The events of an object, in batches, in their order.

    Raises VerificationError when a line is not an event and, at the end, when the object is not the manifest's: who
    takes all batches, has read the very events that were archived.
    """
    member = GzipMember(stream)
    digest = yield from _events(member, manifest.key)
    _refuse(ObjectFacts(member.compressed_bytes, member.raw_bytes, member.sha256, digest), manifest)


def read_hour(stream: BinaryIO, manifest: Manifest, span: HourSpan) -> Iterator[pl.DataFrame]:
    """The events of one hour of an object, from a stream of just its span; as `read_events`."""
    name = f"{manifest.key}, hour {span.hour:02d}"
    run = GzipRun(stream)
    digest = yield from _events(run, name)
    if (run.compressed_bytes, run.raw_bytes, digest) != (span.size_bytes, span.raw_bytes, span.digest):
        raise VerificationError(
            f"{name}: {run.compressed_bytes} bytes hold {digest.rows} rows in {run.raw_bytes} bytes with digest "
            f"{digest.hex}, not {span.digest.rows} in {span.raw_bytes} with {span.digest.hex}"
        )


def _events(member: GzipMember | GzipRun, name: str) -> Generator[pl.DataFrame, None, Digest]:
    """The events of the lines; returns the digest of all lines."""
    digest = Digest()
    for block, lines in _lines(member, name):
        digest += digest_of(lines)
        parsed = _CANONICAL.parse(lines)
        if len(parsed.rejected):
            index, reason = parsed.rejected.select("index", "reason").row(0)
            raise VerificationError(f"{name}: line {block.first_line_number + index}: {reason}")
        yield parsed.events.select(EVENT_NAMES)
    return digest


def _refuse(facts: ObjectFacts, manifest: Manifest) -> None:
    if problems := mismatches(facts, manifest):
        raise VerificationError(f"{manifest.key}: {'; '.join(problems)}")
