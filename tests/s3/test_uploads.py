"""Uploads in parts that don't come to their end: none is left, and none of others' is touched (M16)."""

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from pathstats_pipeline.storage.objects import ObjectsError, S3Objects

from .days import PART_BYTES, THREE_PARTS, Prepared, assert_finishes, copy_of
from .faults import Fault
from .stores import Strict

PART = b"p" * PART_BYTES


def begun(store: S3Objects, whole_key: str) -> dict[str, Any]:
    """An upload that somebody began, with one part there."""
    where: Any = {"Bucket": store.bucket, "Key": whole_key}
    upload: Any = {**where, "UploadId": store.client.create_multipart_upload(**where)["UploadId"]}
    store.client.upload_part(**upload, PartNumber=1, Body=PART)
    return upload  # type: ignore[no-any-return]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, LookupError])
def test_m16_an_exception_aborts_the_upload(strict: Strict, error: type[BaseException]) -> None:
    """M16: whatever ends the parts, an interrupt too, the upload is aborted."""

    def parts() -> Iterator[bytes]:
        yield PART
        assert len(strict.bucket.uploads) == 1
        raise error

    with pytest.raises(error):
        strict.objects.put_parts("x", parts())
    assert strict.bucket.uploads == {}
    assert strict.bucket.objects == {}


def test_m16_a_taken_key_aborts_the_upload(strict: Strict) -> None:
    """M16: the upload that lost with 412 would stay and be paid for."""
    strict.objects.put("x", b"first")
    assert strict.objects.put_parts("x", iter([PART])) is False
    assert strict.bucket.uploads == {}


def test_m16_an_upload_that_cannot_be_aborted_is_named(strict: Strict) -> None:
    """M16: where aborting fails, too, the first error is what is raised, with a note of what is left."""
    strict.server.denied |= {"Complete", "Abort"}
    with pytest.raises(ObjectsError, match="AccessDenied") as caught:
        strict.objects.put_parts("x", iter([PART]))
    cause = caught.value.__cause__
    assert cause is not None
    assert any("is left" in note for note in cause.__notes__)


def test_m16_what_a_dead_run_left_is_swept_and_nothing_else(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict
) -> None:
    """M16: uploads to our very key are aborted; a foreign prefix's, another key's and a longer key's are not.

    The live one among them can still be completed.
    """
    strict.fail(Fault.FORBIDDEN, "Complete")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        with pytest.raises(ObjectsError):
            here.archive(THREE_PARTS)
        (key,) = {seen.key for seen in strict.seen if seen.verb == "Create"}
        ours = [begun(strict.objects, key) for _ in range(3)]
        others = [
            begun(strict.objects, foreign)
            for foreign in (f"other/{key}", "archive/events/dt=2026-11-21/live", f"{key}.bak", key[:-1])
        ]
        assert_finishes(here, strict, THREE_PARTS)
    left = set(strict.bucket.uploads)
    assert left == {upload["UploadId"] for upload in others}
    assert not left & {upload["UploadId"] for upload in ours}
    live = others[1]
    answer = strict.objects.client.upload_part(**live, PartNumber=2, Body=b"tail")
    listed = strict.objects.client.list_multipart_uploads(Bucket=strict.objects.bucket, Prefix="archive/")
    assert len(listed["Uploads"]) == 3
    first = strict.bucket.uploads[live["UploadId"]].parts[1]
    etags = [strict.objects.client.upload_part(**live, PartNumber=1, Body=first)["ETag"], answer["ETag"]]
    strict.objects.client.complete_multipart_upload(
        **live, MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, start=1)]}
    )
    assert strict.bucket.objects["archive/events/dt=2026-11-21/live"] == PART + b"tail"
