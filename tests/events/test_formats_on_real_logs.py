import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.intake.lines import open_source, read_blocks

DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Real logs stand beside the repository and are not part of it."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="real logs are not beside this checkout (shared/data)")

FORMATS = {
    "apache-http-probing.log": ("combined", 77, 0),
    "apache2-malformed.log": ("combined", 11, 0),
    "aws-alb-http-bad-user-agent.log": ("unknown", 0, 4),
    "aws-alb-logs.log": ("unknown", 0, 14),
    "aws-cloudfront-logs.log": ("unknown", 0, 2),
    "envoy-logs.log": ("jsonl", 6, 4),  # four are Envoy's text format
    "haproxy_http.log": ("haproxy", 2, 3),  # three are failed handshakes
    "http-dos-random-uri.log": ("combined", 66, 0),
    "iis_w3c_ex031118.log": ("unknown", 0, 8),
    "iis_w3c_u_ex160110.log": ("unknown", 0, 128),
    "nginx-http-malformed.log": ("combined", 12, 0),
    "nginx-http-path-traversal.log": ("combined", 9, 0),
    "nginx-http-sqli-probing.log": ("combined", 16, 0),
    "nginx-proxy-manager-logs.log": ("combined", 1, 13),  # its own format but for one line
    "nginx_combined.log": ("combined", 8, 1),  # one line of an error log
    "traefik_clf.log": ("combined", 7, 2),  # two blank lines
}


def read(path: Path) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    """Give the format of a file, its events, and its rejected lines."""
    with open_source(path) as source:
        (block,) = read_blocks(source)
    form = detect(block.lines)
    parsed = form.parse(block.lines)
    return form.name, parsed.events, parsed.rejected


def figures(events: pl.DataFrame) -> dict[str, Any]:
    """Give the exact figures of one hour, percentiles in seconds."""
    seconds = events["response_time_ms"].drop_nulls().to_numpy() / 1000
    ranks = {f"p{rank}": float(np.percentile(seconds, rank)) if seconds.size else None for rank in (50, 95, 99)}
    return {
        "requests": events.height,
        "err4xx": events.filter(pl.col("status") // 100 == 4).height,
        "err5xx": events.filter(pl.col("status") // 100 == 5).height,
        "bytes": events["bytes_sent"].sum(),
        "uniq": events["client_ip"].n_unique(),
    } | ranks


@pytest.mark.parametrize(
    ("file", "form", "count"), [("haproxy.log", "haproxy", 17_211), ("apache_combined.log", "combined", 10_000)]
)
def test_every_hour_equals_the_golden_figures(file: str, form: str, count: int) -> None:
    """Two weeks of a production log: every line is accepted, and every hour has exactly its known figures."""
    golden = json.loads((DATA / "golden.json").read_text())[file]["by_hour"]
    name, events, rejected = read(DATA / file)
    hours = events.with_columns(hour=pl.col("event_time").dt.strftime("%Y-%m-%dT%H:00Z")).partition_by(
        "hour", as_dict=True
    )

    assert (form, count, 0) == (name, events.height, rejected.height)
    for (hour,), frame in hours.items():
        # The golden percentiles are rounded to their decimals; binary fractions of them are not.
        assert figures(frame) == {
            key: value if value is None else pytest.approx(value, rel=1e-12) for key, value in golden[str(hour)].items()
        }
    assert golden.keys() == {hour for (hour,) in hours}


@pytest.mark.parametrize("file", FORMATS)
def test_every_line_of_a_real_file_is_accounted_for(file: str) -> None:
    """Each sample is told apart by itself, and its lines are accepted and rejected as known."""
    name, events, rejected = read(DATA / "formats" / file)

    assert FORMATS[file] == (name, events.height, rejected.height)


def test_every_real_sample_is_listed() -> None:
    """A sample that is added must be listed here."""
    assert FORMATS.keys() == {file.name for file in (DATA / "formats").iterdir()}
