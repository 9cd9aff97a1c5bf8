"""The landing zone: names, loads that are whole when they are seen, and what isn't a load."""

import datetime as dt
import pathlib

import polars as pl
import pytest

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.storage.landing import LandedFile, Landing, LandingError, load_key
from pathstats_pipeline.storage.objects import DirectoryObjects, S3Objects

DAY = dt.date(2026, 11, 20)
FIVE = Window.of_day(DAY).start + 5 * HOUR
FOLDER = "dt=2026-11-20/hour=05"


@pytest.fixture(params=["directory", "s3"])
def landing(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Landing:
    """An empty landing zone of each kind."""
    if request.param == "directory":
        return Landing(DirectoryObjects(tmp_path / "landing"))
    store: S3Objects = request.getfixturevalue("s3_objects")
    return Landing(store)


def rows(*values: int) -> pl.DataFrame:
    """Some rows."""
    return pl.DataFrame({"x": values})


def test_names_are_the_contracts() -> None:
    """A load stands below its day and hour under its id; its rejected lines likewise, beside."""
    load = Load(FIVE, "abc")
    assert load_key(load) == "dt=2026-11-20/hour=05/abc.parquet"
    assert load_key(load, rejected=True) == "_rejected/dt=2026-11-20/hour=05/abc.parquet"


def test_a_load_is_published_once(landing: Landing) -> None:
    """The first publication stands; a second one of the same load changes nothing."""
    load = Load(FIVE, "abc")
    assert landing.publish(load, rows(1, 2)) is True
    assert landing.publish(load, rows(3)) is False
    assert landing.publish(load, rows(4), rejected=True) is True
    events, rejected = landing.files(FIVE)
    assert (events.load, events.rejected, rejected.rejected) == (load, False, True)
    with landing.local_copy(events) as path:
        assert pl.read_parquet(path)["x"].to_list() == [1, 2]
    landing.delete(events)
    landing.delete(events)
    assert landing.files(FIVE) == [rejected]


def test_files_of_an_hour_are_found_in_order(landing: Landing) -> None:
    """All three forms are loads, by their id; other hours, records and unknown names aren't."""
    for name in ("b.jsonl", "a.parquet", "c.x.jsonl.gz", "notes.txt", ".hidden.jsonl", "sub/d.jsonl", "x.jsonl.gz.tmp"):
        landing.objects.put(f"{FOLDER}/{name}", b"")
    landing.objects.put("dt=2026-11-20/hour=06/a.parquet", b"")
    landing.objects.put("dt=2026-11-20/hour=5/a.parquet", b"")
    landing.objects.put("dt=2026-11-20/hour=24/a.parquet", b"")
    landing.objects.put("_sources/x/y.json", b"")
    found = [(file.load.load_id, file.form) for file in landing.files(FIVE) if file.load.load_id != ".hidden"]
    assert found == [("a", ".parquet"), ("b", ".jsonl"), ("c.x", ".jsonl.gz")]
    unknown = landing.unknown_files(FIVE)
    assert unknown == [f"{FOLDER}/{name}" for name in ("notes.txt", "sub/d.jsonl", "x.jsonl.gz.tmp")]
    assert landing.hours(DAY) == [FIVE, FIVE + HOUR]


def test_two_files_of_one_load_are_an_error(landing: Landing) -> None:
    """A load can't be two files: the error names both."""
    landing.objects.put(f"{FOLDER}/a.jsonl", b"")
    landing.objects.put(f"{FOLDER}/a.parquet", b"")
    with pytest.raises(LandingError, match=r"hour=05/a\.jsonl and .*hour=05/a\.parquet are the same load"):
        landing.files(FIVE)


def test_the_same_id_in_two_hours_is_two_loads(landing: Landing) -> None:
    """Files dropped by others may carry the same name in every hour."""
    landing.objects.put(f"{FOLDER}/hourly.jsonl", b"")
    landing.objects.put("dt=2026-11-20/hour=06/hourly.jsonl", b"")
    one, other = landing.files(FIVE) + landing.files(FIVE + HOUR)
    assert one.load != other.load
    assert one.load.load_id == other.load.load_id == "hourly"


def test_a_local_copy_is_the_file(landing: Landing) -> None:
    """The bytes can be read at a path with the file's own ending, on a directory and on S3."""
    body = bytes(range(256)) * 9000
    landing.objects.put(f"{FOLDER}/a.jsonl.gz", body)
    (file,) = landing.files(FIVE)
    assert file == LandedFile(Load(FIVE, "a"), f"{FOLDER}/a.jsonl.gz", ".jsonl.gz", rejected=False)
    with landing.local_copy(file) as path:
        assert path.read_bytes() == body
        assert path.name.endswith(".jsonl.gz")


def test_an_empty_hour_has_no_files(landing: Landing) -> None:
    """An hour, or a landing zone, that isn't there is empty."""
    assert landing.files(FIVE) == []
    assert landing.hours(DAY) == []
    assert landing.unknown_files(FIVE) == []


def test_days_and_their_loads_are_listed_alike_on_a_directory_and_on_s3(
    tmp_path: pathlib.Path, s3_objects: S3Objects
) -> None:
    """Foreign names are of no account; rejected lines count as loads of their own kind."""
    five = dt.datetime(2026, 11, 20, 5)
    for landing in (Landing(DirectoryObjects(tmp_path / "landing")), Landing(s3_objects)):
        assert landing.days() == []
        landing.publish(Load(five, "a"), pl.DataFrame({"x": [1]}))
        landing.publish(Load(five, "a"), pl.DataFrame({"x": [1]}), rejected=True)
        landing.publish(Load(five + dt.timedelta(days=2), "b"), pl.DataFrame({"x": [1]}))
        landing.objects.put("dt=someday/hour=05/c.parquet", b"")
        assert landing.days() == [dt.date(2026, 11, 20), dt.date(2026, 11, 22)]
        assert landing.loads(dt.date(2026, 11, 20)) == {(Load(five, "a"), False), (Load(five, "a"), True)}
