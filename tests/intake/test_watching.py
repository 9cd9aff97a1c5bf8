"""Following a place: each line once, whatever happens to the files; what didn't change isn't read."""

import contextlib
import dataclasses
import datetime as dt
import gzip
import os
import pathlib
import random
from collections.abc import Callable, Iterator

import pytest
from conftest import new_bucket, s3_client_of
from ingesting import ALL_PATHS, LOG, NOW, intake, stored

from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake import watching
from pathstats_pipeline.intake.ingest import IngestReport, Intake, ingest_file
from pathstats_pipeline.intake.logfiles import LogFile
from pathstats_pipeline.intake.places import Directory, Found, Place, Prefix
from pathstats_pipeline.intake.records import SourceRecords
from pathstats_pipeline.intake.watching import PassReport, Watcher
from pathstats_pipeline.storage.duck import Turn, WarehouseError, in_turn
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import DirectoryObjects, ObjectsError, S3Objects

MINUTE = dt.timedelta(minutes=1)
OTHER = LOG.replace(b"/p/", b"/q/")
OTHER_PATHS = sorted(path.replace("/p/", "/q/") for path in ALL_PATHS)
CUT = LOG.index(b"\n", 9_000) + 1


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = naive_utc(dt.datetime.now(dt.UTC))

    def __call__(self) -> dt.datetime:
        """The time."""
        return self.now


class NeverStop:
    """Nobody asks to stop, and nobody waits."""

    def asked(self) -> bool:
        """No."""
        return False

    def wait(self, _seconds: float) -> bool:
        """No."""
        return False


def alone() -> contextlib.AbstractContextManager[Turn]:
    """A lock that somebody else has just had."""
    return contextlib.nullcontext(Turn("", "another's"))


@dataclasses.dataclass
class Scene:
    """A directory that is followed, and what the watcher opened."""

    root: pathlib.Path
    clock: Clock
    opened: list[str]

    @property
    def logs(self) -> pathlib.Path:
        """The directory."""
        return self.root / "logs"

    def watcher(self, place: Place | None = None, into: Intake | None = None) -> Watcher:
        """A watcher that knows nothing yet."""
        place = place or Directory(self.logs)
        return Watcher(place, into or self.intake(), alone, self.clock, NeverStop())

    def intake(self) -> Intake:
        """An intake to which the events of the log are in the past, whatever the clock says."""
        return dataclasses.replace(intake(self.root), now=max(NOW, self.clock.now))

    def write(self, name: str, data: bytes, age: dt.timedelta = dt.timedelta()) -> pathlib.Path:
        """A file that was written to a while ago."""
        path = self.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        seconds = (self.clock.now - age).replace(tzinfo=dt.UTC).timestamp()
        os.utime(path, (seconds, seconds))
        return path


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """An empty directory."""
    opened: list[str] = []

    def spying(log_file: LogFile, into: Intake, records: SourceRecords) -> IngestReport:
        opened.append(pathlib.Path(log_file.name).name)
        return ingest_file(log_file, into, records)

    monkeypatch.setattr(watching, "ingest_file", spying)
    (tmp_path / "logs").mkdir()
    return Scene(tmp_path, Clock(), opened)


def told(watcher: Watcher) -> tuple[int, int, list[str]]:
    """A pass: files, accepted lines, problems."""
    report = watcher.look()
    return report.files, report.accepted, report.told


def test_what_is_dropped_is_ingested_and_not_read_again(scene: Scene) -> None:
    """Not by later passes while nothing changes; by a new watcher once, and it adds nothing."""
    scene.write("a.log", LOG)
    scene.write("x/b.log.gz", gzip.compress(OTHER))
    watcher = scene.watcher()
    assert told(watcher) == (2, 400, [])
    assert watcher.look() == PassReport()
    assert told(scene.watcher()) == (0, 0, [])
    assert sorted(scene.opened) == ["a.log", "a.log", "b.log.gz", "b.log.gz"]
    assert stored(scene.root)[0] == ALL_PATHS + OTHER_PATHS


def test_growing_files_are_ingested_line_by_line(scene: Scene) -> None:
    """Whole lines as they come; the half last line when it is whole, also where a watcher died in between."""
    rng = random.Random(5)  # noqa: S311 - test data
    watcher, accepted, end = scene.watcher(), 0, 0
    while end < len(LOG):
        end = min(end + rng.randrange(1, 3_000), len(LOG))
        scene.write("a.log", LOG[:end])
        watcher = scene.watcher() if rng.random() < 0.3 else watcher
        accepted += watcher.look().accepted
        assert accepted == LOG[:end].count(b"\n")
    assert stored(scene.root)[0] == ALL_PATHS


def test_half_a_line_is_a_line_once_nobody_writes(scene: Scene) -> None:
    """It isn't read over and over until then."""
    scene.write("a.log", LOG[:-1])
    watcher = scene.watcher()
    assert watcher.look().unfinished == 1
    assert told(watcher) == (0, 0, [])
    scene.clock.now += 1.1 * MINUTE
    assert told(watcher) == (1, 1, [])
    scene.clock.now += 60 * MINUTE
    assert told(watcher) == (0, 0, [])
    assert scene.opened == ["a.log"] * 2


def test_rotation_and_compression_add_nothing(scene: Scene) -> None:
    """Renamed with a new file in its place, then compressed: each line once, by one watcher and by the next."""
    log = scene.write("access.log", LOG[:CUT])
    watcher = scene.watcher()
    watcher.look()
    with log.open("ab") as writer:
        log = log.rename(scene.logs / "access.log.1")
        scene.write("access.log", OTHER)
        watcher.look()
        writer.write(LOG[CUT:])
    watcher.look()
    (scene.logs / "access.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    for each in (watcher, scene.watcher()):
        assert told(each) == (0, 0, [])
    assert stored(scene.root)[0] == ALL_PATHS + OTHER_PATHS


def test_a_log_that_is_copied_and_truncated_adds_nothing(scene: Scene) -> None:
    """The copy is known by its bytes, and what is then written is another log."""
    log = scene.write("access.log", LOG)
    watcher = scene.watcher()
    watcher.look()
    scene.write("access.log.1", log.read_bytes())
    scene.write("access.log", b"")
    assert told(watcher) == (0, 0, [])
    scene.write("access.log", OTHER)
    assert told(watcher) == (1, 200, [])
    assert stored(scene.root)[0] == ALL_PATHS + OTHER_PATHS


def test_short_files_are_known_after_they_were_renamed(scene: Scene) -> None:
    """Too short to be told by their bytes: the inode tells."""
    log = scene.write("access.log", LOG[: LOG.index(b"\n", 300) + 1])
    scene.watcher().look()
    log.rename(scene.logs / "access.log.1")
    assert told(scene.watcher()) == (0, 0, [])


def test_a_file_that_cannot_be_read_stops_no_other_and_is_told_once(scene: Scene) -> None:
    """It is tried again when it changes, and after ever longer times when it doesn't."""
    scene.write("a.gz", gzip.compress(LOG)[:-5], age=60 * MINUTE)
    scene.write("b.log", OTHER)
    watcher = scene.watcher()
    files, accepted, [problem] = told(watcher)
    assert (files, accepted) == (1, 200)
    assert problem.startswith(f"{scene.logs / 'a.gz'}: damaged or cut short")
    assert told(watcher) == (0, 0, [])
    assert watcher.look().unread == 1
    scene.clock.now += 1.1 * MINUTE
    assert told(watcher) == (0, 0, [])
    scene.clock.now += 1.1 * MINUTE
    assert told(watcher) == (0, 0, [])
    assert scene.opened.count("a.gz") == 2
    scene.write("a.gz", gzip.compress(LOG), age=59 * MINUTE)
    assert told(watcher) == (1, 200, [])
    assert watcher.look() == PassReport()


def test_a_compressed_file_that_is_still_written_is_no_problem(scene: Scene) -> None:
    """Cut short a moment ago it may become whole; a minute later it is told."""
    packed = gzip.compress(LOG)
    watcher = scene.watcher()
    for end in (100, 1_000):
        scene.write("a.gz", packed[:end])
        assert told(watcher) == (0, 0, [])
    scene.clock.now += 1.1 * MINUTE
    assert len(watcher.look().told) == 1
    scene.write("a.gz", packed)
    assert told(watcher) == (1, 200, [])


def test_a_file_that_vanishes_is_no_problem(scene: Scene) -> None:
    """Between listing and reading; others are ingested."""
    gone = scene.write("a.log", LOG)
    scene.write("b.log", OTHER)

    class Vanishing(Directory):
        def log_file(self, name: str) -> LogFile:
            gone.unlink(missing_ok=True)
            return super().log_file(name)

    assert told(scene.watcher(Vanishing(scene.logs))) == (1, 200, [])


def test_a_directory_may_come_and_go(scene: Scene) -> None:
    """It is told once each time that it isn't there, and the watcher goes on."""
    watcher = scene.watcher()
    scene.logs.rmdir()
    problem = f"{scene.logs}: there is no such directory; waiting for it"
    assert [told(watcher) for _ in range(2)] == [(0, 0, [problem]), (0, 0, [])]
    scene.write("a.log", LOG)
    assert told(watcher) == (1, 200, [])
    scene.logs.rename(scene.root / "away")
    assert [told(watcher) for _ in range(2)] == [(0, 0, [problem]), (0, 0, [])]
    (scene.root / "away").rename(scene.logs)
    assert told(watcher) == (0, 0, [])


def test_what_cannot_be_listed_is_not_forgotten(scene: Scene) -> None:
    """After a failure in the middle of the listing, what didn't change isn't read again."""

    class Failing(Directory):
        fails = False

        def find(self) -> Iterator[Found]:
            if Failing.fails:
                yield Found("part", problem="no answer")
                return
            yield from super().find()

    scene.write("a.log", LOG)
    watcher = scene.watcher(Failing(scene.logs))
    watcher.look()
    Failing.fails = True
    assert [told(watcher) for _ in range(2)] == [(0, 0, ["no answer"]), (0, 0, [])]
    Failing.fails = False
    assert told(watcher) == (0, 0, [])
    assert scene.opened == ["a.log"]


def test_a_landing_zone_that_fails_is_told_once_and_the_pass_is_made_up_for(scene: Scene) -> None:
    """The watcher goes on, and no line is lost with it."""

    class Full(DirectoryObjects):
        full = True

        def put_file(self, key: str, path: pathlib.Path) -> bool:
            if Full.full:
                raise ObjectsError(f"cannot write {key}: No space left on device")
            return super().put_file(key, path)

    scene.write("a.log", LOG)
    scene.write("b.log", OTHER)
    into = dataclasses.replace(scene.intake(), landing=Landing(Full(scene.root / "landing")))
    watcher = scene.watcher(into=into)
    files, _, [problem] = told(watcher)
    assert (files, problem.startswith("cannot ingest: cannot write dt=2026-11-20/")) == (0, True)
    assert told(watcher) == (0, 0, [])
    Full.full = False
    assert told(watcher) == (2, 400, [])
    assert stored(scene.root)[0] == ALL_PATHS + OTHER_PATHS


def test_a_stop_is_heard_after_the_file_in_hand(scene: Scene) -> None:
    """The next watcher goes on with the other files."""

    class StopAfterOne(NeverStop):
        def asked(self) -> bool:
            return bool(scene.opened)

    for name in ("a.log", "b.log", "c.log"):
        scene.write(name, LOG.replace(b"/p/", b"/%s/" % name.encode()))
    stopping = Watcher(Directory(scene.logs), scene.intake(), alone, scene.clock, StopAfterOne())
    assert told(stopping) == (1, 200, [])
    assert told(scene.watcher()) == (2, 400, [])


def test_a_lock_that_others_hold_is_waited_for_between_looks_at_the_stop(scene: Scene) -> None:
    """Nothing is ingested without it, and a signal isn't left waiting for it."""
    tries: list[int] = []

    @contextlib.contextmanager
    def lock() -> Iterator[Turn]:
        tries.append(1)
        if len(tries) < 3:
            raise WarehouseError("in use")
        yield Turn("", "")

    class StopAtSome(NeverStop):
        def __init__(self, count: int) -> None:
            self.count = count

        def asked(self) -> bool:
            return len(tries) >= self.count

    scene.write("a.log", LOG)
    found = []
    for count in (2, 9):
        watcher = Watcher(Directory(scene.logs), scene.intake(), lock, scene.clock, StopAtSome(count))
        found.append(told(watcher))
    assert found == [(0, 0, []), (1, 200, [])]


def test_a_long_pass_tells_in_between(scene: Scene) -> None:
    """After a minute it ends, with more to do; the next one goes on with what is left."""
    for name in ("a.log", "b.log", "c.log"):
        scene.write(name, LOG.replace(b"/p/", b"/%s/" % name.encode()))

    class Slow(Directory):
        def log_file(self, name: str) -> LogFile:
            scene.clock.now += 0.6 * MINUTE
            return super().log_file(name)

    watcher = scene.watcher(Slow(scene.logs))
    reports = [watcher.look() for _ in range(3)]
    assert [(report.files, report.more) for report in reports] == [(2, True), (1, False), (0, False)]


def test_records_are_listed_when_others_may_have_written_some(scene: Scene) -> None:
    """Not while this watcher is the only one that has the lock; in any case after some minutes."""
    listed: list[str] = []

    class Listing(DirectoryObjects):
        def list(self, prefix: str) -> list[str]:
            listed.append(prefix)
            return super().list(prefix)

    def lock() -> contextlib.AbstractContextManager[Turn]:
        return in_turn(scene.root / "lock", timeout_seconds=1, what="the intake")

    into = dataclasses.replace(scene.intake(), landing=Landing(Listing(scene.root / "landing")))
    watcher = Watcher(Directory(scene.logs), into, lock, scene.clock, NeverStop())
    counts = []
    for number in range(6):
        scene.write("a.log", LOG[: CUT - 900 * (6 - number)])
        if number == 2:
            with lock():
                pass
        if number == 4:
            scene.clock.now += 6 * MINUTE
        watcher.look()
        counts.append(len(listed))
    assert counts == [1, 1, 2, 2, 3, 3]


@pytest.fixture
def bucket(s3_server: LocalS3) -> S3Objects:
    """An empty bucket on the real S3 server, as a whole."""
    return S3Objects(s3_client_of(s3_server), new_bucket(s3_server))


def test_a_prefix_is_followed(scene: Scene, bucket: S3Objects) -> None:
    """An object that is put again longer has grown; with other bytes it is another log; compressed it is the same."""
    put: Callable[[str, bytes], object] = lambda key, data: bucket.client.put_object(  # noqa: E731 - a short word
        Bucket=bucket.bucket, Key=key, Body=data
    )
    watcher = scene.watcher(Prefix(bucket, "logs/"))
    assert told(watcher) == (0, 0, [])
    put("logs/a.log", LOG[:CUT])
    put("elsewhere/b.log", OTHER)
    assert told(watcher) == (1, LOG[:CUT].count(b"\n"), [])
    put("logs/a.log", LOG)
    assert told(watcher) == (1, LOG[CUT:].count(b"\n"), [])
    assert told(watcher) == (0, 0, [])
    put("logs/a.log", OTHER)
    assert told(watcher) == (1, 200, [])
    put("logs/2026/a.log.gz", gzip.compress(LOG))
    assert told(watcher) == (0, 0, [])
    assert scene.opened == ["a.log"] * 3 + ["a.log.gz"]
    assert stored(scene.root)[0] == ALL_PATHS + OTHER_PATHS


def test_an_object_that_is_gone_before_it_is_read_is_no_problem(scene: Scene, bucket: S3Objects) -> None:
    """Lifecycle rules delete; others are ingested."""
    bucket.put("a.log", LOG)
    bucket.put("b.log", OTHER)

    class Vanishing(Prefix):
        def log_file(self, name: str) -> LogFile:
            bucket.delete("a.log")
            return super().log_file(name)

    assert told(scene.watcher(Vanishing(bucket))) == (1, 200, [])
