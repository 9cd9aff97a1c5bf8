"""Log files into the landing zone and the warehouse: every line once, whatever happens on the way."""

import datetime as dt
import gzip
import os
import pathlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable

import polars as pl
import pytest
from ingesting import ALL_PATHS, DAY, FIRST, LOG, NOW, Meanwhile, ingest_path, intake, stored, write

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import HOUR
from pathstats_pipeline.intake.choice import format_chooser
from pathstats_pipeline.intake.ingest import IngestReport, Intake
from pathstats_pipeline.intake.lines import SourceError
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects

SOME = b"".join(LOG.splitlines(keepends=True)[:60])
BAD = b"\xff not a log line\n\n"


def reconciles(report: IngestReport, data: bytes) -> IngestReport:
    """Every line is accepted, rejected, or was ingested before."""
    lines = data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))
    assert report.accepted + report.rejected + report.before == report.lines == lines
    return report


ALL_PATHS_OF_SOME = sorted(f"/p/{number}" for number in range(60))


def test_every_line_is_an_event_or_a_rejected_line(tmp_path: pathlib.Path) -> None:
    """Accepted lines land in their hours, rejected ones with their bytes; the counts add up."""
    data = BAD + LOG + BAD + LOG[:40]
    report = reconciles(ingest_path(write(tmp_path, data), intake(tmp_path)), data)
    assert (report.accepted, report.rejected, report.before, report.loads) == (200, 5, 0, 10)
    assert stored(tmp_path) == (
        ALL_PATHS,
        sorted([b"\xff not a log line", b"", LOG[:40]] + [b"\xff not a log line", b""]),  # noqa: RUF005
    )
    assert (report.first, report.last) == (DAY.start, DAY.start + 9 * HOUR + dt.timedelta(minutes=19))


def test_identical_lines_are_different_requests(tmp_path: pathlib.Path) -> None:
    """The same line twice in a file is two events."""
    line = LOG.splitlines(keepends=True)[0]
    assert reconciles(ingest_path(write(tmp_path, line * 3), intake(tmp_path)), line * 3).accepted == 3
    assert stored(tmp_path)[0] == ["/p/0"] * 3


@pytest.mark.parametrize(
    ("name", "pack"),
    [("access.log", bytes), ("access.log.1", bytes), ("access.log.2.gz", gzip.compress), ("x", gzip.compress)],
)
def test_the_same_file_adds_nothing(tmp_path: pathlib.Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    """A second time, rotated, or compressed: all of its lines were before."""
    data = BAD + LOG
    ingest_path(write(tmp_path, data), intake(tmp_path))
    (tmp_path / "access.log").unlink()
    report = reconciles(ingest_path(write(tmp_path, pack(data), name), intake(tmp_path)), data)
    assert (report.before, report.loads) == (202, 0)
    assert len(report.hours) == 10
    assert stored(tmp_path)[0] == ALL_PATHS


@pytest.mark.parametrize("cut", [1, 40, 91, 2_000, 9_000, len(LOG) - 1])
def test_a_grown_file_adds_what_is_new(tmp_path: pathlib.Path, cut: int) -> None:
    """Ingested while it was shorter, cut anywhere: in the end each request is there once."""
    ingest_path(write(tmp_path, LOG[:cut]), intake(tmp_path))
    reconciles(ingest_path(write(tmp_path, LOG), intake(tmp_path)), LOG)
    assert reconciles(ingest_path(write(tmp_path, LOG), intake(tmp_path)), LOG).before == 200
    assert stored(tmp_path)[0] == ALL_PATHS


def test_an_empty_file_is_nothing(tmp_path: pathlib.Path) -> None:
    """No lines, no loads, no error."""
    assert reconciles(ingest_path(write(tmp_path, b""), intake(tmp_path)), b"").loads == 0


def test_lines_with_a_wrong_clock_are_rejected(tmp_path: pathlib.Path) -> None:
    """Events before the first partition or more than a day ahead are kept as rejected lines, with the reason."""
    early, late = LOG[:90].replace(b"2026", b"1970"), LOG[:90].replace(b"2026", b"2099")
    data = LOG + early.split(b"\n")[0] + b"\n" + late.split(b"\n")[0] + b"\n"
    report = reconciles(ingest_path(write(tmp_path, data), intake(tmp_path)), data)
    assert report.reasons == {"before the first partition (2020-01-01)": 1, "more than a day in the future": 1}
    paths, rejected = stored(tmp_path)
    assert paths == ALL_PATHS
    assert len(rejected) == 2


def test_a_file_from_before_the_first_partition_is_refused(tmp_path: pathlib.Path) -> None:
    """When most of a file is too early a setting is wrong: one line says which, and nothing is published."""
    with pytest.raises(SourceError, match="set PATHSTATS_START_DATE=2015-11-20 or earlier"):
        ingest_path(write(tmp_path, LOG.replace(b"2026", b"2015")), intake(tmp_path))
    assert not (tmp_path / "landing").exists()


@pytest.mark.parametrize("data", [gzip.compress(LOG)[:-5], gzip.compress(LOG)[:900], LOG.decode().encode("utf-16")])
def test_a_file_that_cannot_be_read_to_its_end_publishes_nothing(tmp_path: pathlib.Path, data: bytes) -> None:
    """A cut or foreign file is told in one line that names it."""
    path = write(tmp_path, data)
    with pytest.raises(SourceError, match=r"access\.log"):
        ingest_path(path, intake(tmp_path))
    assert not (tmp_path / "landing" / "dt=2026-11-20").exists()


class DyingError(BaseException):
    """Stands for the death of the process."""


class Dying(DirectoryObjects):
    """A directory on which the process dies before or after one of its writes."""

    left = 0

    def _pass(self) -> None:
        type(self).left -= 1
        if type(self).left < 0:
            raise DyingError

    def put(self, key: str, body: bytes) -> bool:
        """Create the object, or die."""
        self._pass()
        done = super().put(key, body)
        self._pass()
        return done

    def put_file(self, key: str, path: pathlib.Path) -> bool:
        """Create the object, or die."""
        self._pass()
        done = super().put_file(key, path)
        self._pass()
        return done


def test_a_death_at_any_write_is_finished_by_the_next_run(tmp_path: pathlib.Path) -> None:
    """Wherever ingesting dies, and though the file grows until the next try: each line is there once."""
    data = BAD + SOME
    for number in range(1_000):
        directory = tmp_path / str(number)
        directory.mkdir()
        whole = intake(directory, load_rows=25)
        Dying.left = number
        dying = Intake(Landing(Dying(directory / "landing")), FIRST, NOW, whole.choose_format, 25)
        try:
            ingest_path(write(directory, data[:3_000]), dying)
        except DyingError:
            died = True
        else:
            died = False
        ingest_path(write(directory, data), whole)
        assert reconciles(ingest_path(write(directory, data), whole), data).before == 62
        if number % 4 == 0 or not died:
            paths, rejected = stored(directory)
            assert paths == ALL_PATHS_OF_SOME
            assert rejected[-1:] == [b"\xff not a log line"]
        if not died:
            break
    assert 10 < number < 999


INGEST = """
import os, pathlib, signal, sys
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.choice import format_chooser
from pathstats_pipeline.intake.ingest import Intake, ingest_file
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.duck import exclusive
import datetime as dt

class Dying(DirectoryObjects):
    left = int(sys.argv[2])

    def _create(self, key, write):
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._create(key, write)

root = pathlib.Path(sys.argv[1])
now = Window.of_day(dt.date(2026, 11, 21)).start
first = Window.of_day(dt.date(2020, 1, 1)).start
print("ready", flush=True)
sys.stdin.readline()
intake = Intake(Landing(Dying(root / "landing")), first, now, format_chooser("auto", None), 50)
with exclusive(root / "ingest.lock", timeout_seconds=60, what="the intake"):
    ingest_file(PathLogFile(root / "access.log"), intake)
"""


def _start(directory: pathlib.Path, dies_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INGEST, str(directory), str(dies_at)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_processes_lose_and_double_nothing(tmp_path: pathlib.Path) -> None:
    """Three processes in turn are killed with SIGKILL while they write; the next run finishes."""
    rng = random.Random(3)  # noqa: S311 - test data
    write(tmp_path, BAD + LOG)
    for _ in range(3):
        with _start(tmp_path, rng.randrange(2, 20)) as process:
            process.communicate("\n")
        assert process.returncode == -signal.SIGKILL
    reconciles(ingest_path(tmp_path / "access.log", intake(tmp_path, 50)), BAD + LOG)
    assert stored(tmp_path) == (ALL_PATHS, [b"", b"\xff not a log line"])


def test_two_processes_at_once_take_each_line_once(tmp_path: pathlib.Path) -> None:
    """Under the lock of the command, two processes that meet the same file publish it once."""
    write(tmp_path, BAD + LOG)
    processes = [_start(tmp_path, -1) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert stored(tmp_path) == (ALL_PATHS, [b"", b"\xff not a log line"])


def _meanwhile(directory: pathlib.Path, happens: Callable[[], object]) -> Intake:
    Meanwhile.happens = staticmethod(happens)
    return Intake(Landing(Meanwhile(directory / "landing")), FIRST, NOW, format_chooser("auto", None))


def test_growth_while_reading_is_for_the_next_run(tmp_path: pathlib.Path) -> None:
    """What is written after the survey is not read under the wrong identity; the next run takes it."""
    path = write(tmp_path, LOG[:9_000])
    report = ingest_path(path, _meanwhile(tmp_path, lambda: path.write_bytes(LOG)))
    reconciles(report, LOG[:9_000])
    reconciles(ingest_path(path, intake(tmp_path)), LOG)
    assert stored(tmp_path)[0] == ALL_PATHS


def test_a_rotation_while_reading_loses_no_line(tmp_path: pathlib.Path) -> None:
    """The file is renamed and another takes its name: it is told, and both are ingested by the next run."""
    path = write(tmp_path, LOG)
    other = LOG.replace(b"/p/", b"/q/")

    def rotate() -> None:
        path.rename(tmp_path / "access.log.1")
        path.write_bytes(other)

    with pytest.raises(SourceError, match="was replaced while it was read"):
        ingest_path(path, _meanwhile(tmp_path, rotate))
    for name in ("access.log", "access.log.1"):
        ingest_path(tmp_path / name, intake(tmp_path))
    assert stored(tmp_path)[0] == sorted([*ALL_PATHS, *(path.replace("/p/", "/q/") for path in ALL_PATHS)])


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path: pathlib.Path) -> None:
    """A file that shrinks is an error in one line, and neither read forever nor recorded as done."""
    path = write(tmp_path, LOG[:9_000])
    ingest_path(path, intake(tmp_path))
    path.write_bytes(LOG)
    for size in (0, 5_000, 12_000):
        with pytest.raises(SourceError, match="was cut short while it was read"):
            ingest_path(path, _meanwhile(tmp_path, lambda size=size: os.truncate(path, size)))  # type: ignore[misc]
        path.write_bytes(LOG)
    ingest_path(path, intake(tmp_path))
    assert stored(tmp_path)[0] == ALL_PATHS


def test_loads_are_what_their_names_say(tmp_path: pathlib.Path) -> None:
    """Each load holds events of its own hour only, in the event schema."""
    ingest_path(write(tmp_path, LOG), intake(tmp_path, 30))
    landing = intake(tmp_path).landing
    for hour in landing.hours(DAY.start.date()):
        for file in landing.files(hour):
            assert isinstance(file.load, Load)
            with landing.local_copy(file) as path:
                times = pl.read_parquet(path)["event_time"]
            assert (times.dt.truncate("1h") == hour).all()
