"""Clean-up in a real process that is killed with SIGKILL in the middle of deleting."""

import pathlib
import random
import signal
import subprocess
import sys

from .fake_objects import FakeObjects
from .worlds import WINDOW, world

ROWS = 2_000
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
            warehouse.delete_load(facts.load, 20)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        clean(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has imported everything, and forks a child for each deletion that is to be killed."""


def test_a_killed_deletion_is_counted_to_the_row_and_resumed(tmp_path: pathlib.Path) -> None:
    """Killed ten times at random statements: what is left and what the ledger counts add up, and the rest follows."""
    rng = random.Random(4)  # noqa: S311 - test data
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        for hour in (1, 2):
            here.bring(hour, "x", ROWS)
        here.build_statistics()
        here.archive()
        known = here.accepted
    command = [sys.executable, "-c", NURSERY, str(tmp_path / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(10):
            print(rng.randrange(5, 60), file=nursery.stdin, flush=True)
            assert int(nursery.stdout.readline()) == -signal.SIGKILL
            with world(tmp_path, objects) as here:
                deleted = sum(facts.deleted_rows for facts in here.warehouse.loads(WINDOW))
                assert here.hot().total() + deleted == 2 * ROWS
        nursery.stdin.close()
    with world(tmp_path, objects) as here:
        here.accepted = known
        here.assert_invariants()
        assert 0 < here.clean().deleted_rows < 2 * ROWS
        here.assert_invariants(cleaned=True)
        assert [facts.deleted_rows for facts in here.warehouse.loads(WINDOW)] == [ROWS, ROWS]
