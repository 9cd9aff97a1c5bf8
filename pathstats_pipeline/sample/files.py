"""The files of a sample: which days, which service's lines in which file, rotated and compressed as logrotate does."""

import datetime as dt
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pathstats_pipeline.sample.damage import damaged
from pathstats_pipeline.sample.lines import RENDERERS
from pathstats_pipeline.sample.pools import Pools, pools_of
from pathstats_pipeline.sample.services import API, MOBILE, WEB, Service
from pathstats_pipeline.sample.traffic import of_day


def write_sample(
    directory: Path, *, end: dt.datetime, days: int = 3, seed: int = 7, events_per_day: int = 40_000
) -> list[Path]:
    """Write the synthetic logs of the whole UTC days before the midnight that begins `end`'s day; return the files.

    `events_per_day` lines a day over all services, about one in a thousand of them malformed. The same arguments
    give the same bytes; files of the same names are overwritten. Raises ValueError for an `end` without a zone, or
    for less than one day.
    """
    if days < 1:
        raise ValueError("a sample has at least one day")
    if end.tzinfo is None:
        raise ValueError("the end of the sample needs a time zone")
    directory.mkdir(parents=True, exist_ok=True)
    last = end.astimezone(dt.UTC).date()
    dates = [last - dt.timedelta(days=back) for back in range(days, 0, -1)]
    pools = pools_of(np.random.default_rng([seed, 0]), last.year)
    written: list[Path] = []
    web = [_day(WEB, date, events_per_day, seed, pools) for date in dates]
    for age, lines in zip(range(days - 1, -1, -1), web, strict=True):
        written.append(_write_rotated(directory / "web-access.log", age, oldest=days - 1, lines=lines))
    for service, name in ((API, "api-haproxy.log"), (MOBILE, "mobile-access.jsonl")):
        lines = [line for date in dates for line in _day(service, date, events_per_day, seed, pools)]
        (directory / name).write_bytes(_joined(lines))
        written.append(directory / name)
    return written


def _day(service: Service, date: dt.date, events_per_day: int, seed: int, pools: Pools) -> list[bytes]:
    """The lines of one service and day."""
    # One generator for each day and service: what comes before has no say in what comes after.
    rng = np.random.default_rng([seed, date.toordinal(), service.number])
    traffic = of_day(service, date, events_per_day, rng, pools)
    return damaged(service.name, RENDERERS[service.name](traffic, rng), rng)


def _write_rotated(path: Path, age: int, *, oldest: int, lines: list[bytes]) -> Path:
    """Write a day as logrotate would have left it: today's plain, those before compressed, the oldest with zstd."""
    data = _joined(lines)
    if age:
        suffix = "zst" if age == oldest and oldest > 1 else "gz"
        path = path.with_name(f"{path.name}.{age}.{suffix}")
        # No time of compression in the header: the same sample is the same bytes.
        data = pa.compress(data, codec="zstd", asbytes=True) if suffix == "zst" else gzip.compress(data, 6, mtime=0)
    path.write_bytes(data)
    return path


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
