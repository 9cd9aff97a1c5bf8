"""Surveys of files that grow: they go on where they ended, and find what a survey from the beginning finds."""

import pathlib
import random

import pytest

from pathstats_pipeline.intake import readings
from pathstats_pipeline.intake.lines import Source, open_source
from pathstats_pipeline.intake.readings import Readings
from pathstats_pipeline.intake.sources import SHORT_BYTES, Beginning, survey

LINES = b"".join(b"2026-11-20 05:%02d:%02d GET /p/%d\n" % (n // 60 % 60, n % 60, n) for n in range(2_000))


@pytest.fixture(autouse=True)
def _every_file_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "WORTH_BYTES", 1)


def read(kept: Readings, path: pathlib.Path, ends: list[int]) -> tuple[Beginning, int]:
    """A survey with what is kept, held against one from the beginning; how much of the file it read."""
    with open_source(path) as stream:
        counting = Counting(stream)
        reading = kept.take(counting, stream.read(SHORT_BYTES), ends)
        beginning = reading.go_on(counting)
        kept.keep(reading)
    with open_source(path) as stream:
        anew = survey(stream, ends)
    assert (beginning.length, beginning.sha256) == (anew.length, anew.sha256)
    assert (beginning.whole_end, beginning.whole_sha256) == (anew.whole_end, anew.whole_sha256)
    known = [end for end in (SHORT_BYTES, *ends) if end <= anew.length]
    assert [beginning.prefixes[end] for end in known] == [anew.prefixes[end] for end in known]
    return beginning, counting.count


class Counting(Source):
    """A source that counts what is read of it."""

    def __init__(self, stream: Source) -> None:
        super().__init__(stream.name, stream._stream, stream._file, stream.version, stream.inode)
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Read, and count."""
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_file_that_grows_is_read_once(tmp_path: pathlib.Path) -> None:
    """Whatever the pieces, with the ends of earlier surveys as what is asked for, as the records have them."""
    rng = random.Random(4)  # noqa: S311 - test data
    path, kept, length = tmp_path / "a.log", Readings(), 0
    ends: list[int] = []
    while length < len(LINES):
        before, length = length, min(length + rng.randrange(1, 9_000), len(LINES))
        path.write_bytes(LINES[:length])
        beginning, count = read(kept, path, ends)
        assert count <= length - before + 4_096
        ends += rng.sample([beginning.length, beginning.whole_end], 1)


@pytest.mark.parametrize(
    "other",
    [
        LINES[::-1],
        LINES[: len(LINES) // 2].replace(b"/p/", b"/q/") + LINES,
        LINES[:5_000],
        LINES[:500],
        b"",
        LINES[:30_000] + b"x" + LINES[30_000:],
    ],
    ids=["another", "other lines", "cut", "short", "empty", "a byte more"],
)
def test_another_file_under_the_same_inode_is_read_anew(tmp_path: pathlib.Path, other: bytes) -> None:
    """A log that was copied and truncated, and has grown since; its beginning alone doesn't tell."""
    path, kept = tmp_path / "a.log", Readings()
    path.write_bytes(LINES[:40_000])
    read(kept, path, [])
    inode = path.stat().st_ino
    path.write_bytes(other)
    assert path.stat().st_ino == inode
    read(kept, path, [40_000])


def test_a_prefix_that_was_not_looked_at_is_read_for(tmp_path: pathlib.Path) -> None:
    """A record of another process, which ended in the middle of what was surveyed here."""
    path, kept = tmp_path / "a.log", Readings()
    path.write_bytes(LINES)
    read(kept, path, [])
    assert read(kept, path, [30_000])[1] == len(LINES) - SHORT_BYTES
    assert read(kept, path, [30_000])[1] <= 4_096


def test_few_are_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were read last."""
    monkeypatch.setattr(readings, "MOST", 2)
    kept = Readings()
    paths = [tmp_path / f"{number}.log" for number in range(3)]
    for path in paths:
        path.write_bytes(LINES)
        read(kept, path, [])
    assert [read(kept, path, [])[1] <= 4_096 for path in reversed(paths)] == [True, True, False]
