"""Several hosts at one archive, as real processes: a race, a paused worker, a dead one (M7, M8)."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from archive.worlds import DAY, world
from rounds import rounds

from pathstats_pipeline.archive.keys import claim_folder, manifest_key
from pathstats_pipeline.storage.objects import S3Objects

from .days import Prepared
from .stores import Strict

HOSTS = 8
LEASE_SECONDS = 600
WORKER = pathlib.Path(__file__).parent / "worker.py"


class Nursery:
    """A process that has imported everything, and forks a worker for each line that it is given."""

    def __init__(self) -> None:
        self.store: list[str] = []
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def work_at(self, store: S3Objects) -> None:
        """Where the next workers archive."""
        keys = store.client._request_signer._credentials
        self.store = [store.client.meta.endpoint_url, keys.access_key, keys.secret_key, store.bucket, store.prefix]

    def fork(self, directory: pathlib.Path, **order: Any) -> int:
        """Fork a worker on a warehouse; its process id."""
        self._tell(store=self.store, directory=str(directory), **order)
        return int(self._answer())

    def _tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def race(self, rounds: list[list[pathlib.Path]], **order: Any) -> list[tuple[list[str], ...]]:
        """Workers that go through rounds of a race together, one warehouse each; how all of them ended, by round."""
        hosts = [*zip(*rounds, strict=True)]
        self._tell(start=len(hosts))
        for host in hosts:
            self.fork(host[0], holder=host[0].name, rounds=[*map(str, host)], **order)
        self._tell(start=0)
        return [*zip(*self.outcomes(len(hosts)), strict=True)]

    def outcomes(self, count: int) -> list[Any]:
        """How so many workers ended: in their own words, or by which signal."""
        self._tell(wait=count)
        return [json.loads(self._answer()) for _ in range(count)]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(params=["strict", "seaweedfs"])
def store(request: pytest.FixtureRequest) -> S3Objects:
    """An empty store on the strict server, and on the local one, which isn't safe against races on Complete."""
    if request.param == "strict":
        strict: Strict = request.getfixturevalue("strict")
        return strict.objects
    found: S3Objects = request.getfixturevalue("s3_objects")
    return found


@pytest.fixture(scope="module")
def one_nursery() -> Iterator[Nursery]:
    """One process for all tests: its imports take seconds."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def nursery(one_nursery: Nursery, store: S3Objects) -> Nursery:
    """A nursery of workers at the store."""
    one_nursery.work_at(store)
    return one_nursery


def copies(prepared: Prepared, directory: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Warehouses of so many hosts, all with the same day."""
    found = [directory / f"host-{number}" for number in range(count)]
    for path in found:
        shutil.copytree(prepared.directory, path)
    return found


def assert_archived_once(store: S3Objects, prepared: Prepared, directory: pathlib.Path) -> None:
    """One object, one manifest, nothing pending; the oracle agrees."""
    keys = [key for key in store.list("") if not key.startswith("claims/")]
    assert keys == [prepared.key, manifest_key(DAY, 1)]
    assert store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []
    with world(directory, store) as here:
        here.accepted = prepared.accepted.copy()
        here.assert_invariants()


@pytest.mark.parametrize(
    ("rule", "rounds"),
    [
        ("parts", 2),
        pytest.param("single", 10, marks=pytest.mark.faults),
        pytest.param("parts", rounds(20, full=40), marks=pytest.mark.faults),
    ],
)
def test_m7_eight_hosts_archive_the_same_day(
    prepared: Prepared, tmp_path: pathlib.Path, store: S3Objects, nursery: Nursery, *, rule: str, rounds: int
) -> None:
    """M7: each round ends with one object and one manifest; who was late says so in one line, or finds it done."""
    hosts = [copies(prepared, tmp_path / f"round-{number}", HOSTS) for number in range(rounds)]
    ends = nursery.race(hosts, rule=rule)
    assert len(ends) == rounds
    assert rounds < 10 or "ClaimedError" in {outcome for outcomes in ends for outcome, _ in outcomes}, "nobody met"
    for number, outcomes in enumerate(ends):
        assert len(outcomes) == HOSTS
        assert {outcome for outcome, _ in outcomes} <= {"success", "ClaimedError"}, outcomes
        assert [outcome for outcome, _ in outcomes].count("success") >= 1
        # Whoever was first: what its warehouse holds is what every one of them holds.
        assert_archived_once(S3Objects(store.client, store.bucket, f"round-{number}"), prepared, hosts[number][0])


def paused(nursery: Nursery, host: pathlib.Path, **order: Any) -> int:
    """A worker that stops itself where the object is about to become visible, and has stopped."""
    pid = nursery.fork(host, holder=host.name, pause=True, lease=LEASE_SECONDS, **order)
    stat = pathlib.Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    return pid


def runs(nursery: Nursery, host: pathlib.Path, **order: Any) -> list[str]:
    """A worker's run to its end."""
    nursery.fork(host, **{"holder": host.name, "lease": LEASE_SECONDS, **order})
    outcome: list[str]
    [outcome] = nursery.outcomes(1)
    return outcome


@pytest.mark.parametrize("rule", ["parts", pytest.param("single", marks=pytest.mark.faults)])
def test_m8_a_paused_worker_that_was_taken_over_publishes_nothing(
    prepared: Prepared, tmp_path: pathlib.Path, store: S3Objects, nursery: Nursery, rule: str
) -> None:
    """M8: A is stopped before its object is visible; B is refused, then takes over; A goes on and commits nothing."""
    one, other = copies(prepared, tmp_path, 2)
    pid = paused(nursery, one, rule=rule)
    outcome, reason = runs(nursery, other, rule=rule)
    assert outcome == "ClaimedError"
    assert "is being archived by host-0" in reason
    before_b = store.list("claims/")
    assert store.list("events/") == []
    assert runs(nursery, other, rule=rule, later=LEASE_SECONDS + 1)[0] == "success"
    after_b = {key: store.get(key) for key in store.list("")}
    os.kill(pid, signal.SIGCONT)
    [(outcome, reason)] = nursery.outcomes(1)
    assert outcome == "ClaimedError"
    assert "taken over by host-1; nothing was published" in reason
    assert {key: store.get(key) for key in store.list("")} == after_b
    assert len(store.list(claim_folder(DAY, 1))) == len(before_b) + 1
    assert_archived_once(store, prepared, other)
    assert runs(nursery, one, rule=rule)[0] == "success", "it finds the day archived"
    assert_archived_once(store, prepared, one)


def test_m8_a_dead_holder_comes_back_at_once_and_others_within_the_lease(
    prepared: Prepared, tmp_path: pathlib.Path, store: S3Objects, nursery: Nursery
) -> None:
    """M8: kill -9 the holder: the same warehouse goes on at once, another when the lease is over; never a wedge."""
    one, other = copies(prepared, tmp_path, 2)
    pid = paused(nursery, one, rule="parts")
    os.kill(pid, signal.SIGKILL)
    assert nursery.outcomes(1) == [["signal", str(int(signal.SIGKILL))]]
    assert runs(nursery, other, rule="parts")[0] == "ClaimedError"
    assert runs(nursery, one, rule="parts")[0] == "success"
    assert_archived_once(store, prepared, one)
    assert runs(nursery, other, rule="parts")[0] == "success"


def test_m8_a_dead_holder_of_another_host_wedges_nobody(
    prepared: Prepared, tmp_path: pathlib.Path, store: S3Objects, nursery: Nursery
) -> None:
    """M8: kill -9 the holder, for good: another warehouse archives the day once the lease is over."""
    one, other = copies(prepared, tmp_path, 2)
    pid = paused(nursery, one, rule="parts")
    os.kill(pid, signal.SIGKILL)
    nursery.outcomes(1)
    assert runs(nursery, other, rule="parts", later=LEASE_SECONDS // 2)[0] == "ClaimedError"
    assert runs(nursery, other, rule="parts", later=LEASE_SECONDS + 1)[0] == "success"
    assert_archived_once(store, prepared, other)
