"""What tests of the intake share: a log of a day, an intake into a directory, and what the warehouse then holds."""

import datetime as dt
import pathlib
from collections.abc import Callable

from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.intake.choice import format_chooser
from pathstats_pipeline.intake.ingest import IngestReport, Intake, ingest_file
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import open_warehouse

DAY = Window.of_day(dt.date(2026, 11, 20))
NOW = DAY.end
FIRST = Window.of_day(dt.date(2020, 1, 1)).start
LOG = b"".join(
    b'10.0.0.%d - - [20/Nov/2026:%02d:%02d:00 +0000] "GET /p/%d HTTP/1.1" 200 %d "-" "curl/8"\n'
    % (number % 9, number // 20, number % 60, number, number)
    for number in range(200)
)
ALL_PATHS = sorted(f"/p/{number}" for number in range(200))


def intake(directory: pathlib.Path, load_rows: int = 1_000_000) -> Intake:
    """An intake into a directory."""
    return Intake(Landing(DirectoryObjects(directory / "landing")), FIRST, NOW, format_chooser("auto", None), load_rows)


def write(directory: pathlib.Path, data: bytes, name: str = "access.log") -> pathlib.Path:
    """A log file."""
    path = directory / name
    path.write_bytes(data)
    return path


def ingest_path(path: pathlib.Path, intake: Intake) -> IngestReport:
    """Ingest a file of this machine."""
    return ingest_file(PathLogFile(path), intake)


def stored(directory: pathlib.Path) -> tuple[list[str], list[bytes]]:
    """What the warehouse holds after loading twice: the paths of the events, and the rejected bytes, each sorted."""
    landing = intake(directory).landing
    with open_warehouse(directory / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        assert load_hours(warehouse, landing, DAY, NOW).unreadable == ()
        assert load_hours(warehouse, landing, DAY, NOW).appended == ()
        paths = warehouse.read_events(Window(FIRST, NOW + HOUR), ["path"])["path"]
        raw = warehouse._frame("SELECT raw FROM pathstats.rejected_events")["raw"]
    return sorted(paths), sorted(raw)


class Meanwhile(DirectoryObjects):
    """A directory that lets something happen to the log file right before the first load is published."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    def put(self, key: str, body: bytes) -> bool:
        """Create the object; when a segment is planned, let it happen."""
        done = super().put(key, body)
        if key.endswith("-planned.json"):
            type(self).happens()
        return done
