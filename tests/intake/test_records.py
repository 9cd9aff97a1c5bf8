"""The records of what was ingested: read once, kept current, and found without looking at all of them."""

import dataclasses
import os
import pathlib
from collections import Counter
from typing import ClassVar

import pytest
from ingesting import LOG, NOW, ingest_path, intake, write

from pathstats_pipeline.intake.ingest import ingest_file
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.intake.records import SourceRecords
from pathstats_pipeline.intake.sources import SHORT_BYTES, Segment
from pathstats_pipeline.storage.landing import Landing, LandingError
from pathstats_pipeline.storage.objects import DirectoryObjects

SHORT = LOG[: LOG.index(b"\n", 300) + 1]
HEAD = LOG[:SHORT_BYTES]


class Counting(DirectoryObjects):
    """A directory that counts what is read of it."""

    reads: ClassVar[Counter[str]] = Counter()

    def get(self, key: str) -> bytes | None:
        """The bytes, counted."""
        type(self).reads[key] += 1
        return super().get(key)


@pytest.fixture
def landing(tmp_path: pathlib.Path) -> Landing:
    """An empty landing zone that counts."""
    Counting.reads.clear()
    return Landing(Counting(tmp_path / "landing"))


def test_records_are_read_once(tmp_path: pathlib.Path, landing: Landing) -> None:
    """A refresh reads what is new, and of that no plan that was carried out."""
    ingest_path(write(tmp_path, LOG), intake(tmp_path))
    records = SourceRecords(landing)
    for _ in range(3):
        records.refresh()
    assert [key.rpartition("-")[2] for key in Counting.reads.elements()] == ["done.json"]
    ingest_path(write(tmp_path, LOG * 2), intake(tmp_path))
    records.refresh()
    assert len(records.alike("/other", 0, HEAD)) == 2


def test_what_one_writes_it_need_not_read(tmp_path: pathlib.Path, landing: Landing) -> None:
    """Records of one's own files are current without a refresh."""
    records = SourceRecords(landing)
    own = dataclasses.replace(intake(tmp_path), landing=landing)
    for data in (LOG[:5_000], LOG, LOG):
        report = ingest_file(PathLogFile(write(tmp_path, data)), own, records)
    records.refresh()
    assert (report.before, report.accepted) == (200, 0)
    assert not Counting.reads


def test_a_plan_stands_until_it_was_carried_out(landing: Landing) -> None:
    """Whoever comes after a run that died finds what it had planned, in whatever order the records come."""
    records = SourceRecords(landing)
    planned = Segment("id", "/log", 0, 2_000, 1, "end", NOW, head_sha256="")
    done = dataclasses.replace(planned, done=True)
    records.write(planned)
    assert records.alike("/log", 0, HEAD) == [planned]
    records.write(done)
    records.write(planned)
    assert records.alike("/log", 0, HEAD) == [done]


def test_records_of_other_beginnings_are_not_looked_at(tmp_path: pathlib.Path, landing: Landing) -> None:
    """A file is compared with those that begin as it does, and with short ones of its path or inode."""
    for number in range(5):
        other = LOG.replace(b"/p/", b"/%d/" % number)
        ingest_path(write(tmp_path, other, f"{number}.log"), intake(tmp_path))
        ingest_path(write(tmp_path, other[:500], f"short-{number}.log"), intake(tmp_path))
    records = SourceRecords(landing)
    records.refresh()
    assert records.alike("/log", 0, HEAD) == []
    assert len(records.alike("/log", 0, LOG.replace(b"/p/", b"/3/"))) == 1
    short = tmp_path / "short-3.log"
    assert len(records.alike(str(short), 0, SHORT)) == 1
    assert len(records.alike("/renamed", short.stat().st_ino, SHORT)) == 1


def test_a_short_file_is_known_after_it_was_renamed(tmp_path: pathlib.Path) -> None:
    """By its inode, also when it has grown since; another file with the same bytes is another file."""
    ingest_path(write(tmp_path, SHORT), intake(tmp_path))
    renamed = (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    assert ingest_path(renamed, intake(tmp_path)).accepted == 0
    with renamed.open("ab") as file:
        file.write(LOG[len(SHORT) :])
    assert ingest_path(renamed, intake(tmp_path)).lines == 200
    assert ingest_path(write(tmp_path, SHORT, "another.log"), intake(tmp_path)).before == 0


def test_a_name_that_is_not_text_is_ingested(tmp_path: pathlib.Path) -> None:
    """Also with lines that are rejected under it."""
    path = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.log"))
    path.write_bytes(SHORT + b"no line\n")
    report = ingest_path(path, intake(tmp_path))
    assert (report.accepted, report.rejected, report.name) == (4, 1, f"{tmp_path}/caf\\xe9.log")


def test_a_damaged_record_is_named(tmp_path: pathlib.Path) -> None:
    """In one line: nothing is ingested beside records that can't be read."""
    objects = DirectoryObjects(tmp_path / "landing")
    objects.put("_sources/x/y-done.json", b"{}")
    with pytest.raises(LandingError, match=r"/landing/_sources/x/y-done\.json: is no record of the intake$"):
        ingest_path(write(tmp_path, LOG), intake(tmp_path))
