"""M20: clean-up in a real process that is killed with SIGKILL in the middle of deleting."""

import itertools
import pathlib
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from pathstats_pipeline.storage.warehouse import Warehouse

from .fake_objects import FakeObjects
from .worlds import WINDOW, World, world

ROWS_PER_KILL = 200
BATCH = 20
NURSERY = """
import os, pathlib, signal, sys
import datetime as dt
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse

def clean(left):
    run = Warehouse._run

    def dying(self, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(self, *arguments)

    with open_warehouse(pathlib.Path(sys.argv[1]), lock_timeout_seconds=5) as warehouse:
        Warehouse._run = dying
        for facts in warehouse.loads(Window.of_day(dt.date(2026, 11, 20))):
            warehouse.delete_load(facts.load, int(sys.argv[2]))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        clean(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has imported everything, and forks a child for each deletion that is to be killed."""


def left(here: World) -> int:
    """Events in the warehouse."""
    [(count,)] = here.warehouse._run("SELECT count(*) FROM pathstats.traffic_events").fetchall()
    return int(count)


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.faults)])
def test_a_killed_deletion_is_counted_to_the_row_and_resumed(tmp_path: pathlib.Path, kills: int) -> None:
    """M20: killed at random statements: what is left and what the ledger counts add up, and the rest follows."""
    rng = random.Random(4)  # noqa: S311 - test data
    objects, rows = FakeObjects(), ROWS_PER_KILL * kills
    with world(tmp_path, objects) as here:
        for hour in (1, 2):
            here.bring(hour, "x", rows)
        here.build_statistics()
        here.archive()
        known = here.accepted
    command = [sys.executable, "-c", NURSERY, str(tmp_path / "warehouse.duckdb"), str(BATCH)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(kills):
            print(rng.randrange(5, 60), file=nursery.stdin, flush=True)
            assert int(nursery.stdout.readline()) == -signal.SIGKILL
            with world(tmp_path, objects) as here:
                deleted = [facts.deleted_rows for facts in here.warehouse.loads(WINDOW)]
                assert left(here) + sum(deleted) == 2 * rows
                assert [count % BATCH for count in deleted] == [0, 0], "a transaction is there whole, or not at all"
        nursery.stdin.close()
    with world(tmp_path, objects) as here:
        here.accepted = known
        here.assert_invariants()
        assert 0 < here.clean(700).deleted_rows < 2 * rows
        here.assert_invariants(cleaned=True)
        assert [facts.deleted_rows for facts in here.warehouse.loads(WINDOW)] == [rows, rows]


@pytest.mark.parametrize(("rows", "batch"), [(0, 7), (1, 1), (6, 7), (7, 7), (8, 7), (50, 7), (50, 1)])
def test_no_transaction_deletes_more_than_the_batch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, rows: int, batch: int
) -> None:
    """M20: after each transaction: how many rows are there, and what the ledger says."""
    counts: list[tuple[int, int]] = []
    run = Warehouse._run

    def watched(warehouse: Warehouse, sql: str, *parameters: Any) -> Any:
        answer = run(warehouse, sql, *parameters)
        if sql in {"BEGIN", "COMMIT"}:
            [count] = run(
                warehouse,
                "SELECT (SELECT count(*) FROM pathstats.traffic_events), sum(deleted_rows) FROM pathstats.loads",
            ).fetchall()
            counts.append(count)
        return answer

    with world(tmp_path, FakeObjects()) as here:
        load = here.bring(1, "x", rows)
        here.bring(1, "y", 9)
        monkeypatch.setattr(Warehouse, "_run", watched)
        assert here.warehouse.delete_load(load, batch) == rows
    assert counts[-1] == (9, rows)
    assert {there + gone for there, gone in counts} == {rows + 9}
    assert max(before - after for (before, _), (after, _) in itertools.pairwise(counts)) == min(rows, batch)
