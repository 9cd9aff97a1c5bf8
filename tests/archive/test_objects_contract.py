"""One pack of behaviours for every store that the archive works on: a directory, two S3 servers, and our fake."""

import contextlib
import pathlib

import pytest

from pathstats_pipeline.storage.objects import ArchiveObjects, DirectoryObjects, Objects, ObjectsError, S3Objects

from .fake_objects import FakeObjects

WEIRD = [
    "a b/ü…/q=1&x%2F+~'().json",
    "dt=2026-11-20/hour=05/a{}[1]*?#.jsonl",
    "k" * 200,
    "deep/" * 30 + "x",
    "-",
    "日本",
]


@pytest.fixture(params=["directory", "s3", "other_s3", "fake"])
def objects(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Objects:
    """An empty store of each kind."""
    if request.param == "directory":
        return DirectoryObjects(tmp_path / "objects")
    if request.param.endswith("s3"):
        store: S3Objects = request.getfixturevalue(f"{request.param}_objects")
        return store
    return FakeObjects()


@pytest.fixture(params=["s3", "other_s3", "fake"])
def archive_objects(request: pytest.FixtureRequest) -> ArchiveObjects:
    """An empty store of each kind that takes an upload in parts."""
    if request.param.endswith("s3"):
        store: S3Objects = request.getfixturevalue(f"{request.param}_objects")
        return store
    return FakeObjects()


def test_a_put_creates_and_never_overwrites(objects: Objects) -> None:
    """The first put wins; the second says that the key is taken, and changes nothing."""
    assert objects.put("a/b.json", b"first") is True
    assert objects.put("a/b.json", b"second") is False
    assert objects.get("a/b.json") == b"first"


def test_a_put_of_a_file_is_a_put(objects: Objects, tmp_path: pathlib.Path) -> None:
    """A file's bytes become the object's, once; an empty file, too."""
    one, other, empty = (tmp_path / name for name in ("one", "other", "empty"))
    one.write_bytes(b"\x00" * 3_000_000)
    other.write_bytes(b"other")
    empty.write_bytes(b"")
    assert objects.put_file("one", one) is True
    assert objects.put_file("one", other) is False
    assert objects.get("one") == one.read_bytes()
    assert objects.put_file("empty", empty) is True
    assert objects.get("empty") == b""


def test_what_is_missing_is_none_or_an_error(objects: Objects) -> None:
    """`get` gives None where there is no object; `open` raises one line that names the key."""
    assert objects.get("no/such") is None
    with pytest.raises(ObjectsError, match="no/such") as caught, objects.open("no/such"):
        pass
    assert "\n" not in str(caught.value)


def test_open_streams_the_bytes(objects: Objects) -> None:
    """An object is read in pieces, to its end."""
    objects.put("x", bytes(range(256)) * 10)
    with objects.open("x") as stream:
        assert stream.read(256) == bytes(range(256))
        assert stream.read() == bytes(range(256)) * 9
        assert stream.read(1) == b""


@pytest.mark.parametrize(("first", "size"), [(0, 1), (0, 2560), (7, 2553), (2559, 1), (100, 1000)])
def test_a_range_is_that_part_of_the_object(objects: Objects, first: int, size: int) -> None:
    """A range gives its bytes, in pieces, and then its end; the object goes on behind it."""
    body = bytes(range(256)) * 10
    objects.put("x", body)
    with objects.open_range("x", first, size) as stream:
        assert stream.read(1) == body[first : first + 1]
        found = b""
        while piece := stream.read(300):
            found += piece
        assert found == body[first + 1 : first + size]


def test_a_range_that_is_not_there_is_never_made_up(objects: Objects) -> None:
    """What begins in the object and ends behind it is short; what begins behind it is empty or an error."""
    objects.put("x", b"abc")
    with objects.open_range("x", 1, 10) as stream:
        assert stream.read(20) == b"bc"
    with contextlib.suppress(ObjectsError), objects.open_range("x", 3, 10) as stream:
        assert stream.read(20) == b""
    with pytest.raises(ObjectsError, match="no/such"), objects.open_range("no/such", 0, 1):
        pass


def test_list_gives_the_keys_of_a_prefix_sorted(objects: Objects) -> None:
    """A prefix is a prefix of the key, also in the middle of a name, and nothing else is listed."""
    for key in ("b/2", "b/10", "b/1/x", "bb", "a", "b/1.json"):
        objects.put(key, b"")
    assert objects.list("") == ["a", "b/1.json", "b/1/x", "b/10", "b/2", "bb"]
    assert objects.list("b/") == ["b/1.json", "b/1/x", "b/10", "b/2"]
    assert objects.list("b/1") == ["b/1.json", "b/1/x", "b/10"]
    assert objects.list("c/") == []


def test_delete_can_be_repeated(objects: Objects) -> None:
    """A deleted object is gone; deleting it again is no error; its key can be used again."""
    objects.put("x/y", b"1")
    objects.delete("x/y")
    objects.delete("x/y")
    assert objects.get("x/y") is None
    assert objects.list("") == []
    assert objects.put("x/y", b"2") is True


@pytest.mark.parametrize("key", WEIRD)
def test_any_name_is_a_key(objects: Objects, key: str) -> None:
    """Names with blanks, percent signs, brackets and other scripts come back from the listing as they went in."""
    objects.put(key, b"1")
    assert objects.list("") == [key]
    assert objects.get(key) == b"1"
    objects.delete(key)
    assert objects.list("") == []


def test_parts_become_one_object(archive_objects: ArchiveObjects) -> None:
    """The object is its parts in their order; a key that is taken stays as it is."""
    parts = [bytes([letter]) * (5 * 1024 * 1024) for letter in b"abc"] + [b"tail"]
    assert archive_objects.put_parts("big", iter(parts)) is True
    assert archive_objects.put_parts("big", iter([b"other"])) is False
    assert archive_objects.get("big") == b"".join(parts)


def test_parts_that_fail_leave_nothing(archive_objects: ArchiveObjects) -> None:
    """An error of the parts' own reaches the caller as it is, and no object is seen."""

    def broken() -> object:
        yield b"x" * (5 * 1024 * 1024)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        archive_objects.put_parts("big", broken())  # type: ignore[arg-type]
    assert archive_objects.get("big") is None
    assert archive_objects.list("") == []
