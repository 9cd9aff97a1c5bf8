"""What an S3 store really honours, found out by asking it: about twenty small requests below a folder of their own.

Stores differ on what they say yes to. What the archive rests on is tried once, and answered with a verdict: trusted,
used with a check of our own, or refused. A race on a conditional Complete is not tried: claims are taken by put.
"""

import contextlib
import dataclasses
import enum
import secrets
import zlib
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions

from pathstats_pipeline.storage.objects import ObjectsError, S3Objects
from pathstats_pipeline.storage.objects.s3 import FAILURES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BODY: Final = b"pathstats probe: the bytes that come back must be these\n" * 3
_FIRST: Final = 10
_LAST: Final = 29


class Verdict(enum.StrEnum):
    """Whether a store may hold the archive."""

    TRUSTED = "trusted"
    """It honours all that the archive rests on; reading back does the rest."""
    CHECKED = "checked"
    """It ignores the condition on writes: used where we look before each one. Two hosts at it are not safe."""
    REFUSED = "refused"
    """It returns other bytes than were put, or can't do what the archive needs."""


class Weight(enum.IntEnum):
    """What an answer "no" means."""

    HARMLESS = 0
    """We check for ourselves, by reading back."""
    CONDITION = 1
    """We look before each write."""
    NEEDED = 2
    """There is no archive on such a store."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was asked: whether the store honours it, and what was seen."""

    question: str
    honoured: bool
    seen: str
    weight: Weight


@dataclasses.dataclass(frozen=True)
class Conformance:
    """What a store honours."""

    uri: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """By the gravest "no"."""
        worst = max((each.weight for each in self.findings if not each.honoured), default=Weight.HARMLESS)
        return [Verdict.TRUSTED, Verdict.CHECKED, Verdict.REFUSED][worst]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every "no", gravest first, in words."""
        no = sorted((each for each in self.findings if not each.honoured), key=lambda each: -each.weight)
        return tuple(f"{each.question}: no, {each.seen}" for each in no)

    def problem(self, *, looks_first: bool) -> str | None:
        """Why the store can't hold the archive as it is set up, in one line with what to do; None where it can."""
        if self.verdict is Verdict.REFUSED:
            return f"{self.uri} can't hold the archive: {'; '.join(self.reasons)}"
        if self.verdict is Verdict.CHECKED and not looks_first:
            return (
                f"{self.uri} ignores the condition on writes: set PATHSTATS_S3_LOOKS_FIRST=true, so that we look "
                f"before each, and archive from one host only ({'; '.join(self.reasons)})"
            )
        return None


def probe(client: "S3Client", bucket: str, prefix: str) -> Conformance:
    """Ask a store what it honours, below `<prefix>/probe/<random>/`; what was written is deleted where that is allowed.

    Raises ObjectsError when the store can't be reached, or doesn't let us in.
    """
    store = S3Objects(client, bucket, "/".join(filter(None, [prefix, "probe", secrets.token_hex(8)])))
    asked = _Asked(client, bucket, store.prefix)
    try:
        store.list("")  # an address or a key that is wrong is one line, and no finding
        findings = (*asked.about_puts(), *asked.about_uploads())
    except FAILURES as error:
        raise ObjectsError(f"cannot probe {store.uri}: {_in_words(error)}") from error
    finally:
        asked.clean_up()
    return Conformance(f"s3://{bucket}/{prefix}".rstrip("/"), findings)


class _Asked:
    """The questions, each by a request or a few."""

    def __init__(self, client: "S3Client", bucket: str, folder: str) -> None:
        self._client, self._bucket, self._folder = client, bucket, folder

    def _where(self, name: str) -> Any:
        return {"Bucket": self._bucket, "Key": f"{self._folder}/{name}"}

    def _bytes(self, name: str, **how: Any) -> bytes:
        body: bytes = self._client.get_object(**self._where(name), **how)["Body"].read()
        return body

    def about_puts(self) -> Iterator[Finding]:
        """One object: its bytes, a part of them, a second put, a damaged one, the listing."""
        said = _outcome(self._client.put_object, **self._where("put"), Body=_BODY, **_crc32(_BODY), IfNoneMatch="*")
        yield Finding("takes a conditional put", not said, said or "it does", Weight.NEEDED)
        if said:
            return
        yield _same("returns the bytes that were put", lambda: self._bytes("put"), _BODY, Weight.NEEDED)
        yield _same(
            "returns the range that is asked for",
            lambda: self._bytes("put", Range=f"bytes={_FIRST}-{_LAST}"),
            _BODY[_FIRST : _LAST + 1],
            Weight.HARMLESS,
        )
        second = _outcome(self._client.put_object, **self._where("put"), Body=b"2", **_crc32(b"2"), IfNoneMatch="*")
        yield _refused("refuses a put to a key that is taken", second, Weight.CONDITION)
        damaged: Any = {**self._where("damaged"), "Body": _BODY, "IfNoneMatch": "*"}
        wrong = _outcome(self._client.put_object, **damaged, **_crc32(b"other"))
        yield _refused("refuses a body with a wrong CRC32", wrong, Weight.HARMLESS)
        pages = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._folder}/put")
        listed = [each["Key"] for each in pages.get("Contents", [])]
        yield _same("lists what was put", lambda: listed, [self._where("put")["Key"]], Weight.NEEDED)

    def about_uploads(self) -> Iterator[Finding]:
        """Three uploads in parts: one whole, one to a taken key, one with a first part that is too small."""
        said = self._upload("parts", [_BODY])
        yield Finding("takes an upload in parts", not said, said or "it does", Weight.NEEDED)
        if said:
            return
        yield _same("returns the parts that were sent", lambda: self._bytes("parts"), _BODY, Weight.NEEDED)
        taken = self._upload("parts", [b"2"])
        yield _refused("refuses to complete an upload to a key that is taken", taken, Weight.CONDITION)
        yield _refused("refuses parts below 5 MiB", self._upload("small", [b"1", b"2"]), Weight.HARMLESS)
        upload = self._client.create_multipart_upload(**self._where("pending"))["UploadId"]
        yield _same("lists our uploads that are pending", self._pending, [upload], Weight.HARMLESS)
        gone = _outcome(self._client.abort_multipart_upload, **self._where("pending"), UploadId=upload)
        yield _same("aborts them", lambda: (gone, self._pending()), ("", []), Weight.HARMLESS)

    def _upload(self, name: str, parts: list[bytes]) -> str:
        where = self._where(name)
        try:
            upload = {**where, "UploadId": self._client.create_multipart_upload(**where)["UploadId"]}
            done: Any = [
                {"PartNumber": number, "ETag": self._client.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
                for number, part in enumerate(parts, start=1)
            ]
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, IfNoneMatch="*")
        except FAILURES as error:
            return _in_words(error)
        return ""

    def _pending(self) -> list[str]:
        found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=f"{self._folder}/pending")
        return [each["UploadId"] for each in found.get("Uploads", []) if "UploadId" in each]

    def clean_up(self) -> None:
        """Leave nothing, where we may delete. The archive needs no such right, and so the probe doesn't."""
        store = S3Objects(self._client, self._bucket, self._folder)
        for name in ("put", "damaged", "parts", "small", "pending"):
            with contextlib.suppress(ObjectsError):
                store.abort_uploads(name)
            with contextlib.suppress(ObjectsError):
                store.delete(name)


def _crc32(body: bytes) -> dict[str, Any]:
    return {"ChecksumCRC32": b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()}


def _outcome(act: Any, **arguments: Any) -> str:
    """Empty when it was done, else what the store said."""
    try:
        act(**arguments)
    except FAILURES as error:
        return _in_words(error)
    return ""


def _in_words(error: BaseException) -> str:
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "an error without a code"
    return " ".join(str(error).split())


def _refused(question: str, said: str, weight: Weight) -> Finding:
    return Finding(question, honoured=bool(said), seen=said or "it was done", weight=weight)


def _same(question: str, look: Any, expected: Any, weight: Weight) -> Finding:
    try:
        found = look()
    except FAILURES as error:
        return Finding(question, honoured=False, seen=_in_words(error), weight=weight)
    if found == expected:
        return Finding(question, honoured=True, seen="it does", weight=weight)
    framed = isinstance(found, bytes) and isinstance(expected, bytes) and expected in found
    seen = "it keeps the framing in which they were sent (aws-chunked)" if framed else "it has something else"
    return Finding(question, honoured=False, seen=seen, weight=weight)
