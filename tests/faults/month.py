"""A simulated month: events land hour by hour, some of them days late; each day is archived, old ones are cleaned up.

`python -m faults.month [--days N] [--events N] [--plot FILE]`. The work of a day is a process of its own that is killed
at random boundaries and started again. A separate oracle knows what was landed: after each day it holds warehouse,
archive and statistics against that, and the warehouse's file against what lives in it.
"""

import argparse
import collections
import contextlib
import dataclasses
import datetime as dt
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import numpy as np
import polars as pl

from faults.nursery import DayOfWork
from pathstats_pipeline.archive.day import manifests_of, verify_generation
from pathstats_pipeline.archive.jsonl import Digest, digest_of, to_lines
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.warehouse import open_warehouse

BUCKET: Final = "month"
FIRST_DAY: Final = dt.date(2026, 1, 1)
HOT_DAYS: Final = 3
LATE_EVENTS: Final = 50
_TESTS: Final = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Evening:
    """What stands there when a day's work is done. Sizes in bytes; `live` is the file's content, written anew."""

    day: dt.date
    kills: int
    file: int
    live: int
    objects: int
    manifests: int
    archived_bytes: int
    hot_rows: int
    archived_rows: int

    def __str__(self) -> str:
        return (
            f"{self.day} {self.kills:>5} {self.hot_rows:>10} {self.archived_rows:>10} {self.file / 1e6:>9.1f} "
            f"{self.live / 1e6:>9.1f} {self.file / self.live:>5.2f} {self.objects:>7} {self.manifests:>9} "
            f"{self.archived_bytes / 1e6:>11.1f}"
        )


HEADER: Final = "day        kills   hot rows   archived   file MB   live MB ratio objects manifests archived MB"


@dataclasses.dataclass
class Month:
    """A month that passes; the oracle's knowledge of it in `landed`, by day."""

    folder: pathlib.Path
    server: LocalS3
    nursery: "subprocess.Popen[str]"
    events_per_day: int
    rng: random.Random
    landed: dict[dt.date, Digest] = dataclasses.field(default_factory=lambda: collections.defaultdict(Digest))
    published: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    boundaries: int = 100

    def pass_day(self, number: int) -> Evening:
        """Events of a day land, some of days before; then its work is done, whatever kills it."""
        day = FIRST_DAY + dt.timedelta(days=number)
        for hour in Window.of_day(day).hours():
            self._land(Load(hour, "on-time"), self.events_per_day // 24)
        touched = {day}
        if number and self.rng.random() < 0.6:
            late = day - dt.timedelta(days=self.rng.randrange(1, min(number, HOT_DAYS + 4) + 1))
            self._land(Load(Window.of_day(late).start + self.rng.randrange(24) * HOUR, f"late-{number}"), LATE_EVENTS)
            touched.add(late)
        return self._evening(day, self._work(day, touched))

    def _land(self, load: Load, rows: int) -> None:
        frame = _events(load, rows, self.rng.randrange(2**32))
        assert Landing(DirectoryObjects(self.folder / "landing")).publish(load, frame)
        self.landed[load.hour.date()] += digest_of(to_lines(frame))

    def _work(self, day: dt.date, touched: set[dt.date]) -> int:
        """The day's work in a process that is killed now and then; how often it was."""
        kills = 0
        keys = self.server.credentials
        log = self.folder / "log"
        while True:
            crash_at = self.rng.randrange(self.boundaries) if self.rng.random() < 0.6 and kills < 5 else None
            log.unlink(missing_ok=True)
            job = DayOfWork(
                directory=str(self.folder),
                log=str(log),
                endpoint=self.server.endpoint_url,
                access_key=keys.access_key,
                secret_key=keys.secret_key,
                bucket=BUCKET,
                prefix="archive",
                crash_at=crash_at,
                day=day.isoformat(),
                touched=sorted(map(str, touched)),
                first_day=FIRST_DAY.isoformat(),
                hot_days=HOT_DAYS,
            )
            assert self.nursery.stdin is not None
            assert self.nursery.stdout is not None
            print(json.dumps({"month": dataclasses.asdict(job)}), file=self.nursery.stdin, flush=True)
            code = int(self.nursery.stdout.readline())
            if code == 0:
                # Kills of later days fall anywhere within as much work as this.
                self.boundaries = max(len(log.read_text().splitlines()), 1)
                return kills
            assert code == -signal.SIGKILL, f"died of {code}"
            kills += 1

    def _evening(self, day: dt.date, kills: int) -> Evening:
        """Hold everything against what was landed."""
        store = _job_objects(self)
        warehouse_file = self.folder / "warehouse.duckdb"
        hot_rows = archived_rows = 0
        tomorrow = day + dt.timedelta(days=1)
        with open_warehouse(warehouse_file, lock_timeout_seconds=5) as warehouse:
            for each, landed in self.landed.items():
                window = Window.of_day(each)
                manifests = manifests_of(store, each)
                archived = sum((manifest.digest for manifest in manifests), Digest())
                hot = Digest()
                for batch in warehouse.stream_loads([facts.load for facts in warehouse.loads(window)], 50_000):
                    hot += digest_of(to_lines(batch.select(EVENT_NAMES)))
                cleaned = (tomorrow - each).days >= HOT_DAYS
                assert (hot + archived if cleaned else hot) == landed, f"{each}: an event is lost or doubled"
                if cleaned:
                    assert hot.rows == 0, f"{each} was not cleaned up"
                assert archived == landed, f"{each} is not archived as a whole"
                assert sum(warehouse.requests_by_hour(window).values()) == landed.rows, f"{each}: statistics"
                hot_rows += hot.rows
                archived_rows += archived.rows
                for manifest in manifests:
                    if manifest.key not in self.published:
                        verify_generation(store, manifest)
        listed = _listing(store)
        assert self.published.items() <= listed.items(), "a published object changed"
        self.published = listed
        assert not store.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
        data = [(key, size) for key, (_, size) in listed.items() if key.startswith("events/")]
        return Evening(
            day=day,
            kills=kills,
            file=warehouse_file.stat().st_size,
            live=_live_bytes(warehouse_file),
            objects=len(data),
            manifests=sum(key.startswith("metadata/") for key in listed),
            archived_bytes=sum(size for _, size in data),
            hot_rows=hot_rows,
            archived_rows=archived_rows,
        )


def _job_objects(month: Month) -> Any:
    keys = month.server.credentials
    job = DayOfWork(
        "", "", month.server.endpoint_url, keys.access_key, keys.secret_key, BUCKET, "archive", None, "", [], "", 0
    )
    return job.objects()


def _listing(store: Any) -> dict[str, tuple[str, int]]:
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="archive/")
    found = [each for page in pages for each in page.get("Contents", [])]
    return {each["Key"].removeprefix("archive/"): (each["ETag"], each["Size"]) for each in found}


def _live_bytes(path: pathlib.Path) -> int:
    """What the file's content takes when it is written anew."""
    copy = path.with_name("live.duckdb")
    with duckdb.connect(str(copy)) as connection:
        connection.execute(f"ATTACH '{path}' AS old (READ_ONLY)")
        connection.execute("COPY FROM DATABASE old TO live")
        connection.execute("CHECKPOINT live")
    size = copy.stat().st_size
    copy.unlink()
    return size


def _events(load: Load, rows: int, seed: int) -> pl.DataFrame:
    """Traffic of an hour: a few hundred paths, thousands of addresses."""
    rng = np.random.default_rng(seed)
    times = np.datetime64(load.hour, "us") + np.sort(rng.integers(0, 3_600_000_000, rows)).view("m8[us]")
    number = pl.int_range(rows, eager=True)
    return (
        pl.DataFrame({"event_time": times, "number": number})
        .select(
            event_id=pl.format("{}-{}", pl.lit(str(load)), "number"),
            event_time="event_time",
            host=pl.lit("www.example.com"),
            method=pl.lit("GET"),
            path=pl.format("/section/{}", pl.Series((rng.zipf(1.3, rows) - 1) % 500)),
            status=pl.Series(rng.choice(np.array([200, 304, 404, 500], np.int16), rows)),
            response_time_ms=pl.Series(np.round(rng.lognormal(3, 1, rows), 3)),
            bytes_sent=pl.Series(rng.integers(200, 60_000, rows)),
            client_ip=pl.format(
                "10.0.{}.{}", pl.Series(rng.integers(0, 256, rows)), pl.Series(rng.integers(0, 256, rows))
            ),
            user_agent=pl.format("Mozilla/5.0 rv:{}", pl.Series(rng.integers(60, 140, rows))),
        )
        .cast(pl.Schema(EVENT_SCHEMA))
    )


@contextlib.contextmanager
def month(folder: pathlib.Path, server: LocalS3, events_per_day: int, seed: int = 7) -> Iterator[Month]:
    """A month in a folder, with an S3 server, before its first day."""
    server.ensure_bucket(BUCKET)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "faults.nursery"]
    with subprocess.Popen(command, cwd=_TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        try:
            yield Month(folder, server, nursery, events_per_day, random.Random(seed))  # noqa: S311 - test data
        finally:
            assert nursery.stdin is not None
            nursery.stdin.close()


def plot(evenings: list[Evening], path: pathlib.Path) -> None:
    """File size and archive over the days, as a picture."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the picture

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    days = range(1, len(evenings) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    left.plot(days, [each.file / 1e6 for each in evenings], label="warehouse file")
    left.plot(days, [each.live / 1e6 for each in evenings], "--", label="what lives in it")
    left.set(title="Warehouse, MB", xlabel="day", ylim=0)
    left.legend()
    right.plot(days, [each.archived_bytes / 1e6 for each in evenings], label="archived, MB")
    right.plot(days, [each.objects for each in evenings], label="objects")
    right.plot(days, [sum(one.kills for one in evenings[: at + 1]) for at in range(len(evenings))], label="kills")
    right.set(title="Archive on S3, and kills so far", xlabel="day", ylim=0)
    right.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print a line a day; what doesn't hold ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m faults.month", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--events", type=int, default=1_000_000, help="events a day")
    parser.add_argument("--plot", type=pathlib.Path)
    arguments = parser.parse_args()
    evenings = []
    with tempfile.TemporaryDirectory(prefix="pathstats-month-") as folder:
        root = pathlib.Path(folder)
        with LocalS3(root / "s3").in_use() as server, month(root / "month", server, arguments.events) as here:
            print(HEADER)
            for number in range(arguments.days):
                evenings.append(here.pass_day(number))
                print(evenings[-1], flush=True)
    if arguments.plot:
        plot(evenings, arguments.plot)
    print(f"{sum(each.kills for each in evenings)} kills in {len(evenings)} days: no event lost or doubled")


if __name__ == "__main__":
    main()
