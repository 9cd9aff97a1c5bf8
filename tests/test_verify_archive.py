"""The verifier for those who trust nobody: it agrees on a real archive, imports nothing, and catches each damage."""

import ast
import gzip
import json
import pathlib
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import xxhash
from archive.worlds import DAY, WINDOW, world
from conftest import s3_client_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects

TOOL = pathlib.Path(__file__).parents[1] / "tools" / "verify_archive.py"
TOOL_CODE = runpy.run_path(str(TOOL))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, s3_server: LocalS3) -> pathlib.Path:
    """A copy of a bucket, below its prefix, to which a day went in two generations through a real S3."""
    folder = tmp_path_factory.mktemp("verifier")
    s3_server.ensure_bucket("verifier")
    objects = S3Objects(s3_client_of(s3_server), "verifier", "some/archive")
    with world(folder, objects) as here:
        here.bring(0, "a", 300)
        here.bring(23, "b", 20, width=100_000)
        here.archive()
        here.bring(5, "late", 50)
        here.archive()
    root = folder / "copy"
    for key in objects.list(""):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(objects.get(key) or b"")
    return root


def verify(root: pathlib.Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the verifier as its users do, in an interpreter that sees no packages."""
    return subprocess.run(
        [sys.executable, "-I", "-S", TOOL, root, *options], capture_output=True, text=True, check=False
    )


def test_it_agrees_on_a_real_archive(copy: pathlib.Path) -> None:
    """N11: one line for each object, exit code 0; claims beside them are of no account."""
    done = verify(copy, "--strict")

    assert (done.returncode, done.stderr) == (0, "")
    first, second, summary = done.stdout.splitlines()
    assert (first.endswith(": ok"), second.endswith(": ok")) == (True, True)
    assert ": 320 events, " in first
    assert summary == "2 object(s) ok, 0 problem(s), 0 without a manifest"
    assert any((copy / "claims").iterdir())


def test_it_is_one_short_file_for_old_pythons() -> None:
    """Python 3.9 reads it, it imports nothing but the standard library, and it is short enough to be read."""
    tree = ast.parse(TOOL.read_text(), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    assert names <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert len(TOOL.read_text().splitlines()) < 330


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=129, max_size=3000))
def test_its_xxh3_is_xxh3(line: bytes) -> None:
    """The hash that it carries is that of the xxhash package, around every border between the ways of reckoning."""
    assert TOOL_CODE["xxh3_128"](line) == xxhash.xxh3_128_intdigest(line)


def _manifest(root: pathlib.Path, number: int = 1) -> pathlib.Path:
    return root / "metadata" / f"dt={DAY}" / f"g{number:04d}.json"


def _object(root: pathlib.Path, number: int = 1) -> pathlib.Path:
    [path] = (root / "events" / f"dt={DAY}").glob(f"*-g{number:04d}-*")
    return path


def _flip(root: pathlib.Path) -> None:
    body = bytearray(_object(root).read_bytes())
    body[len(body) // 3] ^= 1
    _object(root).write_bytes(body)


def _cut(root: pathlib.Path) -> None:
    _object(root).write_bytes(_object(root).read_bytes()[:-5])


def _double(root: pathlib.Path) -> None:
    _object(root).write_bytes(_object(root).read_bytes() * 2)


def _two_members(root: pathlib.Path) -> None:
    """The same lines in two members, with a manifest to match but for the hash: readers of one member lose half."""
    rows = gzip.decompress(_object(root).read_bytes()).splitlines(keepends=True)
    _object(root).write_bytes(gzip.compress(b"".join(rows[:9])) + gzip.compress(b"".join(rows[9:])))
    _edit(root, bytes=_object(root).stat().st_size)


def _rewrite(root: pathlib.Path, change: Callable[[bytes], bytes]) -> None:
    """Change the lines of an object, and let the manifest say the new sizes and hash, as a forger would."""
    import hashlib  # noqa: PLC0415 - only here

    raw = change(gzip.decompress(_object(root).read_bytes()))
    body = gzip.compress(raw)
    _object(root).write_bytes(body)
    _edit(root, bytes=len(body), raw_bytes=len(raw), sha256=hashlib.sha256(body).hexdigest())


def _edit(root: pathlib.Path, **values: object) -> None:
    manifest = _manifest(root)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **values}))


def _editing(name: str, value: object) -> Callable[[pathlib.Path], None]:
    return lambda root: _edit(root, **{name: value})


DAMAGE: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "flipped bit": (_flip, "WRONG"),
    "missing object": (lambda root: _object(root).unlink(), "does not exist"),
    "empty object": (lambda root: _object(root).write_bytes(b""), "does not end"),
    "cut member": (_cut, "does not end"),
    "a second member": (_double, "bytes after the gzip member"),
    "cut into two members": (_two_members, "bytes after the gzip member"),
    "not gzip": (lambda root: _object(root).write_bytes(b"{}\n"), "damaged gzip"),
    "swapped row": (lambda root: _rewrite(root, lambda raw: raw.replace(b'"a-0-3"', b'"a-0-x"')), "digest is"),
    "doubled row": (lambda root: _rewrite(root, lambda raw: raw.split(b"\n")[0] + b"\n" + raw), "rows is 321, not 320"),
    "not strict JSON": (lambda root: _rewrite(root, lambda raw: raw.replace(b"null", b"NaN", 1)), "NaN is not JSON"),
    "a key twice": (lambda root: _rewrite(root, lambda raw: b'{"host":1,' + raw[1:]), "a key stands there twice"),
    "another key": (lambda root: _rewrite(root, lambda raw: b'{"x":1,' + raw[1:]), "not the columns"),
    "no text": (lambda root: _rewrite(root, lambda raw: raw.replace(b"GET", b"\xff\xff\xff", 1)), "can't decode"),
    "another day's row": (
        lambda root: _rewrite(root, lambda raw: raw.replace(f'time":"{DAY}T'.encode(), b'time":"2026-11-21T', 1)),
        "is not inside 2026-11-20",
    ),
    "no last line end": (lambda root: _rewrite(root, lambda raw: raw[:-1]), "the last line has no end"),
    **{
        f"edited {name}": (_editing(name, value), "WRONG")
        for name, value in {
            "rows": 319,
            "bytes": 1,
            "raw_bytes": 1,
            "sha256": "0" * 64,
            "digest": "0" * 32,
            "date": "2026-11-21",
            "generation": 2,
            "key": "some/archive/events/dt=2026-11-20/../../etc/passwd",
            "first_event_time": "2026-11-20T00:00:00.000000Z",
            "last_event_time": "2026-11-20T23:59:59.999999Z",
            "schema_version": 2,
            "loads": ["a"],
            "digest_algorithm": "sum",
        }.items()
    },
    "no manifest": (lambda root: _manifest(root).write_text("{"), "not a manifest"),
    "a gap": (lambda root: _manifest(root).unlink(), "g0001.json: does not exist, but later ones do"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_it_catches(copy: pathlib.Path, tmp_path: pathlib.Path, what: str) -> None:
    """N11: exit code 1, a line that says what is wrong, no traceback, and the other generation is still looked at."""
    damage, said = DAMAGE[what]
    root = tmp_path / "copy"
    shutil.copytree(copy, root)
    damage(root)

    done = verify(root)

    assert (done.returncode, done.stderr) == (1, "")
    assert any(said in line and line.endswith("WRONG") for line in done.stdout.splitlines()), done.stdout
    assert sum(line.endswith(": ok") for line in done.stdout.splitlines()) == 1


def test_an_object_without_a_manifest_is_told_and_an_empty_copy_is_not_well(
    copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A day's last manifest that is gone shows as an object that nothing names; --strict makes it an error."""
    root = tmp_path / "copy"
    shutil.copytree(copy, root)
    _manifest(root, 2).unlink()

    assert (verify(root).returncode, verify(root, "--strict").returncode) == (0, 1)
    assert f"{_object(root, 2).relative_to(root)}: no manifest names it" in verify(root).stdout
    assert verify(tmp_path / "nowhere").returncode == 2
    (tmp_path / "empty").mkdir()
    assert verify(tmp_path / "empty").returncode == 1
    assert WINDOW.start.date() == DAY
