"""Log files made of the benchmark's traffic, and what the intake does with one: for every comparison of ingest.

A file is ingested as the command does it, from its survey to the record that it is done, into a fresh directory.
"""

import functools
import pathlib
import shutil
from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from benchmarks import traffic
from pathstats_pipeline.archive import jsonl
from pathstats_pipeline.events.formats.registry import choose
from pathstats_pipeline.intake.ingest import IngestReport, Intake, ingest_file
from pathstats_pipeline.intake.limits import CLOCK_NEVER_SET
from pathstats_pipeline.intake.logfiles import PathLogFile
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import DirectoryObjects

_REFERERS: Final = pl.Series(["-", "-", "-", "https://shop.example/", "https://news.example/today"])
_QUERIES: Final = pl.Series(["", "", "", "?page=2", "?utm_source=mail&utm_campaign=spring"])
_AGENTS: Final = pl.Series(
    [
        f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36"
        for n in range(60, 140)
    ]
)


def combined_lines(events: pl.DataFrame) -> pl.Series:
    """Apache's combined log. A visitor has one browser, and some 20,000 visitors an hour are enough."""
    random = np.random.default_rng(events.height)
    client = pl.col("client_ip").str.replace(r"[0-9]$", "0")
    agent = client.str.extract("([0-9]+)$").cast(pl.Int64) % _AGENTS.len()
    return events.select(
        pl.format(
            '{} - - [{}] "{} {}{} HTTP/1.1" {} {} "{}" "{}"',
            client,
            pl.col("event_time").dt.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "method",
            "path",
            _QUERIES.gather(random.integers(0, _QUERIES.len(), events.height)),
            "status",
            "bytes_sent",
            _REFERERS.gather(random.integers(0, _REFERERS.len(), events.height)),
            pl.lit(_AGENTS).gather(agent),
        ).alias("line")
    ).to_series()


def nginx_lines(events: pl.DataFrame) -> pl.Series:
    """The lines of `log_format ... escape=json`, with nginx's own variables; milliseconds are what it has of a time."""
    return events.select(
        pl.struct(
            time_iso8601=pl.col("event_time").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            remote_addr="client_ip",
            http_host="host",
            request_method="method",
            request_uri="path",
            status="status",
            body_bytes_sent="bytes_sent",
            request_time=(pl.col("response_time_ms") / 1000).round(3),
            http_user_agent="user_agent",
        )
        .struct.json_encode()
        .alias("line")
    ).to_series()


LINES: Final[dict[str, Callable[[pl.DataFrame], pl.Series]]] = {
    "combined": combined_lines,
    "canonical": jsonl.to_lines,
    "nginx": nginx_lines,
}


def write(path: pathlib.Path, rows: int, name: str) -> None:
    """An hour of traffic in one of the ways of writing lines."""
    with path.open("wb") as file:
        for events in traffic.events(rows, traffic.HOUR):
            file.write(jsonl.to_bytes(LINES[name](events)))


def ingest(source: pathlib.Path, landing: pathlib.Path, format_name: str) -> IngestReport:
    """Ingest a file into a landing zone that begins empty."""
    shutil.rmtree(landing, ignore_errors=True)
    chooser = functools.partial(choose, format_name)
    return ingest_file(
        PathLogFile(source), Intake(Landing(DirectoryObjects(landing)), CLOCK_NEVER_SET, traffic.NOW, chooser)
    )
