import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pathstats_pipeline.events.formats.parsed import ParsedLines
from pathstats_pipeline.events.formats.registry import FORMATS as REGISTRY
from pathstats_pipeline.events.formats.registry import choose, detect
from pathstats_pipeline.intake.lines import open_source, read_blocks

DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Real logs stand beside the repository and are not part of it."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="real logs are not beside this checkout (shared/data)")

FORMATS = {
    "apache-http-probing.log": ("combined", 77, 0, 0),
    "apache2-malformed.log": ("combined", 11, 0, 0),
    "aws-alb-http-bad-user-agent.log": ("alb", 4, 0, 0),
    "aws-alb-logs.log": ("alb", 14, 0, 0),
    "aws-cloudfront-logs.log": ("cloudfront", 2, 0, 0),
    "envoy-logs.log": ("envoy", 10, 0, 0),  # six are JSON
    "haproxy_http.log": ("haproxy", 2, 3, 0),  # three are failed handshakes
    "http-dos-random-uri.log": ("combined", 66, 0, 0),
    "iis_w3c_ex031118.log": ("w3c", 0, 4, 4),  # its fields have a date and no time of day
    "iis_w3c_u_ex160110.log": ("w3c", 28, 0, 100),
    "nginx-http-malformed.log": ("combined", 12, 0, 0),
    "nginx-http-path-traversal.log": ("combined", 9, 0, 0),
    "nginx-http-sqli-probing.log": ("combined", 16, 0, 0),
    "nginx-proxy-manager-logs.log": ("npm", 12, 2, 0),  # two are of an error log
    "nginx_combined.log": ("combined", 8, 1, 0),  # one is of an error log
    "traefik_clf.log": ("traefik", 7, 2, 0),  # two blank lines
}
"""What each sample is, and how many of its lines are accepted, rejected and headers."""

REASONS = {
    "haproxy_http.log": ["haproxy connection error line: it has no request"] * 3,
    "iis_w3c_ex031118.log": ["no time", "no time", "fewer fields than named", "no time"],
    "nginx-proxy-manager-logs.log": ["nginx error log line, not an access log line"] * 2,
    "nginx_combined.log": ["nginx error log line, not an access log line"],
    "traefik_clf.log": ["blank line"] * 2,
}

ALSO_READ_BY = {"combined": {"common", "npm"}, "traefik": {"combined", "common", "npm"}}
"""Formats that read the lines of another, too: the general ones, and those whose files hold others' lines."""


def read(path: Path) -> tuple[str, ParsedLines]:
    """Give the format of a file, and what it makes of its lines."""
    with open_source(path) as source:
        (block,) = read_blocks(source)
    form = detect(block.lines)
    return form.name, form.parse(block.lines)


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
    name, parsed = read(DATA / file)
    events, rejected = parsed.events, parsed.rejected
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
    name, parsed = read(DATA / "formats" / file)

    assert FORMATS[file] == (name, parsed.events.height, parsed.rejected.height, parsed.headers.len())
    assert REASONS.get(file, []) == parsed.rejected["reason"].to_list()


@pytest.mark.parametrize("file", FORMATS)
def test_no_other_format_reads_a_real_file(file: str) -> None:
    """By name, a sample of one format gives no events in any other, but in those that are made for its lines, too."""
    own = FORMATS[file][0]
    with open_source(DATA / "formats" / file) as source:
        (block,) = read_blocks(source)
    reading = {name for name in REGISTRY if choose(name, block.lines).parse(block.lines).events.height}

    if file == "iis_w3c_ex031118.log":
        assert reading == set()
    elif own == "envoy":
        assert reading == {"envoy", "jsonl"}
    elif own == "npm":  # one line is a combined one
        assert reading == {"npm", "combined", "common"}
    else:
        assert reading == {own} | ALSO_READ_BY.get(own, set())


def test_every_real_sample_is_listed() -> None:
    """A sample that is added must be listed here."""
    assert FORMATS.keys() == {file.name for file in (DATA / "formats").iterdir()}
