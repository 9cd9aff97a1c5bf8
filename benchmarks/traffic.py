"""The events that every comparison runs on: synthetic, seeded, made batch by batch.

5,000 paths drawn by Zipf's law, 200,000 addresses, lognormal times; the paths hold no ids, so that folding templates
is not what is measured. Here also: a warehouse full of them. What is measured stands in one file a comparison.
"""

import datetime as dt
import pathlib
from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.warehouse import open_warehouse

DAY: Final = dt.date(2026, 1, 15)
HOUR: Final = dt.datetime.combine(DAY, dt.time(12))
NOW: Final = dt.datetime.combine(DAY, dt.time()) + dt.timedelta(days=5)
BATCH_ROWS: Final = 250_000
N_PATHS: Final = 5_000
N_ADDRESSES: Final = 200_000
_HOUR_US: Final = 3_600_000_000

_PATHS: Final = pl.Series([f"/shop/section-{n % 40}/item{n:04d}.html" for n in range(N_PATHS)])
_ADDRESSES: Final = pl.Series([f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(N_ADDRESSES)])
_AGENTS: Final = pl.Series(
    [f"Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0" for n in range(60, 140)]
)
_HOSTS: Final = pl.Series(["www.example.com", "shop.example.com", "static.example.com"])
_METHODS: Final = pl.Series(["GET", "POST", "HEAD"])
_STATUSES: Final = np.array([200, 304, 404, 500], np.int16)
_NOTHING_REJECTED: Final = pl.DataFrame(
    schema={"source": pl.String(), "line_number": pl.Int64(), "raw": pl.Binary(), "reason": pl.String()}
)
_ZIPF: Final = np.cumsum(1 / np.arange(1, N_PATHS + 1)) / np.sum(1 / np.arange(1, N_PATHS + 1))


def events(rows: int, hour: dt.datetime, *, name: str = "bench") -> Iterator[pl.DataFrame]:
    """Events of one hour, in the order of their time, in batches; the same for the same arguments."""
    random = np.random.default_rng(list(name.encode()))
    for start in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - start)
        low, high = (_HOUR_US * edge // rows for edge in (start, start + count))
        yield pl.DataFrame(
            {
                "event_id": pl.select(pl.format(f"{name}-{{}}", pl.int_range(start, start + count))).to_series(),
                "event_time": np.datetime64(hour, "us") + np.sort(random.integers(low, high, count)).view("m8[us]"),
                "host": _HOSTS.gather(random.integers(0, _HOSTS.len(), count)),
                "method": _METHODS.gather(random.choice(3, count, p=(0.9, 0.08, 0.02))),
                "path": _PATHS.gather(np.searchsorted(_ZIPF, random.random(count))),
                "status": random.choice(_STATUSES, count, p=(0.85, 0.08, 0.06, 0.01)),
                "response_time_ms": np.round(random.lognormal(3, 1, count), 3),
                "bytes_sent": random.integers(200, 60_000, count),
                "client_ip": _ADDRESSES.gather(random.integers(0, N_ADDRESSES, count)),
                "user_agent": _AGENTS.gather(random.integers(0, _AGENTS.len(), count)),
            },
            schema=EVENT_SCHEMA,
        )


def day_of_loads(rows: int, loads: int, hours: int) -> Iterator[tuple[Load, int]]:
    """Loads of about the same size, spread evenly over the first hours of the day, and how many events each has."""
    start = Window.of_day(DAY).start
    for at in range(loads):
        hour = start + dt.timedelta(hours=at * hours // loads)
        yield Load(hour, f"load-{at:05d}"), rows * (at + 1) // loads - rows * at // loads


def fill_warehouse(path: pathlib.Path, rows: int, *, loads: int = 1, hours: int = 1) -> None:
    """Create a warehouse with a day of events, appended load by load with its ledger as the asset does it."""
    with open_warehouse(path, lock_timeout_seconds=10) as warehouse:
        for load, count in day_of_loads(rows, loads, hours):
            chunks = ((chunk, _NOTHING_REJECTED) for chunk in events(count, load.hour, name=load.load_id))
            warehouse.append_load(load, chunks, lambda chunk: digest_of(to_lines(chunk)), NOW)
        warehouse.checkpoint()
