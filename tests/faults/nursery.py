"""A process that has imported everything, and forks a child for each piece of work that is to be killed.

Reads one JSON object a line, `{"life": …}` or `{"month": …}`, and answers with the child's exit code:
`python -m faults.nursery`.
"""

import dataclasses
import datetime as dt
import json
import os
import pathlib
import sys
import traceback

import boto3
from archive.worlds import SMALL, PartsOf, world

from faults.boundaries import Boundaries
from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.cleanup import clean_day, plan_cleanup
from pathstats_pipeline.archive.day import Archiver
from pathstats_pipeline.archive.history import tally_of
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.loading import load_hours
from pathstats_pipeline.stats.hourly import EVENT_INPUT, path_statistics
from pathstats_pipeline.storage.compaction import compact
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.objects import DirectoryObjects, S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse


@dataclasses.dataclass(frozen=True)
class Work:
    """Work on a directory and an S3 server, and at which boundary it dies."""

    directory: str
    log: str
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    prefix: str
    crash_at: int | None

    def objects(self) -> S3Objects:
        """The archive's store."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        return S3Objects(client, self.bucket, self.prefix)

    def watched(self) -> S3Objects:
        """The same, with a boundary before and after everything that happens from now on in this process."""
        objects = self.objects()
        boundaries = Boundaries(pathlib.Path(self.log), self.crash_at)
        boundaries.watch_client(objects.client)
        boundaries.watch_warehouse()
        boundaries.watch_landing()
        return objects


@dataclasses.dataclass(frozen=True)
class Life(Work):
    """Archive and clean-up of the day of a world: parts of so many bytes, or a single put where that is 0."""

    part_bytes: int
    batch_rows: int

    @property
    def rule(self) -> SizeRule:
        """Which way the object goes to S3."""
        return PartsOf(size_bytes=self.part_bytes) if self.part_bytes else SMALL

    def run(self) -> None:
        """As the assets do it."""
        with world(pathlib.Path(self.directory), self.watched()) as here:
            here.archive(self.rule)
            here.clean(self.batch_rows)


@dataclasses.dataclass(frozen=True)
class DayOfWork(Work):
    """A day of a simulated month: load and count what landed, archive what is over, clean up what is old."""

    day: str
    touched: list[str]
    first_day: str
    hot_days: int

    def run(self) -> None:
        """As the assets do it, one after another."""
        objects, folder = self.watched(), pathlib.Path(self.directory)
        path, landing = folder / "warehouse.duckdb", Landing(DirectoryObjects(folder / "landing"))
        day = dt.date.fromisoformat(self.day)
        now = Window.of_day(day).end
        with open_warehouse(path, lock_timeout_seconds=5) as warehouse:
            for touched in map(dt.date.fromisoformat, self.touched):
                window = Window.of_day(touched)
                assert not load_hours(warehouse, landing, window, now, lambda: objects).unreadable
                rows = path_statistics(tally_of(warehouse, window, EVENT_INPUT, lambda: objects))
                warehouse.replace_hourly(window, rows, now)
            archiver = Archiver(warehouse, objects, SizeRule(), lambda: now, "month", Claimant("month"))
            for each in Window(Window.of_day(dt.date.fromisoformat(self.first_day)).start, now).days():
                archiver.archive(each)
                verdict = plan_cleanup(warehouse, objects, each, now, Retention(self.hot_days))
                if not verdict.waiting:
                    clean_day(warehouse, objects, landing, verdict, each, 5_000, lambda: now)
        compact(path, lock_timeout_seconds=5, deleted=True)


_KINDS = {"life": Life, "month": DayOfWork}


def main() -> None:
    """Fork a child for each line."""
    # What boto3 reads from its files is then there in every child.
    boto3.client("s3", endpoint_url="http://127.0.0.1:9", region_name=REGION)
    for line in sys.stdin:
        [(kind, fields)] = json.loads(line).items()
        child = os.fork()
        if child == 0:
            try:
                _KINDS[kind](**fields).run()
            except BaseException:  # noqa: BLE001 - the parent must hear of it, whatever it is
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
