"""Log files that are objects of a bucket: read like files, streamed, and never under a wrong identity."""

import contextlib
import gzip
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import botocore.response
import pytest
import zstandard
from conftest import new_bucket, s3_client_of
from ingesting import ALL_PATHS, LOG, Meanwhile, ingest_path, intake, stored, write

from pathstats_pipeline.intake.ingest import Intake, ingest_file
from pathstats_pipeline.intake.lines import BLOCK_BYTES, SourceError
from pathstats_pipeline.intake.logfiles import ObjectLogFile, PathLogFile, find_log_files, is_log_name
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects

PACKINGS = [pytest.param(bytes, id="plain"), pytest.param(gzip.compress, id="gzip")]
PACKINGS.append(pytest.param(zstandard.compress, id="zstd"))
WHOLE_LINES = LOG[: LOG.index(b"\n", 9_000) + 1]


@pytest.fixture
def bucket(s3_server: LocalS3) -> S3Objects:
    """An empty bucket on the real S3 server, as a whole."""
    return S3Objects(s3_client_of(s3_server), new_bucket(s3_server))


def put(bucket: S3Objects, key: str, data: bytes) -> ObjectLogFile:
    """Put a log into the bucket, whether or not one is there."""
    bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=data)
    return ObjectLogFile(bucket, key)


@contextlib.contextmanager
def bodies(bucket: S3Objects, replace: Callable[[bytes], io.BytesIO]) -> Iterator[None]:
    """Let the body of each answer to a get be another; its length stays the one that the server promised."""

    def change(parsed: dict[str, Any], **_: Any) -> None:
        body = replace(parsed["Body"].read())
        parsed["Body"] = botocore.response.StreamingBody(body, parsed["ContentLength"])

    bucket.client.meta.events.register("after-call.s3.GetObject", change)
    yield
    bucket.client.meta.events.unregister("after-call.s3.GetObject", change)


@pytest.mark.parametrize("pack", PACKINGS)
def test_an_object_is_ingested_like_a_file(
    tmp_path: pathlib.Path, bucket: S3Objects, pack: Callable[[bytes], bytes]
) -> None:
    """Plain, gzip and zstd; a second time it adds nothing."""
    log_file = put(bucket, "logs/a b?#ü.log", pack(LOG))
    assert ingest_file(log_file, intake(tmp_path)).accepted == 200
    again = ingest_file(log_file, intake(tmp_path))
    assert (again.before, again.loads, again.name) == (200, 0, f"s3://{bucket.bucket}/logs/a b?#ü.log")
    assert stored(tmp_path)[0] == ALL_PATHS


@pytest.mark.parametrize("length", [900, len(LOG)])
def test_an_object_is_the_same_log_once_it_is_compressed(
    tmp_path: pathlib.Path, bucket: S3Objects, length: int
) -> None:
    """Also a short one, which is known by its key: without what compressing adds to it."""
    data = LOG[:length]
    first = ingest_file(put(bucket, "access.log", data), intake(tmp_path))
    for name, pack in (("access.log.gz", gzip.compress), ("access.log.zst", zstandard.compress)):
        assert ingest_file(put(bucket, name, pack(data)), intake(tmp_path)).before == first.lines


def test_a_file_that_was_ingested_here_is_not_ingested_from_s3(tmp_path: pathlib.Path, bucket: S3Objects) -> None:
    """What is shipped to a bucket after it was ingested on its host is known by its bytes."""
    ingest_path(write(tmp_path, LOG), intake(tmp_path))
    assert ingest_file(put(bucket, "shipped", LOG), intake(tmp_path)).before == 200


def test_the_last_line_of_an_object_is_a_line(tmp_path: pathlib.Path, bucket: S3Objects) -> None:
    """An object is complete when it can be seen, so nothing is left for the next time."""
    report = ingest_file(put(bucket, "x", LOG[:-1]), intake(tmp_path))
    assert (report.accepted, report.unfinished) == (200, 0)


def test_an_object_that_is_put_again_longer_has_grown(tmp_path: pathlib.Path, bucket: S3Objects) -> None:
    """The same source: only what is new is ingested. With other bytes it is another source."""
    ingest_file(put(bucket, "x", WHOLE_LINES), intake(tmp_path))
    report = ingest_file(put(bucket, "x", LOG), intake(tmp_path))
    assert (report.before, report.accepted) == (WHOLE_LINES.count(b"\n"), 200 - WHOLE_LINES.count(b"\n"))
    other = ingest_file(put(bucket, "x", LOG.replace(b"/p/", b"/q/")), intake(tmp_path))
    assert (other.before, other.accepted) == (0, 200)


def test_an_object_that_is_put_again_while_it_is_read_is_told(tmp_path: pathlib.Path, bucket: S3Objects) -> None:
    """Its bytes are never taken for those that were surveyed; the next run takes each line once."""
    log_file = put(bucket, "x", WHOLE_LINES)
    Meanwhile.happens = staticmethod(lambda: put(bucket, "x", LOG))
    whole = intake(tmp_path)
    meanwhile = Intake(
        Landing(Meanwhile(tmp_path / "landing")), whole.first_hour, whole.now, whole.choose_format, whole.load_rows
    )
    with pytest.raises(SourceError, match="/x: was replaced while it was read; run again"):
        ingest_file(log_file, meanwhile)
    assert ingest_file(log_file, whole).lines == 200
    assert stored(tmp_path)[0] == ALL_PATHS


@pytest.mark.parametrize("left", [0, 2, 700])
@pytest.mark.parametrize("pack", PACKINGS)
def test_an_answer_that_breaks_off_publishes_nothing(
    tmp_path: pathlib.Path, bucket: S3Objects, pack: Callable[[bytes], bytes], left: int
) -> None:
    """It is one line that names the object; the next try takes it."""
    log_file = put(bucket, "x", pack(LOG))
    with (
        bodies(bucket, lambda data: io.BytesIO(data[:left])),
        pytest.raises(SourceError, match=f"cannot get s3://{bucket.bucket}/x at .*: {left} read, but total bytes") as e,
    ):
        ingest_file(log_file, intake(tmp_path))
    assert "\n" not in str(e.value)
    assert not (tmp_path / "landing").exists()
    assert ingest_file(log_file, intake(tmp_path)).accepted == 200


def test_an_object_is_never_wholly_in_memory(tmp_path: pathlib.Path, bucket: S3Objects) -> None:
    """It is asked for in pieces, at most one block of lines at a time, and never as a whole."""
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    log_file = put(bucket, "x", LOG * 300)
    with bodies(bucket, Watched):
        assert ingest_file(log_file, intake(tmp_path)).accepted == 60_000
    assert min(asked) > 0
    assert max(asked) <= BLOCK_BYTES


def test_what_cannot_be_read_is_one_line(bucket: S3Objects) -> None:
    """An object or a bucket that isn't there, and a name that names none."""
    with pytest.raises(SourceError, match=rf"^s3://{bucket.bucket}/none does not exist$"):
        ObjectLogFile(bucket, "none").open()
    with pytest.raises(SourceError, match="NoSuchBucket"):
        ObjectLogFile(S3Objects(bucket.client, "no-such-bucket"), "x").open()


def test_names_stand_for_paths_objects_and_prefixes(bucket: S3Objects) -> None:
    """Below a prefix, what is hidden or still written under another name is left alone; problems don't stop others."""
    for key in ("a/1.log", "a/b/2.log", "a/.hidden", "a/3.tmp", "ab.log", "a/folder/"):
        put(bucket, key, b"" if key.endswith("/") else LOG)
    root = f"s3://{bucket.bucket}"
    names = [f"{root}/a/", "x.log", f"{root}/none/", "s3://", "s3://UPPER/x", f"{root}/exactly"]

    found, problems = find_log_files(names, lambda name: S3Objects(bucket.client, name))

    assert [each.name for each in found] == [f"{root}/a/1.log", f"{root}/a/b/2.log", "x.log", f"{root}/exactly"]
    assert problems == [
        f"{root}/none/: there are no objects",
        *(
            f"{name}: names no bucket: write s3://bucket/key or s3://bucket/prefix/"
            for name in ("s3://", "s3://UPPER/x")
        ),
    ]


def test_a_file_that_is_gone_may_grow(tmp_path: pathlib.Path) -> None:
    """Its writer may still hold it under the name that it was given since."""
    whole = intake(tmp_path)
    assert PathLogFile(tmp_path / "none").may_grow(whole.now)


@pytest.mark.parametrize("name", ["access.log", "access.log.1", "x.gz", "tmp", "a.tmp/b"])
def test_names_of_logs(name: str) -> None:
    """Nearly every name."""
    assert is_log_name(name)


@pytest.mark.parametrize("name", [".x", "a/.x", "x.tmp", ".access.log.swp", "x.swp", "x.part", "access.log~", "a/"])
def test_names_that_are_left_alone(name: str) -> None:
    """Hidden files, and those that editors and shippers write on the way."""
    assert not is_log_name(name)
