"""The warehouse's file shrinks to what lives in it, and stands whole whatever happens meanwhile."""

import pathlib
import resource
import signal
import subprocess
import sys

import duckdb
import polars as pl
import pytest
from archive.worlds import DAY, NOW, events, hour_of

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.compaction import compact
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.warehouse import open_warehouse

ROWS = 3_000
WINDOW = Window.of_day(DAY)


def filled(path: pathlib.Path) -> pl.DataFrame:
    """A file of which most was deleted again; returns what lives in it."""
    loads = [Load(hour_of(hour), "x") for hour in range(6)]
    with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
        for load in loads:
            # Not compressible, so that the file has blocks to free.
            frame = events(load, ROWS, width=500)
            warehouse.append_load(load, [(frame, pl.DataFrame())], lambda part: Digest(rows=len(part)), NOW)
        warehouse.checkpoint()
        for load in loads[:-1]:
            warehouse.delete_load(load, 5_000)
        warehouse.checkpoint()
        return warehouse.read_events(WINDOW, ["*", "rowid"]).sort("event_id")


def test_a_file_shrinks_to_what_lives_in_it(tmp_path: pathlib.Path) -> None:
    """Every table and row is there, and nothing but the file itself is left; a second time there is nothing to win."""
    path = tmp_path / "it's a warehouse.duckdb"
    living = filled(path).drop("rowid")
    done = compact(path, lock_timeout_seconds=5, deleted=True)
    assert done.after == path.stat().st_size < done.before / 2
    with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
        assert warehouse.read_events(WINDOW, ["*"]).sort("event_id").equals(living)
        assert len(warehouse.loads(WINDOW)) == 6
        assert warehouse.loads(WINDOW)[0].deleted_rows == ROWS
    again = compact(path, lock_timeout_seconds=5)
    assert again.after == again.before
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, f"{path.name}.lock"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: pathlib.Path) -> None:
    """There is no room for the copy: one line, no litter, and the warehouse works on."""
    path = tmp_path / "w.duckdb"
    living = filled(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(WarehouseError, match="cannot compact") as caught:
            compact(path, lock_timeout_seconds=5, deleted=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["w.duckdb", "w.duckdb.lock"]
    with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
        assert warehouse.read_events(WINDOW, ["*", "rowid"]).sort("event_id").equals(living)


@pytest.mark.parametrize("last", ["copied", "renamed"])
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: pathlib.Path, last: str) -> None:
    """Killed right before or after the rename, with the copy beside the file: the next compaction clears up."""
    path = tmp_path / "w.duckdb"
    living = filled(path).drop("rowid")
    program = f"""
import os, pathlib, signal
from pathstats_pipeline.storage import compaction
replace = pathlib.Path.replace
def dying(*names):
    if {last == "renamed"}:
        replace(*names)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = dying
compaction.compact(pathlib.Path({str(path)!r}), lock_timeout_seconds=5, deleted=True)
"""
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == -signal.SIGKILL
    compact(path, lock_timeout_seconds=5, deleted=True)
    with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
        assert warehouse.read_events(WINDOW, ["*"]).sort("event_id").equals(living)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["w.duckdb", "w.duckdb.lock"]


def test_a_reader_of_the_file_is_waited_for(tmp_path: pathlib.Path) -> None:
    """Somebody else's DuckDB shell holds the file: nothing happens to it."""
    path = tmp_path / "w.duckdb"
    filled(path)
    program = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "open\n"
        with pytest.raises(WarehouseError, match="lock"):
            compact(path, lock_timeout_seconds=0.5)
        shell.communicate("")
    assert duckdb.connect(str(path)).execute("SELECT count(*) FROM pathstats.traffic_events").fetchall() == [(ROWS,)]
