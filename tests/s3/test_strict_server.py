"""The strict server itself: that it checks what it says it checks. What a client can't send is sent by hand."""

import http.client
import threading
import zlib
from base64 import b64encode
from typing import Any

import botocore.exceptions
import pytest

from .faults import Fault
from .stores import Strict
from .strict_bucket import framed


def _put(strict: Strict, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection(strict.server.endpoint_url.removeprefix("http://"))
    connection.request("PUT", f"/{strict.objects.bucket}/x", body, {k.replace("_", "-"): v for k, v in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    "name", ["content_md5", "x_amz_checksum_crc32", "x_amz_checksum_sha1", "x_amz_checksum_sha256"]
)
def test_a_wrong_checksum_of_any_kind_is_refused(strict: Strict, name: str) -> None:
    """A checksum that isn't the body's is a 400, and nothing is kept."""
    assert _put(strict, b"body", **{name: b64encode(b"1234").decode()}) == 400
    assert _put(strict, b"body", **{name: "no base64!"}) == 400
    assert strict.bucket.objects == {}


def test_framing_is_taken_off_and_its_trailer_checked(strict: Strict) -> None:
    """A body in aws-chunked framing is stored without; a wrong checksum in the trailer is refused."""
    headers = {"content_encoding": "aws-chunked", "x_amz_decoded_content_length": "4"}
    right = b64encode(zlib.crc32(b"body").to_bytes(4, "big"))
    assert _put(strict, framed(b"body").replace(right, b"AAAAAA=="), **headers) == 400
    assert _put(strict, framed(b"body"), **headers) == 200
    assert strict.bucket.objects == {"x": b"body"}


def test_one_of_many_conditional_writers_wins(strict: Strict) -> None:
    """Eight at once, by put and by Complete: one 200, seven 412."""
    client: Any = strict.objects.client
    where = {"Bucket": strict.objects.bucket, "Key": "x"}
    results: list[str] = []

    def write(number: int) -> None:
        try:
            if number % 2:
                client.put_object(**where, Body=b"%d" % number, IfNoneMatch="*")
            else:
                upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
                etag = client.upload_part(**upload, PartNumber=1, Body=b"%d" % number)["ETag"]
                parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
                client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
            results.append("won")
        except botocore.exceptions.ClientError as error:
            results.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["PreconditionFailed"] * 7 + ["won"]


def test_small_parts_and_wrong_sizes_are_refused(strict: Strict) -> None:
    """A part below the floor that isn't the last, and an object size that isn't the parts'."""
    client: Any = strict.objects.client
    where = {"Bucket": strict.objects.bucket, "Key": "x"}
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    parts = [{"PartNumber": n, "ETag": client.upload_part(**upload, PartNumber=n, Body=b"1")["ETag"]} for n in (1, 2)]
    with pytest.raises(botocore.exceptions.ClientError, match="EntityTooSmall"):
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidRequest"):
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts[:1]}, MpuObjectSize=2)
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts[:1]}, MpuObjectSize=1)
    assert strict.bucket.objects == {"x": b"1"}


def test_ranges_pages_and_results_for_each_key(strict: Strict) -> None:
    """A range is answered with 206; listings come in pages; DeleteObjects says of each key what became of it."""
    client, bucket = strict.objects.client, strict.objects.bucket
    for number in range(5):
        client.put_object(Bucket=bucket, Key=f"k/{number} ü", Body=b"0123456789")
    answer = client.get_object(Bucket=bucket, Key="k/0 ü", Range="bytes=2-4")
    assert (answer["Body"].read(), answer["ContentRange"]) == (b"234", "bytes 2-4/10")
    page = client.list_objects_v2(Bucket=bucket, Prefix="k/", MaxKeys=2)
    assert (page["IsTruncated"], [each["Key"] for each in page["Contents"]]) == (True, ["k/0 ü", "k/1 ü"])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [len(each["Contents"]) for each in pages] == [2, 2, 1]
    doomed: Any = {"Objects": [{"Key": f"k/{number} ü"} for number in range(2)]}
    strict.fail(Fault.DELETE_ERRORS, "DeleteMany")
    assert len(client.delete_objects(Bucket=bucket, Delete=doomed)["Errors"]) == 2
    strict.heal()
    assert len(client.delete_objects(Bucket=bucket, Delete=doomed)["Deleted"]) == 2
    assert len(strict.bucket.objects) == 3


def test_policies_and_the_record(strict: Strict) -> None:
    """What is denied is a 403; every request is in the record, with its headers."""
    strict.server.denied |= {"Delete", "unconditional Put"}
    for act in (
        lambda: strict.objects.client.put_object(Bucket=strict.objects.bucket, Key="x", Body=b""),
        lambda: strict.objects.client.delete_object(Bucket=strict.objects.bucket, Key="x"),
    ):
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            act()
    assert strict.objects.put("x", b"") is True
    assert strict.server.verbs() == ["Put", "Delete", "Put"]
    assert strict.seen[-1].headers["if-none-match"] == "*"
