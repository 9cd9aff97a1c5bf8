"""Files whose header lines say how the others are read: in blocks, grown, compressed, and after a death."""

import datetime as dt
import functools
import gzip
import io
import pathlib
import random

import pytest
from ingesting import ingest_path

from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.events.formats.w3c import W3cFormat
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake import spans
from pathstats_pipeline.intake.choice import format_chooser
from pathstats_pipeline.intake.ingest import IngestReport, Intake
from pathstats_pipeline.intake.lines import open_source, read_blocks
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.intake.paths import count_paths
from pathstats_pipeline.intake.spans import parsed_span
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import open_warehouse

DAY = Window.of_day(dt.date(2026, 11, 20))
NOW = DAY.end
FIELDS = (
    b"#Fields: date time cs-method cs-uri-stem sc-status c-ip time-taken\r\n",
    b"#Fields: c-ip cs-uri-stem time-taken date time cs-method sc-status\r\n",
    b"#Fields: time cs-uri-stem cs-method c-ip\r\n",
)
HEADER = (
    b"#Software: Microsoft Internet Information Services 10.0\r\n#Version: 1.0\r\n#Date: 2026-11-20 00:00:00\r\n",
    b"#Software: another\r\n#Date: 2026-11-20 00:00:00\r\n",
)


def row(number: int) -> bytes:
    """A data line under the fields that hold there."""
    time = b"%02d:%02d:00" % (number // 20, number % 60)
    rows = (
        b"2026-11-20 %s GET /p/%d 200 10.0.0.1 %d\r\n" % (time, number, number),
        b"10.0.0.1 /p/%d %d.5 2026-11-20 %s GET 200\r\n" % (number, number, time),
        b"%s /p/%d GET 10.0.0.1\r\n" % (time, number),
    )
    return rows[number // 10 % 3]


def file_of(rows: int) -> bytes:
    """A file whose header lines come again every ten lines, and say something else each time."""
    pieces = []
    for number in range(rows):
        if number % 10 == 0:
            pieces += [HEADER[number // 10 % 2], FIELDS[number // 10 % 3]]
        pieces.append(row(number))
    return b"".join(pieces)


LOG = file_of(200)
HEADERS = LOG.count(b"#")


def intake(directory: pathlib.Path, *, finished: bool = False) -> Intake:
    """An intake into a directory."""
    landing = Landing(DirectoryObjects(directory / "landing"))
    return Intake(landing, DAY.start, NOW, format_chooser("auto", None), 25, finished)


def write(directory: pathlib.Path, data: bytes, name: str = "u_ex261120.log") -> pathlib.Path:
    """A log file."""
    path = directory / name
    path.write_bytes(data)
    return path


def reconciles(report: IngestReport, data: bytes) -> IngestReport:
    """Every line is accepted, rejected, a header, or was ingested before."""
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    assert report.accepted + report.rejected + report.headers + report.before + report.unfinished == lines
    assert report.lines == lines
    return report


def stored(directory: pathlib.Path) -> list[tuple[str, str, float | None]]:
    """What the warehouse holds: time, path and response time of the events, in order."""
    with open_warehouse(directory / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        assert load_hours(warehouse, intake(directory).landing, DAY, NOW).unreadable == ()
        assert warehouse._frame("SELECT count(*) AS n FROM pathstats.rejected_events")["n"].item() == 0
        events = warehouse.read_events(DAY, ["event_time", "path", "response_time_ms"])
    return sorted((str(time), path, taken) for time, path, taken in events.iter_rows())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, float | None]]:
    """What the file holds when it is read at once."""
    directory = tmp_path_factory.mktemp("whole")
    report = reconciles(ingest_path(write(directory, LOG), intake(directory)), LOG)
    assert (report.format_name, report.accepted, report.rejected, report.headers) == ("w3c", 200, 0, HEADERS)
    events = stored(directory)
    assert sorted({path for _, path, _ in events}) == sorted(f"/p/{number}" for number in range(200))
    return events


@pytest.mark.parametrize("seed", range(6))
def test_a_grown_file_is_read_by_the_headers_before(
    tmp_path: pathlib.Path, seed: int, expected: list[tuple[str, str, float | None]]
) -> None:
    """Ingested again and again while it grows, cut anywhere, also within a header: the events are the same."""
    rng = random.Random(seed)  # noqa: S311 - test data
    for end in [*sorted(rng.sample(range(1, len(LOG)), 5)), len(LOG)]:
        whole_end = LOG.rfind(b"\n", 0, end) + 1
        reconciles(ingest_path(write(tmp_path, LOG[:whole_end]), intake(tmp_path)), LOG[:whole_end] or b"\n")
    report = reconciles(ingest_path(write(tmp_path, LOG), intake(tmp_path)), LOG)

    assert report.before == 200 + HEADERS
    assert expected == stored(tmp_path)


def test_a_grown_file_may_be_compressed_by_then(
    tmp_path: pathlib.Path, expected: list[tuple[str, str, float | None]]
) -> None:
    """A rotated and packed file is read on behind the headers of its beginning."""
    cut = LOG.index(b"/p/137 ")
    cut = LOG.rindex(b"\n", 0, cut) + 1
    ingest_path(write(tmp_path, LOG[:cut]), intake(tmp_path))
    (tmp_path / "u_ex261120.log").unlink()
    report = ingest_path(write(tmp_path, gzip.compress(LOG), "u_ex261120.log.gz"), intake(tmp_path))

    assert (report.accepted, report.rejected, report.lines) == (63, 0, 200 + HEADERS)
    assert expected == stored(tmp_path)


@pytest.mark.parametrize("block_bytes", [60, 200, 1_000])
def test_a_header_holds_in_the_blocks_behind(block_bytes: int) -> None:
    """However a file is cut into blocks, each line is read by the last header before it."""
    form = detect(next(read_blocks(io.BytesIO(LOG))).lines)
    events, rejected, headers = 0, 0, 0
    for block in read_blocks(io.BytesIO(LOG), block_bytes):
        assert isinstance(form, W3cFormat)
        parsed = form.parse(block.lines)
        form = form.after(block.lines)
        events, rejected = events + parsed.events.height, rejected + parsed.rejected.height
        headers += parsed.headers.len()

    assert (events, rejected, headers) == (200, 0, HEADERS)


def test_a_span_knows_what_stands_before_it(tmp_path: pathlib.Path) -> None:
    """From any line on, a span gives the lines that it gives within the whole."""
    path = write(tmp_path, LOG)
    for start in (0, len(LOG) // 3, len(LOG) // 2):
        start_of_line = LOG.rfind(b"\n", 0, start) + 1
        with open_source(path) as stream:
            ((block, parsed),) = parsed_span(stream, start_of_line, len(LOG), W3cFormat())

        assert block.first_line_number == 1
        assert parsed.rejected.is_empty()
        assert parsed.events.height == LOG[start_of_line:].count(b"/p/")


def test_blocks_that_are_parsed_ahead_come_in_their_order(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own lines, read by the last header before it."""
    monkeypatch.setattr(spans, "read_blocks", functools.partial(read_blocks, block_bytes=200))
    with open_source(write(tmp_path, LOG)) as stream:
        found = list(parsed_span(stream, 0, len(LOG), W3cFormat()))

    lines = [block.lines.len() for block, _ in found]
    assert len(lines) > 10
    assert [block.first_line_number for block, _ in found] == [1 + sum(lines[:at]) for at in range(len(lines))]
    assert lines == [parsed.events.height + parsed.headers.len() for _, parsed in found]
    assert sum(parsed.events.height for _, parsed in found) == 200


def test_header_lines_alone_are_a_file_without_events(tmp_path: pathlib.Path) -> None:
    """IIS writes the header before the first request: nothing is rejected, and what comes later is read by it."""
    head = HEADER[0] + FIELDS[0]
    report = reconciles(ingest_path(write(tmp_path, head), intake(tmp_path)), head)
    assert (report.format_name, report.headers, report.rejected, report.loads) == ("w3c", 4, 0, 0)

    grown = reconciles(ingest_path(write(tmp_path, head + row(0)), intake(tmp_path)), head + row(0))
    assert (grown.accepted, grown.before) == (1, 4)


def test_paths_are_counted_over_the_whole_file(tmp_path: pathlib.Path) -> None:
    """`paths try` reads by headers, too."""
    counted = count_paths(write(tmp_path, LOG), format_chooser("auto", None))

    assert (counted.requests, counted.rejected_lines) == (200, 0)
