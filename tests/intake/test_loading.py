"""Loads that anybody dropped into the landing zone: read as what they are, or named, and the others are loaded."""

import datetime as dt
import gzip
import json
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.intake.loading import OUTSIDE, LoadedHours, load_hours
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

DAY = Window.of_day(dt.date(2026, 11, 20))
FIVE = DAY.start + 5 * HOUR
FOLDER = "dt=2026-11-20/hour=05"


class Here:
    """A landing zone directory and a warehouse."""

    def __init__(self, directory: pathlib.Path, warehouse: Warehouse) -> None:
        self.folder = directory / FOLDER
        self.folder.mkdir(parents=True)
        self.landing = Landing(DirectoryObjects(directory))
        self.warehouse = warehouse

    def load(self) -> LoadedHours:
        """Load the day."""
        return load_hours(self.warehouse, self.landing, DAY, DAY.end)

    def events(self) -> pl.DataFrame:
        """All events, by id."""
        return self.warehouse.read_events(DAY, EVENT_NAMES).sort("event_id")

    def rejected(self) -> list[dict[str, Any]]:
        """All rejected rows."""
        columns = "SELECT load_id, source, line_number, raw, reason FROM pathstats.rejected_events ORDER BY line_number"
        return self.warehouse._frame(columns).rows(named=True)


@pytest.fixture
def here(tmp_path: pathlib.Path) -> Iterator[Here]:
    """An empty landing zone and warehouse."""
    with open_warehouse(tmp_path / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        yield Here(tmp_path / "landing", warehouse)


def line(**values: Any) -> bytes:
    """A JSON line of an event."""
    return json.dumps({"event_time": "2026-11-20T05:30:00Z", "path": "/a", **values}).encode() + b"\n"


def parquet(file: pathlib.Path, times: Any, /, **columns: Any) -> None:
    """A Parquet file with event times and some columns."""
    pl.DataFrame({"event_time": times, **columns}).write_parquet(file)


def test_all_three_forms_are_loaded(here: Here) -> None:
    """JSON lines, gzip'd ones and Parquet in the same hour are three loads; a second run appends none."""
    (here.folder / "a.jsonl").write_bytes(line(event_id="a", status=404, bytes_sent=2**53 + 1))
    (here.folder / "b.jsonl.gz").write_bytes(gzip.compress(line(event_id="b") + line(event_id="b2")))
    parquet(here.folder / "c.parquet", [FIVE], event_id=["c"], path=["/c"], status=[200])
    loaded = here.load()
    assert [(facts.load, facts.rows) for facts in loaded.appended] == [
        (Load(FIVE, "a"), 1),
        (Load(FIVE, "b"), 2),
        (Load(FIVE, "c"), 1),
    ]
    assert here.events()["event_id"].to_list() == ["a", "b", "b2", "c"]
    assert here.events().row(0, named=True)["bytes_sent"] == 2**53 + 1
    assert here.load() == LoadedHours((), (), {})


def test_events_without_an_id_are_named_by_where_they_stand(here: Here) -> None:
    """Hour, load and line make the id; identical lines stay different events, and a second load is another place."""
    (here.folder / "a.jsonl").write_bytes(line() * 2)
    parquet(here.folder / "b.parquet", [FIVE, FIVE], path=["/a", "/a"])
    here.load()
    assert here.events()["event_id"].to_list() == [f"2026-11-20T05/{name}" for name in ("a-1", "a-2", "b-1", "b-2")]


@pytest.mark.parametrize("name", ["a{}", "a[1]", "a*", "a?b", "ü b", "%41", "{}{}", "-", "a'b\"c"])
@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_any_name_is_a_load(here: Here, name: str, form: str) -> None:
    """Braces, brackets, stars and quotes in a file's name mean nothing; neighbours aren't read in its place."""
    for other in ("a1", "axb"):
        parquet(here.folder / f"{other}.parquet", [FIVE], path=["/other"])
    path = here.folder / f"{name}{form}"
    if form == ".jsonl":
        path.write_bytes(line(path="/mine"))
    else:
        parquet(path, [FIVE], path=["/mine"])
    assert here.load().unreadable == ()
    events = here.warehouse.read_events(DAY, ["path", "load_id"])
    assert events.filter(pl.col("path") == "/mine")["load_id"].to_list() == [name]
    assert len(events) == 3


def test_missing_columns_are_unknown(here: Here) -> None:
    """A Parquet file needs a time and a path; all else is NULL where it is missing."""
    parquet(here.folder / "a.parquet", [FIVE], path=["/a"], event_id=["x"])
    here.load()
    known = {"event_id": "x", "event_time": FIVE, "path": "/a"}
    assert here.events().rows(named=True) == [{name: known.get(name) for name in EVENT_NAMES}]
    assert here.events().schema == pl.Schema(EVENT_SCHEMA)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_with_a_zone_become_utc(here: Here, unit: Any) -> None:
    """A time zone's time is the same moment in UTC, in any unit, cut to microseconds."""
    moment = pl.Series([FIVE + HOUR / 2]).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    parquet(here.folder / "a.parquet", moment.cast(pl.Datetime(unit, "America/New_York")), path=["/a"])
    (here.folder / "b.jsonl").write_bytes(line(event_time="2026-11-20T00:30:00-05:00"))
    here.load()
    assert here.events()["event_time"].to_list() == [FIVE + HOUR / 2] * 2


def test_rows_outside_the_hour_are_rejected_rows(here: Here) -> None:
    """A row of another hour is kept, with its line and the reason; the hour itself is half-open."""
    times = [FIVE - dt.timedelta(microseconds=1), FIVE, FIVE + HOUR - dt.timedelta(microseconds=1), FIVE + HOUR]
    parquet(here.folder / "a.parquet", times, path=["/0", "/1", "/2", "/3"])
    (facts,) = here.load().appended
    assert (facts.rows, facts.rejected) == (2, 2)
    assert here.events()["path"].to_list() == ["/1", "/2"]
    first, last = here.rejected()
    assert (first["line_number"], first["reason"], first["source"]) == (1, OUTSIDE, f"{FOLDER}/a.parquet")
    assert json.loads(last["raw"])["path"] == "/3"


def test_bad_lines_are_kept_with_their_bytes(here: Here) -> None:
    """What is no event in a dropped file goes to the rejected lines, lossless, by its number in the file."""
    (here.folder / "a.jsonl").write_bytes(b"\xff\n" + line(event_id="x") + b"{}\n" + line(status="many"))
    (facts,) = here.load().appended
    assert (facts.rows, facts.rejected) == (1, 3)
    assert [(row["line_number"], row["raw"]) for row in here.rejected()][:2] == [(1, b"\xff"), (3, b"{}")]


def test_values_that_a_column_cannot_hold_are_unknown(here: Here) -> None:
    """A Parquet file's odd types are read as far as they mean something; odd columns beside are of no account."""
    parquet(
        here.folder / "a.parquet",
        [FIVE, None],
        path=["/a", "/b"],
        event_id=["x", "y"],
        status=["404", "many"],
        response_time_ms=[float("nan"), 1.0],
        bytes_sent=[2**40, -1],
        method=pl.Series(["GET", "GET"], dtype=pl.Categorical),
        extra=pl.Series([b"\xff", b""], dtype=pl.Binary()),
        nested=[[1], [2]],
    )
    assert here.load().unreadable == ()
    (event,) = here.events().rows(named=True)
    assert (event["status"], event["response_time_ms"], event["bytes_sent"]) == (404, None, 2**40)
    assert event["method"] == "GET"
    assert [row["reason"] for row in here.rejected()] == ["bad time"]


def test_a_file_that_is_no_load_is_named_and_the_others_are_loaded(here: Here) -> None:
    """Garbage, cut and foreign files are told in one line each; whatever else is there is loaded."""
    parquet(here.folder / "good.parquet", [FIVE], path=["/a"])
    (here.folder / "z.jsonl").write_bytes(line())
    (here.folder / "empty.jsonl").write_bytes(b"")
    whole = (here.folder / "good.parquet").read_bytes()
    bad = {
        "garbage.parquet": b"not parquet",
        "nothing.parquet": b"",
        "cut.parquet": whole[:-9],
        "cut.x.parquet": whole[: len(whole) // 2],
        "torn.jsonl.gz": gzip.compress(line() * 99)[:-3],
        "wide.jsonl": line().decode().encode("utf-16"),
    }
    for name, body in bad.items():
        (here.folder / name).write_bytes(body)
    pl.DataFrame({"event_time": [FIVE]}).write_parquet(here.folder / "no-path.parquet")
    pl.DataFrame({"event_time": ["now"], "path": ["/"]}).write_parquet(here.folder / "text-time.parquet")
    loaded = here.load()
    assert {facts.load.load_id for facts in loaded.appended} == {"good", "z", "empty"}
    named = sorted(text.split(f"{FOLDER}/")[1].split(": ")[0] for text in loaded.unreadable)
    assert named == sorted([*bad, "no-path.parquet", "text-time.parquet"])
    assert all(len(text.splitlines()) == 1 for text in loaded.unreadable)
    assert sorted(here.load().unreadable) == sorted(loaded.unreadable)
    (here.folder / "garbage.parquet").write_bytes(whole)
    assert [facts.load.load_id for facts in here.load().appended] == ["garbage"]


def test_a_damaged_parquet_file_never_takes_the_process_down(here: Here) -> None:
    """Cut or flipped at a hundred places: the run goes on, and what was loaded is whole."""
    parquet(here.folder / "x.parquet", [FIVE] * 300, path=[f"/{number}" for number in range(300)])
    whole = (here.folder / "x.parquet").read_bytes()
    rng = random.Random(1)  # noqa: S311 - test data
    for number in range(100):
        damaged = bytearray(whole)
        if number % 3:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(whole)) :]
        (here.folder / "x.parquet").write_bytes(damaged)
        loaded = here.load()
        assert len(loaded.appended) + len(loaded.unreadable) == 1
        for facts in loaded.appended:
            assert facts.rows + facts.rejected + facts.duplicates <= 300
            here.warehouse._run("DELETE FROM pathstats.loads")
            here.warehouse._run("DELETE FROM pathstats.traffic_events")


def test_a_foreign_file_of_rejected_lines_is_named(here: Here) -> None:
    """Only the intake writes rejected lines; another file there is told and stops nothing."""
    folder = here.folder.parents[1] / "_rejected" / FOLDER
    folder.mkdir(parents=True)
    pl.DataFrame({"x": [1]}).write_parquet(folder / "a.parquet")
    (folder / "b.jsonl").write_bytes(line())
    (here.folder / "good.jsonl").write_bytes(line())
    loaded = here.load()
    assert len(loaded.unreadable) == 2
    assert here.events().height == 1


def test_two_files_of_one_load_stop_their_hour_and_no_other(here: Here) -> None:
    """Which of them is the load nobody can say; the loads of other hours are loaded."""
    (here.folder / "same.jsonl").write_bytes(line(event_id="a"))
    parquet(here.folder / "same.parquet", [FIVE], event_id=["b"], path=["/b"])
    other = here.folder.parent / "hour=06"
    other.mkdir()
    parquet(other / "c.parquet", [FIVE + HOUR], event_id=["c"], path=["/c"])

    loaded = here.load()

    assert [facts.load for facts in loaded.appended] == [Load(FIVE + HOUR, "c")]
    [problem] = loaded.unreadable
    assert "same.jsonl" in problem
    assert "same.parquet" in problem
