"""What a message of the queue holds: events as JSON lines, or the news of log files on S3. Pure.

A message that can't be read at all is poison: it is told from one some of whose lines are no events, which are
rejected for good like the lines of a file. Nothing here knows SQS, or what becomes of a message.
"""

import base64
import binascii
import dataclasses
import datetime as dt
import json
import urllib.parse
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from pathstats_pipeline.events.formats.parsed import LINE_LIMIT_BYTES, LogFormat
from pathstats_pipeline.events.formats.registry import FORMATS, detect
from pathstats_pipeline.events.schema import PARSED_SCHEMA

IDENTITY: Final = "pathstats_identity"
"""Message attribute: the identity that a message had before it went through the dead-letter queue."""
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of a message once it is decompressed: SQS takes 1 MiB, gzip makes at most a thousand times as much of it."""
_GZIP_BASE64: Final = "H4sI"
"""How gzip begins, in base64; a message is text."""
_GZIP_WBITS: Final = 31
_CREATED: Final = "ObjectCreated:"
_EVENT_BRIDGE: Final = "Object Created"
_TEST_EVENT: Final = "s3:TestEvent"
_NEWS: Final = ('"eventName"', '"Notification"', _EVENT_BRIDGE, _TEST_EVENT)
MESSAGE: Final = "message"
_WHERE: Final = {MESSAGE: pl.Int64(), "line_number": pl.Int64()}


class QueueError(RuntimeError):
    """The queue can't do what was asked; one line that names the queue and the verb."""


class PoisonError(ValueError):
    """A message can't be read, whatever is tried; one line."""


@dataclasses.dataclass(frozen=True)
class Message:
    """A message as it was received. `receives` counts from 1; `sent_at` is naive UTC.

    `identity` stays the same over redeliveries and redrives; `receipt` is of this delivery alone.
    """

    identity: str
    receipt: str
    body: str = dataclasses.field(repr=False)
    receives: int
    sent_at: dt.datetime


@dataclasses.dataclass(frozen=True, order=True)
class ObjectName:
    """A log file on S3 that a message tells of."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclasses.dataclass(frozen=True)
class Content:
    """What stands in a message: lines, or names of objects. Neither where it only says that the queue is there."""

    lines: tuple[bytes, ...] = ()
    objects: tuple[ObjectName, ...] = ()


def content_of(body: str) -> Content:
    """Read a message: JSON lines, the same as base64 of gzip, or S3's notification, bare or by SNS or EventBridge.

    Raises PoisonError for one that holds nothing, or what can't be decompressed.
    """
    if (news := _notification(body)) is not None:
        return Content(objects=tuple(news))
    data = _decompressed(body) if body.startswith(_GZIP_BASE64) else body.encode(errors="surrogatepass")
    lines = tuple(line.removesuffix(b"\r") for line in data.split(b"\n"))
    lines = lines[:-1] if not lines[-1] else lines
    if not any(line.strip() for line in lines):
        raise PoisonError("the message is empty")
    return Content(lines)


def _decompressed(body: str) -> bytes:
    try:
        inflate = zlib.decompressobj(_GZIP_WBITS)
        data = inflate.decompress(base64.b64decode(body, validate=True), MOST_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise PoisonError(f"no gzip in base64: {error}") from None
    if inflate.unconsumed_tail:
        raise PoisonError(f"more than {MOST_BYTES >> 20} MiB when decompressed")
    if not inflate.eof:
        raise PoisonError("no gzip in base64: it is cut short")
    return data


def weight(message: Message) -> int:
    """About how many bytes a message is once it is decompressed: gzip says so itself, in its last four."""
    if not message.body.startswith(_GZIP_BASE64):
        return len(message.body)
    try:
        end = base64.b64decode(message.body[-8:])
    except binascii.Error:
        return len(message.body)
    return min(int.from_bytes(end[-4:], "little"), MOST_BYTES)


def _notification(body: str) -> list[ObjectName] | None:
    """The objects that were created, where the message is S3's; None for any other."""
    if body.lstrip()[:1] != "{" or not any(word in body for word in _NEWS):
        return None
    try:
        return _objects_of(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # then it may be an event with such words in it


def _objects_of(document: Any) -> list[ObjectName] | None:
    if document.get("Type") == "Notification":  # SNS in between
        return _notification(document["Message"])
    if document.get("Event") == _TEST_EVENT:
        return []
    if document.get("detail-type") == _EVENT_BRIDGE:  # its keys are not encoded
        detail = document["detail"]
        return [ObjectName(detail["bucket"]["name"], detail["object"]["key"])]
    if not document["Records"]:
        return None
    return [
        ObjectName(record["s3"]["bucket"]["name"], urllib.parse.unquote_plus(record["s3"]["object"]["key"]))
        for record in document["Records"]
        if _CREATED in record["eventName"]
    ]


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Events and rejected lines of several messages; each line of each message is in one of them.

    Both say by `message` (its place among those given) and `line_number` (from 1) where a row stands. `events` has
    PARSED_SCHEMA besides, `rejected` has `reason`.
    """

    events: pl.DataFrame
    rejected: pl.DataFrame

    def barren(self) -> dict[int, str]:
        """The messages with lines but not one event, and why their first line is none."""
        first = self.rejected.sort("line_number").group_by(MESSAGE).agg(pl.col("reason").first())
        return dict(first.join(self.events, on=MESSAGE, how="anti").iter_rows())


def parse(contents: Sequence[Content]) -> Parsed:
    """The lines of messages as events: canonical ones all at once, those of other formats message by message."""
    parsed = _parse(range(len(contents)), contents, FORMATS["canonical"][0])
    others = parsed.barren()
    if not others:
        return parsed
    canonical = ~pl.col(MESSAGE).is_in(sorted(others))
    detected = [_parse([at], contents, detect(_texts(contents[at].lines))) for at in sorted(others)]
    return Parsed(
        pl.concat([parsed.events.filter(canonical), *(part.events for part in detected)]),
        pl.concat([parsed.rejected.filter(canonical), *(part.rejected for part in detected)]),
    )


def _parse(places: Iterable[int], contents: Sequence[Content], log_format: LogFormat) -> Parsed:
    lines = [(at, number, line) for at in places for number, line in enumerate(contents[at].lines, start=1)]
    where = pl.DataFrame([line[:2] for line in lines], schema=_WHERE, orient="row")
    found = log_format.parse(_texts([line for _, _, line in lines]))
    of_events, of_rejected = where[found.events["line_number"]], where[found.rejected["index"]]
    return Parsed(
        found.events.drop("line_number").hstack(of_events).select(*PARSED_SCHEMA, MESSAGE),
        of_rejected.hstack(found.rejected.select("reason")),
    )


def _texts(lines: Sequence[bytes]) -> pl.Series:
    r"""Lines as text, as those of files: what is no UTF-8 stands as `\xff`, and a line of over 1 MiB is NULL."""
    return pl.Series("line", map(_text, lines), dtype=pl.String())


def _text(line: bytes) -> str | None:
    return None if len(line) > LINE_LIMIT_BYTES else line.decode("utf-8", "backslashreplace")
