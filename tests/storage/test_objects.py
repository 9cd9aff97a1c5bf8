"""What only a real S3 server or directory shows; for what all stores share see archive/test_objects_contract.py."""

import pathlib
from collections.abc import Iterator
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.httpsession
import pytest

from pathstats_pipeline.storage.objects import DirectoryObjects, ObjectsError, S3Objects

PART = b"p" * (5 * 1024 * 1024)


@pytest.fixture(params=["s3_objects", "other_s3_objects"], ids=["seaweedfs", "ministack"])
def store(request: pytest.FixtureRequest) -> S3Objects:
    """An empty bucket on each of two S3 servers that share no code."""
    found: S3Objects = request.getfixturevalue(request.param)
    return found


def pending_uploads(store: S3Objects) -> list[Any]:
    """Multipart uploads that were neither completed nor aborted."""
    return list(store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []))


def loses_the_answer(store: S3Objects, operation: str) -> list[str]:
    """Make the next such request reach the server and its answer get lost; gives the requests that were sent."""
    sent: list[str] = []
    session = botocore.httpsession.URLLib3Session()

    def send(request: Any, **_: Any) -> Any:
        sent.append(request.method)
        answer = session.send(request)
        if len(sent) == 1:
            raise botocore.exceptions.ConnectionClosedError(endpoint_url=request.url)
        return answer

    store.client.meta.events.register(f"before-send.s3.{operation}", send)
    return sent


def test_a_listing_has_every_page(store: S3Objects) -> None:
    """A listing that the server gives in many pages is whole, sorted, and without the prefix of the store."""
    keys = [f"many/{number:02d}" for number in range(15)]
    for key in keys:
        store.put(key, b"")
    store.client.put_object(Bucket=store.bucket, Key="archive-of-others/many/1", Body=b"")
    pages: list[int] = []

    def in_small_pages(params: dict[str, Any], **_: Any) -> None:
        pages.append(1)
        params["MaxKeys"] = 2  # the server's own pages have a thousand

    store.client.meta.events.register("provide-client-params.s3.ListObjectsV2", in_small_pages)
    assert store.list("many/") == keys
    assert len(pages) == 8


def test_a_server_that_knows_no_ranges_costs_time_and_nothing_else(s3_objects: S3Objects) -> None:
    """Where the whole object comes for a range of it, the range is cut out here."""
    body = bytes(range(256)) * 10_000
    s3_objects.put("x", body)

    def without_range(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("Range")

    s3_objects.client.meta.events.register("before-call.s3.GetObject", without_range)
    with s3_objects.open_range("x", 2_000_001, 500_000) as stream:
        found = b""
        while piece := stream.read(100_000):
            found += piece
    assert found == body[2_000_001:2_500_001]


def test_a_server_that_gives_another_range_is_refused(s3_objects: S3Objects) -> None:
    """Bytes of another place are never taken for those that were asked for."""
    s3_objects.put("x", bytes(1000))

    def another_range(params: dict[str, Any], **_: Any) -> None:
        params["headers"]["Range"] = "bytes=10-19"

    s3_objects.client.meta.events.register("before-call.s3.GetObject", another_range)
    with pytest.raises(ObjectsError, match="asked for bytes 100-199, got bytes 10-19"):
        s3_objects.open_range("x", 100, 100).__enter__()


def test_a_store_without_a_prefix_is_the_bucket(store: S3Objects) -> None:
    """An empty prefix adds nothing to the keys."""
    root = S3Objects(store.client, store.bucket)
    assert root.put("x", b"1")
    assert root.list("") == ["x"]
    assert root.uri == f"s3://{store.bucket}"


def test_an_upload_in_parts_is_a_real_multipart_upload(store: S3Objects) -> None:
    """Four parts arrive as such, and nothing stays pending."""
    assert store.put_parts("big", iter([PART, PART, PART, b"tail"])) is True
    head = store.client.head_object(Bucket=store.bucket, Key="archive/big")
    assert head["ETag"].strip('"').endswith("-4")
    assert head["ContentLength"] == 3 * len(PART) + 4
    assert pending_uploads(store) == []


def test_parts_that_fail_are_aborted(store: S3Objects) -> None:
    """When the parts' own iterator raises, no upload is left that would be paid for."""

    def broken() -> Iterator[bytes]:
        yield PART
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_parts("big", broken())
    assert pending_uploads(store) == []


def test_a_taken_key_leaves_no_upload(store: S3Objects) -> None:
    """The server's refusal at the end is an answer; the upload that lost is aborted."""
    store.put("big", b"first")
    assert store.put_parts("big", iter([PART, b"tail"])) is False
    assert pending_uploads(store) == []
    assert store.get("big") == b"first"


def test_a_put_whose_answer_is_lost_says_taken(store: S3Objects) -> None:
    """The SDK retries by itself and meets its own write: the key is taken, by these very bytes."""
    sent = loses_the_answer(store, "PutObject")
    assert store.put("x", b"ours") is False
    assert len(sent) == 2
    assert store.get("x") == b"ours"


def test_a_completion_whose_answer_is_lost_says_taken(store: S3Objects) -> None:
    """The same for a multipart upload: one object, whole, and nothing pending."""
    sent = loses_the_answer(store, "CompleteMultipartUpload")
    assert store.put_parts("x", iter([PART, b"tail"])) in {True, False}
    assert len(sent) == 2
    assert store.get("x") == PART + b"tail"
    assert pending_uploads(store) == []


class Answers:
    """A client that passes everything on, but answers one operation with an error, before or after it was done."""

    def __init__(self, client: Any, operation: str, code: str, *, done: bool) -> None:
        self._client, self._operation, self._code, self._done = client, operation, code, done

    def __getattr__(self, name: str) -> Any:
        """The client's method, or the one that fails."""
        return self._fail if name == self._operation else getattr(self._client, name)

    def _fail(self, **arguments: Any) -> None:
        if self._done:
            getattr(self._client, self._operation)(**arguments)
        raise botocore.exceptions.ClientError({"Error": {"Code": self._code, "Message": "so"}}, self._operation)


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("put_object", "ConditionalRequestConflict"),
        ("complete_multipart_upload", "ConditionalRequestConflict"),
        ("complete_multipart_upload", "NoSuchUpload"),
    ],
)
def test_an_answer_in_doubt_is_judged_by_the_object(s3_objects: S3Objects, operation: str, code: str) -> None:
    """A conflict, or an upload that is gone, means "taken" only where the object stands; else it is an error."""
    for done in (True, False):
        store = S3Objects(Answers(s3_objects.client, operation, code, done=done), s3_objects.bucket, f"{done}")  # type: ignore[arg-type]

        def create(store: S3Objects = store) -> bool:
            return store.put("x", b"1") if operation == "put_object" else store.put_parts("x", iter([b"1"]))

        if done:
            assert create() is False
            assert store.get("x") == b"1"
        else:
            with pytest.raises(ObjectsError, match=code):
                create()
            assert store.get("x") is None


def _verbs(store: S3Objects, path: pathlib.Path) -> dict[str, Any]:
    path.write_bytes(b"1")
    return {
        "put": lambda: store.put("some/key", b"1"),
        "put_file": lambda: store.put_file("some/key", path),
        "put_parts": lambda: store.put_parts("some/key", iter([b"1"])),
        "get": lambda: store.get("some/key"),
        "open": lambda: store.open("some/key").__enter__(),
        "list": lambda: store.list("some/key"),
        "delete": lambda: store.delete("some/key"),
    }


def _impatient(store: S3Objects, **changed: Any) -> S3Objects:
    """The same store without retries, and with something changed."""
    import boto3  # noqa: PLC0415 - tests without S3 needn't wait for it

    arguments = {
        "endpoint_url": store.client.meta.endpoint_url,
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "wrong",
        "region_name": "us-east-1",
        "config": botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=2),
    }
    return S3Objects(boto3.client("s3", **{**arguments, **changed}), store.bucket, "archive")


def test_wrong_credentials_are_one_line(s3_objects: S3Objects, tmp_path: pathlib.Path) -> None:
    """Every verb says in one line what it couldn't do, to which object, where; none takes it for "there is none"."""
    for verb, act in _verbs(_impatient(s3_objects), tmp_path / "file").items():
        with pytest.raises(ObjectsError, match=rf"s3://{s3_objects.bucket}/archive/some/key at http://127") as caught:
            act()
        assert len(str(caught.value).splitlines()) == 1, verb


def test_a_server_that_is_down_is_one_line(s3_objects: S3Objects, tmp_path: pathlib.Path) -> None:
    """The same when nobody answers."""
    store = _impatient(s3_objects, endpoint_url="http://127.0.0.1:9")
    for verb, act in _verbs(store, tmp_path / "file").items():
        with pytest.raises(ObjectsError, match=r"archive/some/key at http://127\.0\.0\.1:9: ") as caught:
            act()
        assert len(str(caught.value).splitlines()) == 1, verb


def test_a_bucket_that_is_missing_is_an_error(s3_objects: S3Objects) -> None:
    """A listing of a bucket that isn't there is no empty listing."""
    store = S3Objects(s3_objects.client, "no-such-bucket", "archive")
    with pytest.raises(ObjectsError, match="no-such-bucket"):
        store.list("")


def test_unfinished_files_are_never_listed(tmp_path: pathlib.Path) -> None:
    """What a process that died left behind under another name is no object."""
    store = DirectoryObjects(tmp_path)
    store.put("a/b", b"1")
    (tmp_path / "a" / ".tmp-0123").write_bytes(b"half")
    assert store.list("") == ["a/b"]


def test_a_failed_write_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """A source that can't be read to its end leaves neither an object nor a temporary file."""
    store = DirectoryObjects(tmp_path / "store")
    with pytest.raises(OSError, match="directory"):
        store.put_file("x", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: pathlib.Path) -> None:
    """A directory can't hold `a` and `a/b`: that is told, and not taken for a key that stands already."""
    store = DirectoryObjects(tmp_path)
    store.put("a", b"1")
    with pytest.raises(ObjectsError, match=r"cannot write .*a/b"):
        store.put("a/b", b"2")
    store.put("c/d", b"3")
    for act in (store.get, store.delete, lambda key: store.open(key).__enter__()):
        with pytest.raises(ObjectsError, match=r"cannot \w+ .*/c: "):
            act("c")


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    """Where no file can be made, the error says so."""
    with pytest.raises(ObjectsError, match=r"cannot write /proc/no/x"):
        DirectoryObjects(pathlib.Path("/proc/no")).put("x", b"1")
