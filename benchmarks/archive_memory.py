"""Peak memory of archiving a day of 1 and of 10 million events, above that of the process before it began.

Each day is archived to a local S3 server by a fresh process: read, publish, read back, commit. The warehouse is
prepared by another one, so that nothing of its making counts. An idle process is one that has both open and has asked
each a question: DuckDB's first answer loads libraries of 37 MiB. Linux only: the peak is the kernel's own (VmHWM),
reset right before.
"""

import dataclasses
import itertools
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from benchmarks import traffic
from benchmarks.comparison import Scale, apart, line, reset_peak, status_mb
from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.day import Archiver
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import open_warehouse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GOAL_MIB: Final = 95
"""100 MB."""
GOAL_GROWTH: Final = 1.2
_BUCKET: Final = "archive"
_RULES: Final = {Strategy.SINGLE_PUT: SizeRule(multipart_mb=1e9), Strategy.MULTIPART: SizeRule(multipart_mb=0)}


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a day's events came: in how many loads, over how many hours."""

    name: str
    loads: int
    hours: int


SHAPES: Final = (Shape("24_hours", 24, 24), Shape("one_load", 1, 1), Shape("2000_loads", 2_000, 24))


@dataclasses.dataclass(frozen=True)
class Archived:
    """A day archived: its rows, the peak of its process above before in MiB, and the time that it took."""

    rows: int
    above_mb: float
    seconds: float


def compare(scale: Scale) -> Iterator[str]:
    """The peak of every shape and strategy, then the worst against the goal, and the large day against the small."""
    large = scale.pick(tiny=8_000, small=1_000_000, full=10_000_000)
    little = scale.pick(tiny=4_000, small=500_000, full=1_000_000)
    with (
        tempfile.TemporaryDirectory(prefix="pathstats-bench-") as folder,
        LocalS3(pathlib.Path(folder, "s3")).in_use() as s3,
    ):
        s3.ensure_bucket(_BUCKET)
        peaks: list[tuple[float, float]] = []
        for shape in SHAPES:
            found: dict[Strategy, list[Archived]] = {strategy: [] for strategy in Strategy}
            for rows in (little, large):
                warehouse = pathlib.Path(folder, f"{shape.name}-{rows}.duckdb")
                apart(traffic.fill_warehouse, warehouse, rows, loads=shape.loads, hours=shape.hours)
                for strategy, days in found.items():
                    # An archived day is not archived again.
                    copy = warehouse.with_stem(f"{warehouse.stem}-{strategy}")
                    shutil.copyfile(warehouse, copy)
                    day = apart(_archive, copy, s3, strategy)
                    copy.unlink()
                    days.append(day)
                    yield (
                        f"memory {shape.name} {strategy} rows={day.rows} above={day.above_mb:.0f}MiB "
                        f"seconds={day.seconds:.1f}"
                    )
                warehouse.unlink()
            peaks += [(small.above_mb, big.above_mb) for small, big in found.values()]
    yield line("archive_memory", max(itertools.chain(*peaks)), GOAL_MIB, 1, "MiB")
    small, big = max(peaks, key=lambda peak: peak[1] / peak[0])
    yield line("archive_memory_growth", big, small, GOAL_GROWTH, "MiB")


def _archive(warehouse: pathlib.Path, server: LocalS3, strategy: Strategy) -> Archived:
    """Archive the day of a warehouse in this process."""
    objects = S3Objects(_client(server), _BUCKET, warehouse.stem)
    with open_warehouse(warehouse, lock_timeout_seconds=10) as store:
        assert not objects.list("")
        assert store.loads(Window.of_day(traffic.DAY))
        reset_peak()
        before, started = status_mb("VmRSS"), time.perf_counter()
        archiver = Archiver(store, objects, _RULES[strategy], lambda: traffic.NOW, "bench", Claimant("bench"))
        [manifest] = archiver.archive(traffic.DAY)
        seconds = time.perf_counter() - started
        assert manifest.strategy is strategy
        return Archived(manifest.rows, status_mb("VmHWM") - before, seconds)


def _client(server: LocalS3) -> "S3Client":
    keys = server.credentials
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        # A proxy of the environment must not be asked for a server on loopback.
        config=Config(proxies={}),
    )
    return client
