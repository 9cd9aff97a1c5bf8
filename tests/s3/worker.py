"""Forks workers that archive the day of the tests, each on its own warehouse; orders come as JSON lines on stdin.

It imports everything once and opens nothing, so that a fork is cheap and safe.
"""

import datetime as dt
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from archive.worlds import DAY, NOW, PARTS, SMALL

from pathstats_pipeline.archive import claims
from pathstats_pipeline.archive.day import Archiver
from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse
from s3.stores import client_of

START_SECONDS = 120
"""How long the hosts of a race wait for each other."""


def clock(later: float) -> Callable[[], dt.datetime]:
    """The wall clock, so much later: no test waits for a lease. The day of the tests is over."""
    start = max(naive_utc(dt.datetime.now(dt.UTC)), NOW) + dt.timedelta(seconds=later)
    began = time.monotonic()
    return lambda: start + dt.timedelta(seconds=time.monotonic() - began)


def archive(order: dict[str, Any]) -> None:
    """Archive the day as it is ordered; raises as that does."""
    endpoint, key, secret, bucket, prefix = order["store"]
    client = client_of(endpoint, aws_access_key_id=key, aws_secret_access_key=secret)
    if order.get("pause"):
        held = claims.Claim.assert_held

        def pausing(claim: claims.Claim) -> None:
            setattr(claims.Claim, "assert_held", held)  # noqa: B010 - mypy sees two kinds of function
            os.kill(os.getpid(), signal.SIGSTOP)
            held(claim)

        setattr(claims.Claim, "assert_held", pausing)  # noqa: B010
    archive_at(S3Objects(client, bucket, prefix), pathlib.Path(order["directory"]), order, None)


def archive_at(objects: S3Objects, directory: pathlib.Path, order: dict[str, Any], start: Barrier | None) -> None:
    """Archive the day of a warehouse in a store, with the others at once where there is a start."""
    claimant = claims.Claimant(order["holder"], dt.timedelta(seconds=order.get("lease", 60)))
    with open_warehouse(directory / "warehouse.duckdb", lock_timeout_seconds=5) as warehouse:
        rule = PARTS if order["rule"] == "parts" else SMALL
        archiver = Archiver(warehouse, objects, rule, clock(order.get("later", 0)), "0.0-test", claimant)
        if start:
            start.wait(START_SECONDS)
        archiver.archive(DAY)


def race(order: dict[str, Any], start: Barrier) -> list[list[str]]:
    """A host's part in every round of a race, each with a warehouse and a prefix of its own; how each of them ended."""
    endpoint, key, secret, bucket, _ = order["store"]
    client = client_of(endpoint, aws_access_key_id=key, aws_secret_access_key=secret)
    ends = []
    for directory in map(pathlib.Path, order["rounds"]):
        objects = S3Objects(client, bucket, directory.parent.name)
        try:
            archive_at(objects, directory, order, start)
            ends.append(["success", ""])
        except threading.BrokenBarrierError:
            raise
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            ends.append([type(error).__name__, str(error)])
    return ends


def child(order: dict[str, Any], pipe: int, start: Barrier | None) -> None:
    """A worker's life; says on the pipe how it ended."""
    outcome: list[Any] = ["success", ""]
    try:
        if start:
            outcome = race(order, start)
        else:
            archive(order)
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        outcome = [type(error).__name__, str(error)]
    os.write(pipe, json.dumps(outcome).encode())
    os._exit(0)


def main() -> None:
    """Fork, wait, answer."""
    client_of("http://127.0.0.1:9")  # what boto3 reads from its files is then there in every fork
    pipes: dict[int, int] = {}
    start: Barrier | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            start = multiprocessing.get_context("fork").Barrier(order["start"]) if order["start"] else None
            continue
        if "wait" not in order:
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                child(order, writing, start)
            os.close(writing)
            pipes[pid] = reading
            print(pid, flush=True)  # noqa: T201 - an answer
            continue
        for _ in range(order["wait"]):
            pid, status = os.wait()
            said = os.read(pipes[pid], 65536)
            os.close(pipes.pop(pid))
            died = os.WIFSIGNALED(status)
            answer = ["signal", str(os.WTERMSIG(status))] if died else json.loads(said)
            print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
