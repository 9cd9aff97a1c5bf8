"""The bucket of the strict S3 server: objects and uploads in memory, all checks that S3 makes, under one lock."""

import binascii
import dataclasses
import gzip
import hashlib
import random
import re
import threading
import uuid
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from .faults import Fault

_FRAME = re.compile(rb"([0-9a-fA-F]+)(;[^\r\n]*)?\r\n")
_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}


class S3Error(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


@dataclasses.dataclass
class Answer:
    """What goes back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Upload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    parts: dict[int, bytes] = dataclasses.field(default_factory=dict)


def unframed(raw: bytes, headers: dict[str, str]) -> bytes:
    """The body without its aws-chunked framing; checksums in its trailer become headers."""
    if "aws-chunked" not in headers.get("content-encoding", "") and not headers.get(
        "x-amz-content-sha256", ""
    ).startswith("STREAMING-"):
        return raw
    body, at = b"", 0
    while match := _FRAME.match(raw, at):
        size = int(match[1], 16)
        if size == 0:
            for line in raw[match.end() :].decode().split("\r\n"):
                name, _, value = line.partition(":")
                if value:
                    headers[name.lower()] = value.strip()
            break
        body += raw[match.end() : match.end() + size]
        at = match.end() + size + 2
    if str(len(body)) != headers.get("x-amz-decoded-content-length", str(len(body))):
        raise S3Error(400, "IncompleteBody")
    return body


def framed(body: bytes) -> bytes:
    """The body as aws-chunked sends it."""
    crc32 = b64encode(zlib.crc32(body).to_bytes(4, "big"))
    return b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(body), body, crc32)


def checked(body: bytes, headers: dict[str, str]) -> None:
    """Refuse a body that isn't what the checksums sent with it say."""
    for name, digest in _DIGESTS.items():
        try:
            if name in headers and b64decode(headers[name], validate=True) != digest(body):
                raise S3Error(400, "BadDigest")
        except binascii.Error:
            raise S3Error(400, "InvalidDigest") from None
    signed = headers.get("x-amz-content-sha256", "")
    if len(signed) == 64 and signed != hashlib.sha256(body).hexdigest():
        raise S3Error(400, "XAmzContentSHA256Mismatch")


def _as_stored(body: bytes, faults: set[Fault]) -> bytes | None:
    """What a faulty server makes of a body; None where it keeps nothing."""
    if Fault.CUTS_MEMBER in faults:
        lines = gzip.decompress(body).splitlines(keepends=True)
        return gzip.compress(b"".join(lines[: len(lines) // 2]), mtime=0)
    at = len(body) // 2
    instead = {
        Fault.KEEPS_NOTHING: None,
        Fault.GARBAGE: random.Random(1).randbytes(len(body)),  # noqa: S311
        Fault.EMPTY: b"",
        Fault.FRAMED: framed(body),
        Fault.FLIPS_STORED: body[:at] + bytes([byte ^ 4 for byte in body[at : at + 1]]) + body[at + 1 :],
    }
    return next((instead[fault] for fault in instead if fault in faults), body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _xml(name: str, content: str) -> bytes:
    return f'<?xml version="1.0"?><{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{name}>'.encode()


class Bucket:
    """Objects under keys, and unfinished uploads."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.part_floor = 0
        self._lock = threading.RLock()

    def do(
        self, verb: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes, faults: set[Fault]
    ) -> Answer:
        """Do what is asked, under the lock."""
        with self._lock:
            if verb in {"CreateBucket", "HeadBucket"}:
                return Answer()
            if verb in {"Put", "Complete"}:
                return getattr(self, f"_{verb.lower()}")(key, query, headers, body, faults)  # type: ignore[no-any-return]
            if verb in {"Get", "Head"}:
                return self._get(key, headers, faults, head=verb == "Head")
            if verb in {"Delete", "DeleteMany"}:
                return getattr(self, f"_{verb.lower()}")(key, body, faults)  # type: ignore[no-any-return]
            return getattr(self, f"_{verb.lower()}")(key, query, body)  # type: ignore[no-any-return]

    def _store(self, key: str, headers: dict[str, str], body: bytes, faults: set[Fault]) -> None:
        if headers.get("if-none-match") == "*" and key in self.objects:
            raise S3Error(412, "PreconditionFailed")
        stored = _as_stored(body, faults)
        if stored is not None:
            self.objects[key] = stored

    def _put(self, key: str, _: dict[str, str], headers: dict[str, str], body: bytes, faults: set[Fault]) -> Answer:
        self._store(key, headers, body, faults)
        return Answer(headers={"ETag": _etag(body)})

    def _get(self, key: str, headers: dict[str, str], faults: set[Fault], *, head: bool) -> Answer:
        if key not in self.objects or (Fault.HEAD_ONLY in faults and not head):
            raise S3Error(404, "NoSuchKey")
        body = self.objects[key]
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if found is None or Fault.NO_RANGE in faults:
            return Answer(200, body, {"ETag": _etag(body), "Content-Length": str(len(body))})
        first, last = found.groups()
        start = int(first) if first else max(0, len(body) - int(last))
        end = min(int(last) + 1, len(body)) if first and last else len(body)
        if start >= len(body):
            raise S3Error(416, "InvalidRange")
        part = {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}", "Content-Length": str(end - start)}
        return Answer(206, body[start:end], {"ETag": _etag(body), **part})

    def _list(self, _: str, query: dict[str, str], __: bytes) -> Answer:
        def name(key: str) -> str:
            return quote(key) if query.get("encoding-type") == "url" else escape(key)

        after = query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")) and key > after)
        page = keys[: int(query.get("max-keys", 1000))]
        more = len(page) < len(keys)
        content = "".join(
            f"<Contents><Key>{name(key)}</Key><Size>{len(self.objects[key])}</Size></Contents>" for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        content += f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{encoding}"
        return Answer(body=_xml("ListBucketResult", content))

    def _delete(self, key: str, _: bytes, faults: set[Fault]) -> Answer:
        if Fault.KEEPS_DELETED not in faults:
            self.objects.pop(key, None)
        return Answer(204)

    def _deletemany(self, _: str, body: bytes, faults: set[Fault]) -> Answer:
        content = ""
        for element in ET.fromstring(body).iter():  # noqa: S314 - our own client's
            if element.tag.endswith("Key"):
                if Fault.DELETE_ERRORS in faults:
                    content += f"<Error><Key>{escape(element.text or '')}</Key><Code>AccessDenied</Code></Error>"
                    continue
                if Fault.KEEPS_DELETED not in faults:
                    self.objects.pop(element.text or "", None)
                content += f"<Deleted><Key>{escape(element.text or '')}</Key></Deleted>"
        return Answer(body=_xml("DeleteResult", content))

    def _create(self, key: str, _: dict[str, str], __: bytes) -> Answer:
        upload_id = uuid.uuid4().hex
        self.uploads[upload_id] = Upload(key)
        return Answer(body=_xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>"))

    def _upload(self, key: str, query: dict[str, str]) -> Upload:
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload.key != key:
            raise S3Error(404, "NoSuchUpload")
        return upload

    def _uploadpart(self, key: str, query: dict[str, str], body: bytes) -> Answer:
        self._upload(key, query).parts[int(query["partNumber"])] = body
        return Answer(headers={"ETag": _etag(body)})

    def _listuploads(self, _: str, query: dict[str, str], __: bytes) -> Answer:
        found = sorted(
            (upload.key, upload_id)
            for upload_id, upload in self.uploads.items()
            if upload.key.startswith(query.get("prefix", ""))
        )
        content = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId></Upload>" for key, name in found
        )
        return Answer(body=_xml("ListMultipartUploadsResult", f"{content}<IsTruncated>false</IsTruncated>"))

    def _abort(self, key: str, query: dict[str, str], _: bytes) -> Answer:
        self._upload(key, query)
        del self.uploads[query["uploadId"]]
        return Answer(204)

    def _complete(
        self, key: str, query: dict[str, str], headers: dict[str, str], body: bytes, faults: set[Fault]
    ) -> Answer:
        if Fault.COMPLETE_ERROR in faults:
            return Answer(body=_xml("Error", "<Code>InternalError</Code>").replace(b' xmlns="', b' x="'))
        if Fault.COMPLETE_EMPTY_UNDONE in faults:
            return Answer()
        whole = self._whole(self._upload(key, query), headers, body, faults)
        self._store(key, headers, whole, faults)
        del self.uploads[query["uploadId"]]
        if Fault.COMPLETE_GONE in faults:
            raise S3Error(404, "NoSuchUpload")
        if Fault.COMPLETE_EMPTY in faults:
            return Answer()
        answer = _xml("CompleteMultipartUploadResult", f"<ETag>{_etag(whole)}</ETag>")
        return Answer(body=answer[:60] if Fault.COMPLETE_CUT_XML in faults else answer)

    def _whole(self, upload: Upload, headers: dict[str, str], body: bytes, faults: set[Fault]) -> bytes:
        """The object of an upload; refuses a list of parts that isn't what was sent."""
        chosen = []
        for element in ET.fromstring(body):  # noqa: S314 - our own client's
            part = {each.tag.rpartition("}")[2]: each.text or "" for each in element}
            sent = upload.parts.get(int(part["PartNumber"]))
            if sent is None or part["ETag"] != _etag(sent):
                raise S3Error(400, "InvalidPart")
            if part.get("ChecksumCRC32", "") not in {"", b64encode(zlib.crc32(sent).to_bytes(4, "big")).decode()}:
                raise S3Error(400, "InvalidPart")
            chosen.append(sent)
        if Fault.NO_FLOOR not in faults and any(len(part) < self.part_floor for part in chosen[:-1]):
            raise S3Error(400, "EntityTooSmall")
        whole = b"".join(chosen)
        if int(headers.get("x-amz-mp-object-size", len(whole))) != len(whole):
            raise S3Error(400, "InvalidRequest")
        return whole
