"""Objects below a prefix of an S3 bucket, whoever runs the server: conditional writes, checksums, uploads in parts.

An answer that was lost or is in doubt is judged here, by what stands at the key. What a server honours is found out by
storage/probe.py; clients are made by storage/connect.py.
"""

import contextlib
import dataclasses
import io
import pathlib
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import botocore.exceptions
import botocore.parsers

from pathstats_pipeline.storage.objects.protocol import MissingObjectError, ObjectsError
from pathstats_pipeline.storage.objects.versions import ObjectVersion, VersionStream
from pathstats_pipeline.storage.section import Section

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_EXISTS: Final = frozenset({"412", "PreconditionFailed"})
_IN_DOUBT: Final = frozenset({"409", "ConditionalRequestConflict", "NoSuchUpload"})
"""Somebody else is at the same key, or our own write was answered before; no promise that the object is there."""
_SERVER_ERROR: Final = 500
FAILURES: Final = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    botocore.parsers.ResponseParserError,  # an answer that isn't S3's; it is no BotoCoreError
)
_NO_ANSWER: Final = (botocore.exceptions.HTTPClientError, botocore.parsers.ResponseParserError)
_COPY_BYTES: Final = 1 << 20


class _TakenError(Exception):
    """The key was found taken before the upload to it was completed."""


@dataclasses.dataclass(frozen=True)
class S3Objects:
    """Objects below a prefix of a bucket.

    Every body is sent with our own CRC32: of the checksums that boto3 can send it is the one that every S3 server we
    tried understands, and a server that checks it refuses a body damaged on the way.
    """

    client: "S3Client"
    bucket: str
    prefix: str = ""
    looks_first: bool = False
    """Look whether the key is taken before each write: for a store that ignores the condition, see probe.py."""

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def put(self, key: str, body: bytes) -> bool:
        """Create the object with one conditional put."""
        return self._put(key, io.BytesIO(body), zlib.crc32(body))

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """Create the object with one conditional put that streams a file."""
        with path.open("rb") as file:
            checksum = 0
            while chunk := file.read(_COPY_BYTES):
                checksum = zlib.crc32(chunk, checksum)
            file.seek(0)
            return self._put(key, file, checksum)

    def _put(self, key: str, body: BinaryIO, checksum: int) -> bool:
        with self._errors("put", key):
            if self.looks_first and key in self.list(key):
                return False
            try:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=self._key(key),
                    Body=body,
                    ChecksumCRC32=_crc32_text(checksum),
                    IfNoneMatch="*",
                )
            except FAILURES as error:
                if self._is_taken(key, error):
                    return False
                raise
        return True

    def _is_taken(self, key: str, error: BaseException) -> bool:
        """Whether the object stands there already, by what an error says; where it is in doubt, by a look.

        The last answer may be lost like the first: what was written is judged by what stands there.
        """
        if isinstance(error, _TakenError):
            return True
        if isinstance(error, botocore.exceptions.ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if _code(error) in _EXISTS or not (_code(error) in _IN_DOUBT or status >= _SERVER_ERROR):
                return _code(error) in _EXISTS
        elif not isinstance(error, _NO_ANSWER):
            return False
        try:
            return key in self.list(key)
        except ObjectsError:
            return False  # the first error says more

    def put_parts(self, key: str, parts: Iterable[bytes | bytearray]) -> bool:
        """Create the object by a multipart upload; at most one part is held in memory here."""
        with self._errors("upload", key):
            where: Any = {"Bucket": self.bucket, "Key": self._key(key)}
            created = self.client.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")
            upload: Any = {**where, "UploadId": created["UploadId"]}
            try:
                if created["ResponseMetadata"].get("RetryAttempts"):
                    # An answer may have been lost, and with it the id of an upload that would be kept and paid for.
                    self._abort_uploads(key, but=upload["UploadId"])
                done: list[CompletedPartTypeDef] = []
                for part in parts:
                    done.append(self._put_part(upload, len(done) + 1, part))
                    del part  # or it would be held while the next one comes
                self._look(key)
                self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, IfNoneMatch="*")
            except BaseException as error:
                self._abort(upload, error)
                if self._is_taken(key, error):
                    return False
                raise
        return True

    def _look(self, key: str) -> None:
        if self.looks_first and key in self.list(key):
            raise _TakenError

    def abort_uploads(self, key: str) -> int:
        """Abort the unfinished uploads to exactly this key."""
        return self._abort_uploads(key)

    def _abort_uploads(self, key: str, but: str | None = None) -> int:
        with self._errors("list the uploads of", key):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self._key(key)
            )
            found = [
                each["UploadId"]
                for page in pages
                for each in page.get("Uploads", [])
                if each.get("Key") == self._key(key) and each.get("UploadId", but) != but
            ]
            for upload_id in found:
                with contextlib.suppress(self.client.exceptions.NoSuchUpload):
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=self._key(key), UploadId=upload_id)
        return len(found)

    def _put_part(self, upload: dict[str, str], number: int, part: bytes | bytearray) -> "CompletedPartTypeDef":
        checksum = _crc32_text(zlib.crc32(part))
        answer = self.client.upload_part(
            Bucket=upload["Bucket"],
            Key=upload["Key"],
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=part,
            ChecksumCRC32=checksum,
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": checksum}

    def _abort(self, upload: dict[str, str], cause: BaseException) -> None:
        """Abort an upload, so that its parts aren't kept and paid for; the cause is what the caller hears of."""
        try:
            self.client.abort_multipart_upload(Bucket=upload["Bucket"], Key=upload["Key"], UploadId=upload["UploadId"])
        except FAILURES as error:
            cause.add_note(f"the multipart upload {upload['UploadId']} of {upload['Key']} is left: {error}")

    def get(self, key: str) -> bytes | None:
        """The object's bytes."""
        with self._errors("get", key):
            try:
                body: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
            except botocore.exceptions.ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
        return body

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """The object's body as a stream."""
        with self._errors("get", key), contextlib.closing(self._ask(key)["Body"]) as body:
            yield cast("BinaryIO", body)

    @contextlib.contextmanager
    def open_range(self, key: str, first: int, size: int) -> Iterator[BinaryIO]:
        """The answer to a ranged get; of a server that knows none and sends the whole object, the part of it."""
        asked = f"{first}-{first + size - 1}"
        with self._errors("get", key):
            answer = self._ask(key, Range=f"bytes={asked}")
            with contextlib.closing(answer["Body"]) as body:
                given = answer.get("ContentRange")
                if given is not None and not given.startswith(f"bytes {first}-"):
                    raise ObjectsError(f"{self.uri}/{key}: asked for bytes {asked}, got {given}")
                yield cast("BinaryIO", Section(cast("BinaryIO", body), first if given is None else 0, size))

    def open_version(self, key: str) -> VersionStream:
        """The answer to a get, with the version that it gives."""
        with self._errors("get", key):
            answer = self._ask(key)
        version = ObjectVersion(key, answer["ContentLength"], _etag(answer))
        return VersionStream(answer["Body"], version, lambda: self._errors("get", key))

    def _ask(self, key: str, **parameters: str) -> Any:
        """The answer to a get; raises MissingObjectError."""
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self._key(key), **parameters)  # type: ignore[arg-type]
        except botocore.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                raise MissingObjectError(f"{self.uri}/{key} does not exist") from error
            raise

    def list(self, prefix: str) -> list[str]:
        """Keys below the prefix, over all pages."""
        return sorted(found.key for found in self.versions(prefix))

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """What stands below the prefix, page by page."""
        start = len(self._key(""))
        with self._errors("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            for page in pages:
                for found in page.get("Contents", []):
                    yield ObjectVersion(found["Key"][start:], found.get("Size", 0), _etag(found))

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._errors("delete", key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    @contextlib.contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        """Turn botocore's errors into one line that says what was done to what, and where."""
        try:
            yield
        except FAILURES as error:
            where = self.client.meta.endpoint_url
            text = " ".join(str(error).split())
            raise ObjectsError(f"cannot {verb} s3://{self.bucket}/{self._key(key)} at {where}: {text}") from error


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _etag(answer: Any) -> str:
    """Without the quotes, which some servers leave out in listings."""
    return str(answer.get("ETag", "")).strip('"')


def _crc32_text(checksum: int) -> str:
    return b64encode(checksum.to_bytes(4, "big")).decode()
