"""M11 and M13 in their full numbers: a real SQS server, a real process killed again and again."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import polars as pl
import pytest
from queues import DAY, NOW, POISON, Queues, body, check_poison, deliveries, event, landing_at, new_queues
from rounds import rounds

from faults.queue_nursery import Order
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.warehouse import open_warehouse

pytestmark = pytest.mark.faults
TESTS = pathlib.Path(__file__).parents[1]
WINDOW = Window.of_day(DAY)
WAVE = 5_000
"""Deliveries that are in the queue at once: the local server looks through all of them for each call."""


@pytest.mark.timeout(3 * 3_600)
@pytest.mark.parametrize(("count", "kills"), [(rounds(4_000, full=50_000), rounds(20, full=50))])
def test_m11_killed_consumers_lose_nothing_and_double_nothing(
    other_s3_server: str, tmp_path: pathlib.Path, count: int, kills: int
) -> None:
    """M11: messages delivered one to five times in any order, the consumer killed again and again: each event once."""
    check_kills(new_queues(other_s3_server), other_s3_server, tmp_path, count, kills)


def check_kills(queues: Queues, server: str, folder: pathlib.Path, count: int, kills: int) -> None:
    """Drain a queue by processes that are killed so often; hold what landed against what was sent."""
    poison = {f"poison-{number}": f"{POISON} {number}" for number in range(count // 1000)}
    texts = {f"m{number}": body(event(number, hour=number % 3)) for number in range(count - len(poison))}
    sent = deliveries({**texts, **poison}, seed=count)
    order = Order(server, queues.queue.url, queues.letters.url, str(folder / "landing"), 500, hidden_seconds=5)
    killed = 0
    rng = random.Random(kills)  # noqa: S311 - test data
    waves = [sent[start : start + WAVE] for start in range(0, len(sent), WAVE)]
    with nursing(folder) as nursery:
        for number, wave in enumerate(waves, start=1):
            queues.send(wave)
            while queues.queue.depth().messages:
                to_come = killed < kills * number / len(waves)
                killed += _run(nursery, order, rng.uniform(0.05, 1.0) if to_come else None)
    assert killed == kills
    landing = landing_at(folder / "landing")
    with open_warehouse(folder / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        loaded = load_hours(warehouse, landing, WINDOW, NOW)
        assert not loaded.unreadable
        facts = warehouse.loads(WINDOW)
        stored = warehouse.read_events(WINDOW, ["event_id", "path"])
    assert len(stored) == stored["event_id"].n_unique() == stored["path"].n_unique() == len(texts)
    rows = sum(each.rows + each.duplicates for each in facts)
    assert rows == sum(map(len, map(pl.read_parquet, _files(landing))))
    assert set(queues.dead()) == set(poison)
    print(  # noqa: T201 - the figures of a long test
        f"{len(sent)} deliveries of {count} messages, {killed} kills: {len(stored)} stored, "
        f"{rows - len(stored)} duplicates, {len(poison)} dead letters, {len(facts)} loads"
    )


def _files(landing: Landing) -> list[pathlib.Path]:
    return list(pathlib.Path(landing.objects.uri).glob("dt=*/hour=*/*.parquet"))


@contextlib.contextmanager
def nursing(folder: pathlib.Path) -> Iterator["subprocess.Popen[str]"]:
    """Where consumers are forked from."""
    with (folder / "consumers.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.queue_nursery"],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _run(nursery: "subprocess.Popen[str]", order: Order, kill_after: float | None) -> bool:
    """Run a consumer to its end, or to its death; whether it was killed."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    print(json.dumps(dataclasses.asdict(order)), file=nursery.stdin, flush=True)
    pid = int(nursery.stdout.readline())
    if kill_after is not None:
        timer = threading.Timer(kill_after, _kill, [pid])
        timer.start()
    code = int(nursery.stdout.readline())
    if kill_after is not None:
        timer.cancel()
    assert code in {0, -signal.SIGKILL}
    if code == 0:
        time.sleep(0.2)  # what is hidden comes back in its time
    return code == -signal.SIGKILL


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("size", "count"), [(1, 100), *((size, rounds(100, full=2_000)) for size in (5, 9, 10))])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_m13_poison_in_full_numbers(
    other_s3_server: str, tmp_path: pathlib.Path, share: float, size: int, count: int
) -> None:
    """M13: by the hundred (100 where each is a batch of its own): the dead letters are exactly the poison."""
    check_poison(new_queues(other_s3_server), landing_at(tmp_path / "landing"), count, share, size)
