"""The warehouse, on the real DuckDB file: its tables, loads that are whole or not there, and its lock."""

import datetime as dt
import os
import pathlib
import secrets
import subprocess
import sys
from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_lines
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.stats.hourly import path_statistics
from pathstats_pipeline.stats.rollup import daily_statistics
from pathstats_pipeline.storage.duck import Turn, WarehouseError, exclusive, in_turn, open_connection
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

DAY = Window.of_day(dt.date(2026, 11, 20))
FIVE = DAY.start + 5 * HOUR
NOW = DAY.end
REFUSED = pl.DataFrame({"line_number": [3], "raw": [b"\xff\0"], "reason": ["not JSON"], "source": ["x.jsonl"]})
NOTHING = REFUSED.clear()

MEASURES = [
    *((name, "BIGINT") for name in ["requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "bytes_sent"]),
    ("response_time_ms_count", "BIGINT"),
    *((f"response_time_ms_{name}", "DOUBLE") for name in ["sum", "min", "max", "p50", "p90", "p95", "p99"]),
    ("unique_ips", "BIGINT"),
    ("latency_sketch", "BLOB"),
    ("visitors_sketch", "BLOB"),
    ("revision", "BIGINT"),
    ("computed_at", "TIMESTAMP"),
]
CONTRACT = {
    "traffic_events": [
        ("event_id", "VARCHAR"),
        ("event_time", "TIMESTAMP"),
        ("host", "VARCHAR"),
        ("method", "VARCHAR"),
        ("path", "VARCHAR"),
        ("status", "SMALLINT"),
        ("response_time_ms", "DOUBLE"),
        ("bytes_sent", "BIGINT"),
        ("client_ip", "VARCHAR"),
        ("user_agent", "VARCHAR"),
        ("load_id", "VARCHAR"),
    ],
    "rejected_events": [
        ("load_id", "VARCHAR"),
        ("source", "VARCHAR"),
        ("line_number", "BIGINT"),
        ("raw", "BLOB"),
        ("reason", "VARCHAR"),
        ("rejected_at", "TIMESTAMP"),
    ],
    "path_stats_hourly": [("hour", "TIMESTAMP"), ("path", "VARCHAR"), ("method", "VARCHAR"), *MEASURES],
    "path_stats_daily": [("day", "DATE"), ("path", "VARCHAR"), ("method", "VARCHAR"), *MEASURES],
}


def events(*ids: str, hour: dt.datetime = FIVE, path: str = "/a") -> pl.DataFrame:
    """Events that differ in nothing but their ids."""
    row = {"event_time": hour, "host": "h", "method": "GET", "path": path, "status": 200, "response_time_ms": 1.5}
    return pl.DataFrame([{**row, "event_id": event_id, "client_ip": "::1"} for event_id in ids], EVENT_SCHEMA)


def append(warehouse: Warehouse, load_id: str, *chunks: pl.DataFrame, hour: dt.datetime = FIVE) -> LoadFacts:
    """Append a load of these chunks."""
    pairs = [(chunk, NOTHING) for chunk in chunks]
    return warehouse.append_load(Load(hour, load_id), pairs, lambda frame: digest_of(to_lines(frame)), NOW)


def ids(warehouse: Warehouse) -> list[str]:
    """The ids of all events, sorted."""
    return sorted(warehouse.read_events(DAY, ["event_id"])["event_id"])


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where the warehouse is."""
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def warehouse(path: pathlib.Path) -> Iterator[Warehouse]:
    """An empty warehouse."""
    with open_warehouse(path, lock_timeout_seconds=5) as opened:
        yield opened


def test_tables_are_the_contracts(warehouse: Warehouse, path: pathlib.Path) -> None:
    """Dashboards find the tables with the names, types and order that the contract gives."""
    warehouse.create_missing()
    for table, columns in CONTRACT.items():
        found = warehouse._run(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'pathstats' AND table_name = ? ORDER BY ordinal_position",
            [table],
        ).fetchall()
        assert found == columns
    assert path.exists()


def test_a_load_is_appended_with_its_facts(warehouse: Warehouse) -> None:
    """The ledger holds rows, duplicates, rejected, digest and times of a load."""
    chunks = [(events("a", "b"), REFUSED), (events("b", "c"), NOTHING)]
    facts = warehouse.append_load(Load(FIVE, "x"), chunks, lambda frame: digest_of(to_lines(frame)), NOW)
    digest = digest_of(to_lines(events("c", "b", "a")))
    assert facts == LoadFacts(Load(FIVE, "x"), 3, 1, 1, digest.hex, FIVE, FIVE, 0)
    assert warehouse.loads(DAY) == [facts]
    assert ids(warehouse) == ["a", "b", "c"]
    assert warehouse.rejected_lines(DAY) == 1
    [(raw, reason, load_id)] = warehouse._run("SELECT raw, reason, load_id FROM pathstats.rejected_events").fetchall()
    assert (raw, reason, load_id) == (b"\xff\0", "not JSON", "x")


def test_a_load_that_fails_in_the_middle_leaves_nothing(warehouse: Warehouse) -> None:
    """An error after the first chunks takes them back, the ledger row and the rejected lines as well."""

    def chunks() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        yield events("a"), REFUSED
        yield events("b"), NOTHING
        raise LookupError("torn")

    with pytest.raises(LookupError, match="torn"):
        warehouse.append_load(Load(FIVE, "x"), chunks(), lambda frame: digest_of(to_lines(frame)), NOW)
    assert ids(warehouse) == []
    assert warehouse.known_loads(DAY) == set()
    assert warehouse._run("SELECT count(*) FROM pathstats.rejected_events").fetchall() == [(0,)]
    assert append(warehouse, "x", events("a")).rows == 1


def test_ids_are_unique_within_an_hour(warehouse: Warehouse) -> None:
    """An id that the hour holds already is a duplicate, from any load; in another hour it is another event."""
    append(warehouse, "one", events("a", "b"))
    again = append(warehouse, "two", events("b", "c"), events("c"))
    assert (again.rows, again.duplicates) == (1, 2)
    other = append(warehouse, "one", events("a", hour=FIVE + HOUR), hour=FIVE + HOUR)
    assert (other.rows, other.duplicates) == (1, 0)
    assert ids(warehouse) == ["a", "a", "b", "c"]


def test_identical_lines_stay_different_events(warehouse: Warehouse) -> None:
    """Two events that differ only in their ids are two requests."""
    assert append(warehouse, "x", events("log-1", "log-2")).rows == 2
    assert len(warehouse.read_events(DAY, EVENT_NAMES).drop("event_id").unique()) == 1


def test_a_load_and_its_rejected_lines_are_two_entries(warehouse: Warehouse) -> None:
    """The rejected lines of a load are known on their own, and are no load of events."""
    warehouse.append_rejected(Load(FIVE, "x"), REFUSED, NOW)
    assert warehouse.known_loads(DAY) == {(Load(FIVE, "x"), True)}
    assert warehouse.loads(DAY) == []
    append(warehouse, "x", events("a"))
    assert warehouse.known_loads(DAY) == {(Load(FIVE, "x"), True), (Load(FIVE, "x"), False)}
    warehouse.delete_load(Load(FIVE, "x"), 10)
    assert warehouse.rejected_lines(DAY) == 1


def test_events_can_be_read_without_some_loads(warehouse: Warehouse) -> None:
    """A load is left out by its hour and id: one with the same id in another hour stays."""
    append(warehouse, "x", events("a"))
    append(warehouse, "x", events("b", hour=FIVE + HOUR), hour=FIVE + HOUR)
    append(warehouse, "y", events("c"))
    without = warehouse.read_events(DAY, ["event_id"], without=[Load(FIVE, "x"), Load(FIVE, "nobody")])
    assert sorted(without["event_id"]) == ["b", "c"]


@pytest.mark.parametrize("batch_rows", [1, 3, 10, 11])
def test_deleting_takes_one_load_and_counts_it(warehouse: Warehouse, batch_rows: int) -> None:
    """Exactly the load's events go, in batches of any size; the ledger counts them; a second time finds none."""
    append(warehouse, "x", events(*(f"x{number}" for number in range(10))))
    append(warehouse, "y", events("y"))
    append(warehouse, "x", events("z", hour=FIVE + HOUR), hour=FIVE + HOUR)
    assert warehouse.delete_load(Load(FIVE, "x"), batch_rows) == 10
    assert warehouse.delete_load(Load(FIVE, "x"), batch_rows) == 0
    assert ids(warehouse) == ["y", "z"]
    assert [facts.deleted_rows for facts in warehouse.loads(DAY)] == [10, 0, 0]


def test_the_file_can_be_opened_again_after_deleting(path: pathlib.Path) -> None:
    """Day after day is deleted, with a checkpoint: the file opens, holds what it should, and its space is used again."""  # noqa: E501
    sizes = []
    for number in range(4):
        with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
            assert ids(warehouse) == []
            assert [facts.deleted_rows for facts in warehouse.loads(DAY)] == [20_000] * number
            append(warehouse, f"{number}", events(*(secrets.token_hex(40) for _ in range(20_000))))
            warehouse.checkpoint()
            sizes.append(path.stat().st_size)
            warehouse.delete_load(Load(FIVE, f"{number}"), 7_000)
            warehouse.checkpoint()
    assert sizes[-1] < 3 * sizes[0]


def test_a_rebuilt_hour_has_the_next_revision(warehouse: Warehouse) -> None:
    """Each hour's revision goes up by one when it is replaced, and only then; what it held before is gone."""
    both = pl.concat([events("a"), events("b", hour=FIVE + HOUR)])
    warehouse.replace_hourly(DAY, path_statistics(both), NOW)
    warehouse.replace_hourly(Window.of_hour(FIVE), path_statistics(events("a", "c", path="/other")), NOW + HOUR)
    rows = warehouse.hourly(DAY)
    assert rows.select("hour", "path", "requests", "revision", "computed_at").rows() == [
        (FIVE, "/other", 2, 2, NOW + HOUR),
        (FIVE + HOUR, "/a", 1, 1, NOW),
    ]
    assert warehouse.requests_by_hour(DAY) == {FIVE: 2, FIVE + HOUR: 1}
    assert warehouse.statistics_span() == Window(FIVE, FIVE + 2 * HOUR)


def test_a_rebuilt_day_has_the_next_revision(warehouse: Warehouse) -> None:
    """The same for days."""
    rows = daily_statistics(path_statistics(events("a")))
    warehouse.replace_daily(DAY, rows, NOW)
    warehouse.replace_daily(DAY, rows, NOW)
    assert warehouse.daily(DAY).select("day", "requests", "revision").rows() == [(DAY.start.date(), 1, 2)]


def test_a_replacement_that_fails_leaves_what_was(warehouse: Warehouse) -> None:
    """Rows that the table can't hold take nothing away."""
    warehouse.replace_hourly(DAY, path_statistics(events("a")), NOW)
    before = warehouse.hourly(DAY)
    with pytest.raises(duckdb.Error):
        warehouse.replace_hourly(DAY, path_statistics(events("a")).with_columns(nonsense=1), NOW)
    assert warehouse.hourly(DAY).equals(before)


HOLD = """
import sys, pathlib
path = pathlib.Path(sys.argv[1])
if sys.argv[2] == "ours":
    from pathstats_pipeline.storage.duck import open_connection
    held = open_connection(path, lock_timeout_seconds=60)
else:
    import duckdb
    held = duckdb.connect(str(path))
with held:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["ours", "duckdb"])
def holder(request: pytest.FixtureRequest, path: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the warehouse, by our lock or by a plain DuckDB connection, until it is told."""
    command = [sys.executable, "-c", HOLD, str(path), request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_warehouse_in_use_is_waited_for(holder: subprocess.Popen[str], path: pathlib.Path) -> None:
    """Who comes second waits, gives up in one line when its time is up, and gets in when the first one is done."""
    with (
        pytest.raises(WarehouseError, match=r"warehouse\.duckdb") as caught,
        open_warehouse(path, lock_timeout_seconds=0.1),
    ):
        pass
    assert len(str(caught.value).splitlines()) == 1
    assert holder.stdin is not None
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "ours"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    with waiting:
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert waiting.communicate(timeout=60)[0] == "held\n"
    assert waiting.returncode == 0


def test_a_holder_that_is_killed_frees_the_warehouse(holder: subprocess.Popen[str], path: pathlib.Path) -> None:
    """The lock dies with its process."""
    holder.kill()
    holder.wait()
    with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
        assert ids(warehouse) == []


def test_an_error_in_the_body_frees_the_lock(path: pathlib.Path) -> None:
    """Whatever happens while it is held, the next one gets in."""
    for held in (open_warehouse, open_connection):
        with pytest.raises(KeyboardInterrupt), held(path, lock_timeout_seconds=1):
            raise KeyboardInterrupt
    with open_warehouse(path, lock_timeout_seconds=0.1) as warehouse:
        assert ids(warehouse) == []


def test_a_lock_is_for_one(tmp_path: pathlib.Path) -> None:
    """The same process can't hold it twice either; who gives up is told what was in use."""
    lock = tmp_path / "deep" / "x.lock"
    with exclusive(lock, timeout_seconds=1, what="this"):  # noqa: SIM117 - the order is what is tried
        with (
            pytest.raises(WarehouseError, match="this was in use for 0 s"),
            exclusive(lock, timeout_seconds=0.01, what="this"),
        ):
            pass
    with exclusive(lock, timeout_seconds=0.01, what="this"):
        pass


def test_a_lock_tells_whether_others_had_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it twice in a row finds the own turn before; on a full disk, nobody does."""

    def turn() -> Turn:
        with in_turn(tmp_path / "x.lock", timeout_seconds=1, what="this") as held:
            return held

    first, second, third = turn(), turn(), turn()
    assert ("", first.name, second.name) == (first.before, second.before, third.before)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert (turn().before, turn().before) == (third.name, "")


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"x"])
def test_what_is_no_database_is_told_at_once(tmp_path: pathlib.Path, content: bytes) -> None:
    """A file that isn't DuckDB's isn't waited for, whatever its path is called."""
    path = tmp_path / "locks" / "warehouse.duckdb"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(WarehouseError, match="cannot open") as caught, open_warehouse(path, lock_timeout_seconds=200):
        pass
    assert len(str(caught.value).splitlines()) == 1


def test_an_empty_load_is_known(warehouse: Warehouse) -> None:
    """A load without events is in the ledger, so that it isn't read again."""
    facts = append(warehouse, "empty")
    assert (facts.rows, facts.digest, facts.first_event_time) == (0, Digest().hex, None)
    assert warehouse.known_loads(DAY) == {(Load(FIVE, "empty"), False)}
