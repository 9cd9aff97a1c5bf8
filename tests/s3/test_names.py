"""Keys: the archive's own are of hive form; whatever a landing file is called, it stays where it is (M30)."""

import gzip
import json
import pathlib
import re

import duckdb
import polars as pl
import pytest
from archive.worlds import DAY, NOW, events, hour_of, lines_of, world

from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import ObjectsError, S3Objects

from .stores import Strict

HARMLESS = r"[A-Za-z0-9._=/-]+"
NASTY = [
    "..",
    "../../x",
    "a/../../b",
    "%2e%2e%2f",
    "%",
    "100%25",
    "ü…日本\u202e",
    "a b?c#d&e=f+g",
    "x" * 900,
    "-rf",
    "~",
    "\x01",
]


def paths(load: Load, names: list[str]) -> pl.DataFrame:
    """One event for each of these request paths."""
    return events(load, len(names)).with_columns(path=pl.Series(names))


def test_m30_no_event_chooses_a_key(tmp_path: pathlib.Path, strict: Strict) -> None:
    """M30: whatever paths and load ids say, keys are made of dates, numbers and digests, below the prefix.

    The paths come back as they were.
    """
    with world(tmp_path, strict.objects) as here:
        names = [f"/{name}" for name in NASTY]
        for number, load_id in enumerate(["..", "%2e", "ü" * 100, "x" * 200]):
            load = Load(hour_of(number), load_id)
            frame = paths(load, names)
            here.warehouse.append_load(load, [(frame, pl.DataFrame())], lambda part: digest_of(to_lines(part)), NOW)
            here.accepted += lines_of([frame])
        here.build_statistics()
        (manifest,) = here.archive()
        here.assert_invariants()
        here.clean()
        here.assert_invariants(cleaned=True)
    assert {key.partition("/")[0] for key in strict.bucket.objects} == {"archive"}
    for key in strict.bucket.objects:
        assert re.fullmatch(HARMLESS, key)
        assert ".." not in key
    body = gzip.decompress(strict.kept()[manifest.key])
    assert sorted({json.loads(line)["path"] for line in body.splitlines()}) == sorted(names)
    assert manifest.key == f"events/dt={DAY}/events-{DAY}-g0001-{manifest.digest.hex[:8]}.jsonl.gz"


def test_m30_duckdb_reads_the_archive_by_its_hive_keys(tmp_path: pathlib.Path, strict: Strict) -> None:
    """M30: a copy of the bucket is a table with a column `dt`, for who knows nothing of us."""
    with world(tmp_path / "here", strict.objects) as here:
        here.bring(0, "a", 20)
        here.archive()
        here.bring(5, "late", 7)
        here.archive()
    for key, body in strict.kept().items():
        path = tmp_path / "copy" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    table = f"read_json('{tmp_path}/copy/events/*/*.jsonl.gz', format='newline_delimited', hive_partitioning=true)"
    counts = duckdb.sql(f"SELECT dt::VARCHAR, count(DISTINCT event_id) FROM {table} GROUP BY dt").fetchall()
    assert counts == [(str(DAY), 27)]


@pytest.mark.parametrize("name", NASTY)
def test_m30_a_name_is_kept_or_refused_but_never_leaves_the_prefix(strict: Strict, name: str) -> None:
    """M30: a key arrives as it is, below the prefix, and is found again; or it is one line, and nothing was written."""
    strict.objects.put("other", b"other")
    key = f"in/{name}"
    try:
        assert strict.objects.put(key, b"1") is True
        assert strict.objects.put(key, b"2") is False
        assert (strict.objects.get(key), strict.objects.list("in/")) == (b"1", [key])
        assert strict.objects.put_parts(key, iter([b"3"])) is False
        strict.objects.delete(key)
    except ObjectsError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either way is right
    assert set(strict.bucket.objects) == {"archive/other"}


def test_m30_landing_files_are_named_by_anybody(tmp_path: pathlib.Path, strict: Strict) -> None:
    """M30: whatever file names stand in an hour's folder, a local copy of one lies nowhere but in its own folder."""
    folder = f"landing/dt={DAY}/hour=05/"
    for number, name in enumerate([*NASTY, "../../../../evil"]):
        strict.bucket.objects[f"{folder}{name}.jsonl"] = b"%d" % number
    landing = Landing(S3Objects(strict.objects.client, strict.objects.bucket, "landing"))
    files = landing.files(hour_of(5))
    assert {file.load.load_id for file in files} == {name for name in NASTY if "/" not in name}
    for file in files:
        if file.load.load_id not in {".", ".."}:
            with landing.local_copy(file) as path:
                assert path.parent.name.startswith("pathstats-landing-")
                assert path.name == "load.jsonl"
    assert list(tmp_path.iterdir()) == []
