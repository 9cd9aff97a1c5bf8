"""What stands in a place: files of a directory and what is below it, objects of a prefix, and nothing else."""

import os
import pathlib
from collections.abc import Callable

import pytest
from conftest import new_bucket, s3_client_of
from ingesting import LOG

from pathstats_pipeline.intake.places import Directory, Prefix
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects


def make(root: pathlib.Path, *names: str) -> None:
    """Files with something in them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(LOG[:100])


def names(place: Directory) -> list[str]:
    """What is found, below the root."""
    found = list(place.find())
    assert not [each.problem for each in found if each.problem]
    return sorted(os.path.relpath(each.name, place.root) for each in found)


def test_files_are_found_at_any_depth(tmp_path: pathlib.Path) -> None:
    """What is hidden or temporary isn't a log, nor is what is below such a folder, a pipe, or a symlink to nothing."""
    make(tmp_path, "a.log", "x/y/b.log.gz", ".hidden", ".git/x.log", "c.tmp", "c.swp", "c.part", "c.log~", "d.tmp/e")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert names(Directory(tmp_path)) == ["a.log", "x/y/b.log.gz"]


def test_symlinks_are_followed_and_circles_are_not(tmp_path: pathlib.Path) -> None:
    """Each directory is looked into once, whatever leads to it."""
    make(tmp_path / "elsewhere", "b.log")
    make(tmp_path / "logs", "a.log", "x/c.log")
    (tmp_path / "logs" / "x" / "up").symlink_to("..")
    (tmp_path / "logs" / "self").symlink_to("self")
    for name in ("there", "again"):
        (tmp_path / "logs" / name).symlink_to(tmp_path / "elsewhere")
    assert [pathlib.Path(name).name for name in names(Directory(tmp_path / "logs"))] == ["a.log", "b.log", "c.log"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.log", ["a.log", "x/b.log"]), ("x/*", ["x/b.log", "x/y/c.txt"]), ("*/y/*.txt", ["x/y/c.txt"]), ("none", [])],
)
def test_a_pattern_says_which_files(tmp_path: pathlib.Path, pattern: str, expected: list[str]) -> None:
    """Of the name, or of the path below the root where it has a slash."""
    make(tmp_path, "a.log", "x/b.log", "x/y/c.txt")
    assert names(Directory(tmp_path, pattern)) == expected


def test_what_is_ours_is_left_alone(tmp_path: pathlib.Path) -> None:
    """The landing zone in a directory that is followed would otherwise feed itself; also behind a symlink."""
    make(tmp_path, "a.log", "landing/dt=2026-11-20/hour=05/x.parquet")
    (tmp_path / "link").symlink_to("landing")
    assert names(Directory(tmp_path, but=(tmp_path / "landing", tmp_path / "none"))) == ["a.log"]


def test_a_directory_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    """It may come yet."""
    [found] = Directory(tmp_path / "none").find()
    assert found.problem == f"{tmp_path / 'none'}: there is no such directory; waiting for it"


def test_the_stamp_is_another_when_the_file_is(tmp_path: pathlib.Path) -> None:
    """Its size, its times, which file it is, and who may read it."""
    path = tmp_path / "a.log"
    changes: list[Callable[[], object]] = [
        lambda: path.write_bytes(b"1"),
        lambda: path.write_bytes(b"22"),
        lambda: os.utime(path, (1, 1)),
        lambda: path.chmod(0o600),
        lambda: path.with_name(".new").write_bytes(b"22") and path.with_name(".new").replace(path),
    ]
    stamps = []
    for change in changes:
        change()
        [found] = Directory(tmp_path).find()
        stamps.append(found.stamp)
    assert len(set(stamps)) == len(changes)


def test_objects_of_a_prefix(s3_server: LocalS3) -> None:
    """Those below it, not what is hidden, temporary, or ours; a new version has another stamp."""
    objects = S3Objects(s3_client_of(s3_server), new_bucket(s3_server))
    keys = ["logs/a.log", "logs/x/b.log", "logs/.x/c.log", "logs/d.tmp", "logs/folder/", "logs2/e", "logs/_sources/x"]
    for key in keys:
        objects.client.put_object(Bucket=objects.bucket, Key=key, Body=b"" if key.endswith("/") else b"1")
    place = Prefix(objects, "logs/", but=("logs/_sources/",))
    first = {found.name: found.stamp for found in place.find()}
    assert list(first) == ["logs/a.log", "logs/x/b.log"]
    assert [found.name for found in Prefix(objects, "logs/", "x/*").find()] == ["logs/x/b.log"]
    assert [found.name for found in Prefix(objects, "", "*.log").find()] == ["logs/a.log", "logs/x/b.log"]

    objects.client.put_object(Bucket=objects.bucket, Key="logs/a.log", Body=b"2")
    second = {found.name: found.stamp for found in place.find()}
    assert {name for name in first if first[name] != second[name]} == {"logs/a.log"}
    assert place.log_file("logs/a.log").name == f"s3://{objects.bucket}/logs/a.log"


def test_a_bucket_that_cannot_be_listed_is_a_problem(s3_server: LocalS3) -> None:
    """In one line; nothing is raised."""
    [found] = Prefix(S3Objects(s3_client_of(s3_server), "no-such-bucket"), "x/").find()
    assert (found.name, "NoSuchBucket" in found.problem) == ("s3://no-such-bucket/x/", True)
