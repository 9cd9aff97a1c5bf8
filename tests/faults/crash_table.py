"""The crash table: a day's archive and clean-up, killed at every boundary, and what the next run makes of it.

`python -m faults.crash_table [--multipart] [--pairs N]` prints a line for each boundary: what stood there after the
kill, what the next run did, and whether the invariants hold. With pairs, the next run is killed too.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, Final

from archive.worlds import BATCH_ROWS, DAY, WINDOW, World, world

from faults.nursery import Life
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.keys import object_folder
from pathstats_pipeline.archive.lifecycle import State, digest_of_loads
from pathstats_pipeline.archive.strategy import MIN_PART_BYTES
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects

BUCKET: Final = "crashes"
_TESTS: Final = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Server:
    """Where S3 is, and by which keys."""

    endpoint: str
    access_key: str
    secret_key: str

    @classmethod
    def of(cls, local: LocalS3) -> "Server":
        """The local server, with the bucket of the crashes."""
        local.ensure_bucket(BUCKET)
        return cls(local.endpoint_url, local.credentials.access_key, local.credentials.secret_key)


@dataclasses.dataclass(frozen=True)
class Shape:
    """The prepared day: how many times a few dozen events of what width, in which parts, deleted in which batches."""

    part_bytes: int = 0
    times: int = 1
    width_bytes: int = 0
    batch_rows: int = BATCH_ROWS


ONE_PART: Final = Shape()
THREE_PARTS: Final = Shape(part_bytes=MIN_PART_BYTES, times=270, width_bytes=1_500, batch_rows=2_000)
"""Three parts of S3's least size, of events that can't be compressed."""
THREE_SMALL_PARTS: Final = Shape(part_bytes=600)
"""For a server that takes them."""


@dataclasses.dataclass(frozen=True)
class Crash:
    """One trial: where it died, what was found then, and the steps of the run that mended it."""

    died_at: tuple[str, ...]
    found: str
    mended_by: str

    def __str__(self) -> str:
        return f"{' + '.join(self.died_at):<52} {self.found:<44} {self.mended_by}"


@dataclasses.dataclass
class Lab:
    """A prepared day, an S3 server, and a nursery of processes."""

    folder: pathlib.Path
    server: Server
    nursery: "subprocess.Popen[str]"
    shape: Shape
    client: Any
    name: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex[:8])
    trials: int = 0

    def boundaries(self) -> list[str]:
        """The boundaries of a run that nobody kills."""
        life = self._fresh()
        assert self._run(life) == 0
        self._judge(life)
        return pathlib.Path(life.log).read_text().splitlines()

    def crash(self, *crash_at: int) -> Crash:
        """Kill a run at a boundary, the next one at another, and so on; then let one live. Raises where it fails."""
        life = self._fresh()
        died_at = []
        for number in crash_at:
            pathlib.Path(life.log).unlink(missing_ok=True)
            code = self._run(dataclasses.replace(life, crash_at=number))
            passed = pathlib.Path(life.log).read_text().splitlines()
            if code == 0:
                died_at.append("lived")
                break
            assert code == -signal.SIGKILL, f"died of {code} at {passed[-1]}"
            died_at.append(f"{number} {passed[-1]}")
        return Crash(tuple(died_at), *self._judge(life))

    def _fresh(self) -> Life:
        self.trials += 1
        directory = self.folder / "trial"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.folder / "prepared", directory)
        (directory / "log").unlink(missing_ok=True)
        return Life(
            directory=str(directory),
            log=str(directory / "log"),
            **dataclasses.asdict(self.server),
            bucket=BUCKET,
            prefix=f"{self.name}-{self.trials}",
            crash_at=None,
            part_bytes=self.shape.part_bytes,
            batch_rows=self.shape.batch_rows,
        )

    def _run(self, life: Life) -> int:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        print(json.dumps({"life": dataclasses.asdict(life)}), file=self.nursery.stdin, flush=True)
        return int(self.nursery.stdout.readline())

    def _judge(self, life: Life) -> tuple[str, str]:
        """What the kill left, and how the next run mended it; asserts the invariants before and after."""
        objects = S3Objects(self.client, life.bucket, life.prefix)
        steps: list[str] = []
        with world(pathlib.Path(life.directory), objects) as here:
            accepted = Digest.parse(*json.loads((self.folder / "accepted").read_text()))
            found = _found(here)
            here.assert_nothing_lost(accepted)
            archiver = here.archiver(life.rule)
            archiver.on_step = lambda step: steps.append(step.do)
            [manifest] = archiver.archive(DAY)
            if here.clean(life.batch_rows).deleted_rows:
                steps.append("delete")
            here.assert_nothing_lost(accepted, cleaned=True)
            assert here.hot().total() == 0
            assert [record.state for record in here.warehouse.generation_records(DAY)] == [State.DELETED]
            assert objects.list(object_folder(DAY)) == [manifest.key]
            assert here.landing.hours(DAY) == []
            assert objects.abort_uploads("") == 0
            assert _pending(here) == 0
            assert archiver.archive(DAY) == [manifest]
        return found, ", ".join(steps) or "nothing"


def _pending(here: World) -> int:
    uploads = here.objects.client.list_multipart_uploads(Bucket=BUCKET, Prefix=here.objects.prefix)  # type: ignore[attr-defined]
    return len(uploads.get("Uploads", []))


def _found(here: World) -> str:
    records = here.warehouse.generation_records(DAY)
    state = records[-1].state if records else "-"
    keys = here.objects.list("")
    parts = [
        f"{sum(key.startswith(kind) for key in keys)} {name}"
        for kind, name in (("events", "object"), ("metadata", "manifest"))
    ]
    return ", ".join([state, *parts, f"{_pending(here)} upload"])


@contextlib.contextmanager
def lab(folder: pathlib.Path, server: Server, shape: Shape) -> Iterator[Lab]:
    """A lab with a day of a shape prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    life = Life(
        "", "", **dataclasses.asdict(server), bucket=BUCKET, prefix="", crash_at=None, part_bytes=0, batch_rows=0
    )
    objects = life.objects()
    with world(folder / "prepared", objects) as here:
        for hour, load_id, rows in ((0, "a", 20), (5, "a", 15), (5, "b", 1)):
            here.bring(hour, load_id, rows * shape.times, width=shape.width_bytes)
        here.build_statistics()
        accepted = digest_of_loads(here.warehouse.loads(WINDOW))
        (folder / "accepted").write_text(json.dumps([accepted.rows, accepted.hex]))
    command = [sys.executable, "-m", "faults.nursery"]
    with subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        try:
            yield Lab(folder, server, nursery, shape, objects.client)
        finally:
            assert nursery.stdin is not None
            nursery.stdin.close()


def singles(here: Lab, every: int = 1) -> Iterator[Crash]:
    """Every boundary once, or one in so many."""
    for number in range(0, len(here.boundaries()), every):
        yield here.crash(number)


def pairs(here: Lab, count: int, seed: int = 4) -> Iterator[Crash]:
    """So many pairs of boundaries: the run is killed, and so is the one that would mend it."""
    n_boundaries = len(here.boundaries())
    rng = random.Random(seed)  # noqa: S311 - test data
    # No first boundary comes twice before all have come once: few pairs, too, are spread over the whole life.
    rounds = (rng.sample(range(n_boundaries), n_boundaries) for _ in itertools.count())
    for first in itertools.islice(itertools.chain.from_iterable(rounds), count):
        yield here.crash(first, rng.randrange(n_boundaries))


def main() -> None:
    """Print the table; an invariant that doesn't hold ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m faults.crash_table", description=__doc__)
    parser.add_argument("--multipart", action="store_true", help="three parts instead of a single put")
    parser.add_argument("--pairs", type=int, default=0, help="how many pairs of boundaries, besides every single one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pathstats-crashes-") as folder:
        root = pathlib.Path(folder)
        shape = THREE_PARTS if arguments.multipart else ONE_PART
        with LocalS3(root / "s3").in_use() as server, lab(root / "lab", Server.of(server), shape) as here:
            print(f"{'killed at':<52} {'found then':<44} the next run did")
            count = 0
            for crash in itertools.chain(singles(here), pairs(here, arguments.pairs)):
                print(crash, flush=True)
                count += 1
    print(f"{count} kills: no event lost or doubled, one object, one manifest, no litter")


if __name__ == "__main__":
    main()
