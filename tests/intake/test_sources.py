"""Which part of a file was ingested before, told from its bytes; pure."""

import dataclasses
import datetime as dt
import io

from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.sources import SHORT_BYTES, Beginning, Segment, next_segments, survey

NOW = Window.of_day(dt.date(2026, 11, 20)).start
LONG = b"".join(b"line %d\n" % number for number in range(300))


def see(data: bytes, known: list[Segment]) -> Beginning:
    """Survey some bytes."""
    return survey(io.BytesIO(data), [segment.end for segment in known])


def plan(data: bytes, known: list[Segment], path: str = "/log") -> tuple[list[Segment], int]:
    """The next segments of a file with these bytes, and its lines that were before."""
    segments, before, _ = next_segments(path, see(data, known), known, NOW)
    return segments, before


def finish(segments: list[Segment], data: bytes) -> list[Segment]:
    """The records that ingesting these segments leaves: each planned, and done."""
    done = [
        dataclasses.replace(segment, lines=lines_in(data[segment.start : segment.end]), hours=(NOW,), done=True)
        for segment in segments
    ]
    return [*segments, *done]


def lines_in(data: bytes) -> int:
    """Lines, the last one with or without its end."""
    return data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))


def test_a_new_file_is_one_segment() -> None:
    """From its first byte to its last, starting with line 1."""
    ((segment,), before) = plan(LONG, [])
    assert (segment.start, segment.end, segment.first_line, before) == (0, len(LONG), 1, 0)
    assert plan(b"", []) == ([], 0)


def test_the_same_file_has_nothing_new_under_any_name() -> None:
    """Rotated, moved or compressed: what was ingested is known by its bytes."""
    known = finish(plan(LONG, [])[0], LONG)
    assert plan(LONG, known) == ([], 300)
    assert plan(LONG, known, "/log.1") == ([], 300)


def test_a_grown_file_has_the_rest() -> None:
    """Only what is new is planned, with its line numbers in the whole file, under the same identity."""
    known = finish(plan(LONG, [])[0], LONG)
    ((segment,), before) = plan(LONG + b"new\n", known, "/log.1")
    assert (segment.start, segment.first_line, before) == (len(LONG), 301, 300)
    assert segment.source_id == known[0].source_id


def test_a_last_line_without_its_end_is_read_again() -> None:
    """It may have been incomplete; the line after a complete one is not."""
    known = finish(plan(LONG + b"ha", [])[0], LONG + b"ha")
    ((segment,), before) = plan(LONG + b"half\nnew\n", known)
    assert (segment.start, segment.first_line, before) == (len(LONG), 301, 300)
    ended = [*known, *finish([segment], LONG + b"half\nnew\n")]
    assert plan(LONG + b"half\nnew\n", ended) == ([], 302)


def test_short_files_are_told_apart_by_their_paths() -> None:
    """Two servers' files may begin alike for some lines."""
    short = LONG[: SHORT_BYTES - 1]
    known = finish(plan(short, [], "/a")[0], short)
    assert plan(short, known, "/a")[0] == []
    ((other,), before) = plan(short, known, "/b")
    assert other.source_id != known[0].source_id
    assert before == 0
    assert plan(LONG, known, "/a")[0][0].start == short.rindex(b"\n") + 1
    assert plan(LONG, known, "/b")[0][0].start == 0


def test_a_short_file_that_grew_long_is_known_when_it_is_rotated() -> None:
    """All of its lines were before, those of its short time as well."""
    short = LONG[:90]
    known = finish(plan(short, [])[0], short)
    known += finish(plan(LONG, known)[0], LONG)
    assert plan(LONG, known, "/log.1") == ([], 300)


def test_a_planned_segment_is_finished_as_it_was_planned() -> None:
    """After a crash, the file has grown: first the planned span, then the rest."""
    (planned,), _ = plan(LONG, [])
    (first, second), before = plan(LONG + b"new\n", [planned])
    assert first == planned
    assert (second.start, second.first_line, second.source_id, before) == (len(LONG), 301, planned.source_id, 0)


def test_a_file_with_another_beginning_is_another_source() -> None:
    """A file that replaced one of the same name and length is read from its start."""
    known = finish(plan(LONG, [])[0], LONG)
    other = b"L" + LONG[1:]
    ((segment,), before) = plan(other, known)
    assert (segment.start, before) == (0, 0)
    assert segment.source_id != known[0].source_id


def test_a_record_comes_back_as_it_was() -> None:
    """Planned or done, with a key that can't be taken for another's."""
    planned, done = finish(plan(LONG, [], '/ü"\n')[0], LONG)
    for record in (planned, done):
        assert Segment.from_json(record.to_json()) == record
    assert planned.key != done.key
    assert done.key.startswith(f"_sources/{done.source_id}/")


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.booleans())
def test_however_a_file_grows_its_lines_are_counted_once(pieces: list[bytes], crash: bool) -> None:  # noqa: FBT001
    """Ingested after each piece, or planned and crashed at every other one: in the end all lines were before."""
    known: list[Segment] = []
    data = LONG
    for number, piece in enumerate([b"", *pieces]):
        data += piece
        segments, _ = plan(data, known)
        known += segments if crash and number % 2 else finish(segments, data)
    segments, _ = plan(data, known)
    known += finish(segments, data)
    assert plan(data, known) == ([], data.count(b"\n") + (not data.endswith(b"\n")))
    assert len({segment.source_id for segment in known}) == 1
