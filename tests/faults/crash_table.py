"""The crash table: a day's archive and clean-up, killed at every boundary, and what the next run makes of it.

`python -m faults.crash_table [--multipart] [--pairs N]` prints a line for each boundary: what stood there after the
kill, what the next run did, and whether the invariants hold. With pairs, the next run is killed too.
"""

import argparse
import contextlib
import dataclasses
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
from typing import Final

from archive.worlds import DAY, PARTS_OF_FIVE_MIB, SMALL, WINDOW, World, world

from faults.nursery import Life, batch_rows_of
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.keys import object_folder
from pathstats_pipeline.archive.lifecycle import State, digest_of_loads
from pathstats_pipeline.storage.local_s3 import LocalS3, local_s3

BUCKET: Final = "crashes"
_WIDE: Final = 1_500
_MANY: Final = 270
"""Bytes an event that can't be compressed, and how many times the events of the one part: three parts of 5 MiB."""
_TESTS: Final = pathlib.Path(__file__).parents[1]


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
    server: LocalS3
    nursery: "subprocess.Popen[str]"
    multipart: bool
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
        keys = self.server.credentials
        return Life(
            directory=str(directory),
            log=str(directory / "log"),
            endpoint=self.server.endpoint_url,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            bucket=BUCKET,
            prefix=f"{self.name}-{self.trials}",
            multipart=self.multipart,
            crash_at=None,
        )

    def _run(self, life: Life) -> int:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        print(json.dumps({"life": dataclasses.asdict(life)}), file=self.nursery.stdin, flush=True)
        return int(self.nursery.stdout.readline())

    def _judge(self, life: Life) -> tuple[str, str]:
        """What the kill left, and how the next run mended it; asserts the invariants before and after."""
        objects = life.objects()
        steps: list[str] = []
        with world(pathlib.Path(life.directory), objects) as here:
            accepted = Digest.parse(*json.loads((self.folder / "accepted").read_text()))
            found = _found(here)
            here.assert_nothing_lost(accepted)
            archiver = here.archiver(PARTS_OF_FIVE_MIB if self.multipart else SMALL)
            archiver.on_step = lambda step: steps.append(step.do)
            [manifest] = archiver.archive(DAY)
            if here.clean(batch_rows_of(self.multipart)).deleted_rows:
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
def lab(folder: pathlib.Path, server: LocalS3, *, multipart: bool) -> Iterator[Lab]:
    """A lab with a day prepared: of three parts where `multipart`, else a few dozen events."""
    server.ensure_bucket(BUCKET)
    folder.mkdir(parents=True, exist_ok=True)
    objects = Life("", "", server.endpoint_url, *_keys(server), BUCKET, "prepared", None, multipart).objects()
    with world(folder / "prepared", objects) as here:
        for hour, load_id, rows in ((0, "a", 20), (5, "a", 15), (5, "b", 1)):
            here.bring(hour, load_id, rows * (_MANY if multipart else 1), width=_WIDE if multipart else 0)
        here.build_statistics()
        accepted = digest_of_loads(here.warehouse.loads(WINDOW))
        (folder / "accepted").write_text(json.dumps([accepted.rows, accepted.hex]))
    command = [sys.executable, "-m", "faults.nursery"]
    with subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        try:
            yield Lab(folder, server, nursery, multipart)
        finally:
            assert nursery.stdin is not None
            nursery.stdin.close()


def _keys(server: LocalS3) -> tuple[str, str]:
    return server.credentials.access_key, server.credentials.secret_key


def crashes(here: Lab, pairs: int, every: int = 1, seed: int = 4) -> Iterator[Crash]:
    """Every boundary once, or one in so many, then so many pairs of boundaries."""
    n_boundaries = len(here.boundaries())
    for number in range(0, n_boundaries, every):
        yield here.crash(number)
    rng = random.Random(seed)  # noqa: S311 - test data
    for _ in range(pairs):
        yield here.crash(rng.randrange(n_boundaries), rng.randrange(n_boundaries))


def main() -> None:
    """Print the table; an invariant that doesn't hold ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m faults.crash_table", description=__doc__)
    parser.add_argument("--multipart", action="store_true", help="three parts instead of a single put")
    parser.add_argument("--pairs", type=int, default=0, help="how many pairs of boundaries, besides every single one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pathstats-crashes-") as folder:
        root = pathlib.Path(folder)
        with local_s3(root / "s3") as server, lab(root / "lab", server, multipart=arguments.multipart) as here:
            print(f"{'killed at':<52} {'found then':<44} the next run did")
            count = 0
            for crash in crashes(here, arguments.pairs):
                print(crash, flush=True)
                count += 1
    print(f"{count} kills: no event lost or doubled, one object, one manifest, no litter")


if __name__ == "__main__":
    main()
