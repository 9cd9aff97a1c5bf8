"""A small world for the tests of the archive: a day's events, a real warehouse, a landing zone, and the oracle.

The oracle knows every event that was ever accepted; `assert_invariants` is what the contract promises after every
step and every crash.
"""

import base64
import collections
import contextlib
import dataclasses
import datetime as dt
import pathlib
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence

import duckdb
import polars as pl
import pyarrow as pa

from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.cleanup import CleanedDay, clean_day, plan_cleanup
from pathstats_pipeline.archive.day import Archiver, archived_events, verified_manifests
from pathstats_pipeline.archive.history import events_of, tally_of
from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_lines
from pathstats_pipeline.archive.keys import object_key
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.archive.publish import Lines
from pathstats_pipeline.archive.strategy import MIN_PART_BYTES, SizeRule, Strategy
from pathstats_pipeline.archive.verify import ObjectFacts
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.loading import LoadedHours, load_hours
from pathstats_pipeline.stats.hourly import EVENT_INPUT, path_statistics
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import ArchiveObjects, DirectoryObjects
from pathstats_pipeline.storage.tables import TABLES
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

DAY = dt.date(2026, 11, 20)
WINDOW = Window.of_day(DAY)
NOW = Window.of_day(dt.date(2026, 11, 25)).start
RETENTION = Retention(hot_days=3)
CLAIMANT = Claimant("host:/warehouse.duckdb")
SMALL = SizeRule()
PARTS = SizeRule(multipart_mb=0)


@dataclasses.dataclass(frozen=True)
class PartsOf(SizeRule):
    """Multipart, with parts of one size, whatever is estimated."""

    multipart_mb: float = 0.0
    size_bytes: int = MIN_PART_BYTES

    def part_bytes(self, rows: int) -> int:  # noqa: ARG002
        """The size."""
        return self.size_bytes


PARTS_OF_FIVE_MIB = PartsOf()
"""The smallest parts that S3 takes."""
BATCH_ROWS = 7
"""Small, so that a load takes several transactions to delete."""


def hour_of(number: int) -> dt.datetime:
    """The start of an hour of the day."""
    return WINDOW.start + dt.timedelta(hours=number)


def events(load: Load, rows: int, seed: int = 0, width: int = 0) -> pl.DataFrame:
    """So many different events of a load's hour, some of their columns NULL; `width` bytes can't be compressed."""
    rng = random.Random(f"{load}{seed}")  # noqa: S311 - test data
    return pl.DataFrame(
        [
            {
                "event_id": f"{load.load_id}-{seed}-{number}",
                "event_time": load.hour + dt.timedelta(microseconds=rng.randrange(3_600_000_000)),
                "host": rng.choice([None, "example.org"]),
                "method": rng.choice(["GET", "POST"]),
                "path": rng.choice(["/", "/a/1", "/ü\u2028\x00", '"\\']),
                "status": rng.choice([200, 404, None]),
                "response_time_ms": rng.choice([None, rng.random() * 1000]),
                "bytes_sent": rng.choice([None, 2**53 + 1, rng.randrange(10**6)]),
                "client_ip": f"10.0.0.{rng.randrange(9)}",
                "user_agent": base64.b64encode(rng.randbytes(width * 3 // 4)).decode()
                if width
                else rng.choice([None, "curl/8"]),
            }
            for number in range(rows)
        ],
        schema=EVENT_SCHEMA,
    )


def manifest_of(facts: ObjectFacts, *loads: Load, generation: int = 1, date: dt.date = DAY) -> Manifest:
    """The manifest that an object with these facts would have."""
    return Manifest(
        date=date,
        generation=generation,
        key=object_key(date, generation, facts.digest),
        strategy=Strategy.SINGLE_PUT,
        size_bytes=facts.size_bytes,
        raw_bytes=facts.raw_bytes,
        sha256=facts.sha256,
        digest=facts.digest,
        first_event_time=hour_of(5),
        last_event_time=hour_of(6),
        loads=loads,
        archived_at=NOW,
        verified_at=NOW,
        software_version="0.0-test",
    )


def lines_of(frames: Sequence[pl.DataFrame]) -> collections.Counter[str]:
    """The multiset of events, each as its JSON line."""
    return collections.Counter(line for frame in frames for line in to_lines(frame.select(EVENT_NAMES)))


def ended_lines(frames: Iterable[pl.DataFrame]) -> Iterator[Lines]:
    r"""The events as lines with their `\n`, in batches of one hour, as the warehouse hands them over."""
    for frame in frames:
        by_hour = frame.group_by(pl.col("event_time").dt.truncate("1h"), maintain_order=True)
        for (hour,), batch in by_hour:
            lines = pa.array([f"{line}\n" for line in to_lines(batch)], pa.large_string())
            yield hour, lines.cast(pa.string_view())


@dataclasses.dataclass
class World:
    """One day in the warehouse, the landing zone and the archive, and what the oracle knows of it."""

    warehouse: Warehouse
    landing: Landing
    objects: ArchiveObjects
    accepted: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    published: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def bring(self, hour: int, load_id: str, rows: int, seed: int = 0, width: int = 0) -> Load:
        """A load lands and is appended."""
        load = Load(hour_of(hour), load_id)
        frame = events(load, rows, seed, width)
        self.landing.publish(load, frame)
        none: pl.DataFrame = pl.DataFrame()
        self.warehouse.append_load(load, [(frame, none)], lambda part: digest_of(to_lines(part)), NOW)
        self.accepted += lines_of([frame])
        return load

    def load(self) -> LoadedHours:
        """What landed is loaded, as `raw_events` does it."""
        return load_hours(self.warehouse, self.landing, WINDOW, NOW, lambda: self.objects)

    def bring_again(self, known: Load, rows: int, load_id: str) -> LoadFacts:
        """The ids of a load come once more, with another payload: nothing is taken of those that are there."""
        frame = events(known, rows).with_columns(status=pl.lit(418, pl.Int16()))
        load = Load(known.hour, load_id)
        self.landing.publish(load, frame)
        chunks = [(frame, pl.DataFrame())]
        return self.warehouse.append_load(load, chunks, lambda part: digest_of(to_lines(part)), NOW)

    def build_statistics(self, window: Window = WINDOW) -> pl.DataFrame:
        """The hours' statistics are built, wherever their events are."""
        rows = path_statistics(tally_of(self.warehouse, window, EVENT_INPUT, lambda: self.objects))
        self.warehouse.replace_hourly(window, rows, NOW)
        return rows

    def archive(self, rule: SizeRule = SMALL) -> list[Manifest]:
        """The day is archived."""
        return self.archiver(rule).archive(DAY)

    def archiver(self, rule: SizeRule = SMALL, claimant: Claimant = CLAIMANT) -> Archiver:
        """What archives days of this world."""
        return Archiver(self.warehouse, self.objects, rule, lambda: NOW, "0.0-test", claimant)

    def clean(self, batch_rows: int = BATCH_ROWS) -> CleanedDay:
        """The day is cleaned up."""
        verdict = plan_cleanup(self.warehouse, self.objects, DAY, NOW, RETENTION)
        return clean_day(self.warehouse, self.objects, self.landing, verdict, DAY, batch_rows, lambda: NOW)

    def hot(self) -> collections.Counter[str]:
        """Events in the warehouse."""
        return lines_of([self.warehouse.read_events(WINDOW, EVENT_NAMES)])

    def archived(self) -> collections.Counter[str]:
        """Events in archives that were read back and verified just now."""
        return lines_of(list(archived_events(self.objects, verified_manifests(self.objects, DAY))))

    def assert_nothing_lost(self, accepted: Digest, *, cleaned: bool = False) -> None:
        """Invariants 1 and 2 by their digests alone: quick enough to be asked after each of hundreds of kills."""
        ledger = self.warehouse.loads(WINDOW)
        manifests = verified_manifests(self.objects, DAY)
        hot = sum(
            map(digest_of, map(to_lines, self.warehouse.stream_loads([each.load for each in ledger], 5_000))), Digest()
        )
        archived = sum((manifest.digest for manifest in manifests), Digest())
        if cleaned:
            assert hot + archived == accepted, "1: after clean-up, an event is in exactly one of them"
        elif any(facts.deleted_rows for facts in ledger):
            assert archived == accepted, "2: a row is gone that no verified manifest covers"
        else:
            assert hot == accepted, "1: an event is lost or made up"

    def assert_invariants(self, *, cleaned: bool = False) -> None:
        """The contract's invariants 1 to 5, against what the oracle knows."""
        hot, archived = self.hot(), self.archived()
        assert hot | archived == self.accepted, "1: an event is lost or made up"
        assert max(archived.values(), default=1) == 1, "1: an event is in two generations"
        if cleaned:
            assert hot + archived == self.accepted, "1: after clean-up, an event is in exactly one of them"
        assert self.accepted - hot <= archived, "2: a row is gone that no verified manifest covers"
        found = {key: self.objects.get(key) or b"" for key in self.objects.list("")}
        assert self.published.items() <= found.items(), "3: a published object or manifest changed"
        self.published = found
        at_once = path_statistics(events_of(self.warehouse, WINDOW, EVENT_INPUT, lambda: self.objects))
        in_batches = path_statistics(tally_of(self.warehouse, WINDOW, EVENT_INPUT, lambda: self.objects))
        assert in_batches.equals(at_once), "5: a tally is of other events"
        everything = events_of(self.warehouse, WINDOW, EVENT_NAMES, lambda: self.objects)
        assert lines_of([everything]) == self.accepted, "5: statistics would be built from other events"


@contextlib.contextmanager
def world(directory: pathlib.Path, objects: ArchiveObjects) -> Iterator[World]:
    """A world in a directory: empty, or what an earlier process left there."""
    landing = Landing(DirectoryObjects(directory / "landing"))
    with open_warehouse(directory / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        yield World(warehouse, landing, objects)


@contextlib.contextmanager
def worlds_in_memory(prepared: pathlib.Path) -> Iterator[Callable[[pathlib.Path, ArchiveObjects], World]]:
    """Makes worlds one after another in one database in memory, each with the tables of a prepared one and no others.

    For tests of hundreds of worlds that ask what happens to rows: opening a file, and its syncs, cost more than that.
    """
    with open_warehouse(prepared / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        tables = {name: warehouse._run(f"FROM pathstats.{name}").to_arrow_table() for name in TABLES}
    # Between two threads, the rows of a few dozen events cost their hand-over and nothing else. What an archive's small
    # memory spills would go to a folder that all processes of a working directory share, and remove each other's files.
    with (
        tempfile.TemporaryDirectory() as spilled,
        duckdb.connect(config={"threads": 1, "temp_directory": spilled}) as connection,
    ):
        connection.execute("SET arrow_output_version = '1.4'; SET produce_arrow_string_view = true")
        warehouse = Warehouse(connection)

        def fresh(directory: pathlib.Path, objects: ArchiveObjects) -> World:
            connection.execute("DROP SCHEMA IF EXISTS pathstats CASCADE")
            warehouse.create_missing()
            for name, rows in tables.items():
                if rows.num_rows:
                    connection.register("kept", rows)
                    connection.execute(f"INSERT INTO pathstats.{name} FROM kept")
                    connection.unregister("kept")
            return World(warehouse, Landing(DirectoryObjects(directory / "landing")), objects)

        yield fresh
