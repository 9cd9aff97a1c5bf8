import io
import json
import unittest.mock
from collections.abc import Sequence

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from polars.testing import assert_frame_equal

from pathstats_pipeline.events.formats import jsonl
from pathstats_pipeline.events.formats.jsonl import JsonFormat
from pathstats_pipeline.events.formats.parsed import LogFormat, ParsedLines
from pathstats_pipeline.events.formats.registry import FORMATS, UnknownFormat, choose, detect
from pathstats_pipeline.events.schema import PARSED_SCHEMA
from pathstats_pipeline.intake.lines import read_blocks

VARIANTS = [variant for variants in FORMATS.values() for variant in variants]
NAMES = [f"{name}-{number}" for name, variants in FORMATS.items() for number in range(len(variants))]
TEXT_FORMATS = [variant for variant in VARIANTS if isinstance(variant, JsonFormat)]

COMBINED = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a?b HTTP/1.1" 200 5 "-" "curl \\"x\\"" 0.005'
HAPROXY = (
    '10.0.0.1:1 [02/Feb/2012:04:05:25.657] fe~ be/s 0/0/0/1/4 404 638 - - ---- 0/0/0/0/0 0/0 {a|b} "GET / HTTP/1.0"'
)
CANONICAL = '{"event_time": "2026-05-17T08:05:03Z", "path": "/a", "status": 200, "response_time_ms": 1.5}'
CADDY = '{"ts": 1.5, "request": {"uri": "/a", "headers": {"User-Agent": ["curl"]}}, "status": 200, "duration": 0.1}'
ALB = (
    "https 2023-04-26T12:23:00.186641Z app/x/1 10.0.0.1:44740 10.0.0.2:80 0.086 0.048 0.037 200 200 0 57 "
    '"GET https://www.example.com:443/a?b HTTP/1.1" "curl/7" ECDHE TLSv1.2 arn:x "Root=1" "www.example.com" "-" 1 -'
)
CLOUDFRONT = (
    "2019-12-04\t21:02:31\tLAX1\t392\t10.0.0.1\tGET\td1.cloudfront.net\t/a\t200\t-\tcurl%2F7\t-\t-\tHit\tid\t"
    "www.example.com\thttps\t23\t0.001"
)
IIS_FIELDS = "#Fields: date time cs-method cs-uri-stem c-ip cs(User-Agent) sc-status time-taken"
IIS = "2016-01-10 00:07:26 GET /a 10.0.0.1 curl+7 200 591"
ENVOY = (
    '[2016-04-15T20:17:00.310Z] "GET /a?b HTTP/2" 204 - 154 0 226 100 "10.0.0.1" "curl" "id" "host" "tcp://10.0.0.2:80"'
)
TRAEFIK = f'{COMBINED.rpartition(" ")[0]} 500 "test@docker" "http://10.0.0.2:80" 5ms'
NPM = (
    '[24/Jan/2022:16:51:02 +0000] - 404 404 - GET http www.example.com "/a?b" [Client 10.0.0.1] [Length 192] '
    '[Gzip 3.10] [Sent-to 10.0.0.2] "curl" "-"'
)
SQUID = "1286536309.586    921 10.0.0.1 TCP_MISS/200 507 GET http://www.example.com/a?b - DIRECT/10.0.0.2 text/plain"
LTSV = "host:10.0.0.1\ttime:[10/Oct/2000:13:55:36 -0700]\treq:GET /a?b HTTP/1.0\tstatus:200\tsize:5\tua:curl"
LINES = [
    ALB,
    CLOUDFRONT,
    IIS_FIELDS,
    IIS,
    ENVOY,
    TRAEFIK,
    NPM,
    SQUID,
    LTSV,
    "#Date: 2016-01-10 00:07:26",
    COMBINED,
    COMBINED.rpartition(' "-"')[0],
    f"www.example.com:80 {COMBINED}",
    HAPROXY,
    f"<134>Feb  2 04:05:25 lb haproxy[1]: {HAPROXY}",
    CANONICAL,
    CADDY,
    f"2025-12-31T17:37:40.493035218+01:00 stdout F {CADDY}",
]

NGINX = '{"time_iso8601": "2026-05-17T10:05:03+02:00", "request": "GET /a?b HTTP/1.1", "status": "200"}'
OBJECTS = [CANONICAL, CADDY, NGINX, CANONICAL.replace('"/a"', "null"), NGINX.replace("/a", "http://é/a"), "{}"]


def assert_accounted(parsed: ParsedLines, count: int) -> None:
    """Assert that each of `count` lines is in exactly one of the parts, whose shape is the promised one."""
    assert dict(parsed.events.schema) == PARSED_SCHEMA
    assert dict(parsed.rejected.schema) == {"index": pl.Int64(), "reason": pl.String()}
    assert parsed.rejected["reason"].null_count() == 0
    assert parsed.events["event_time"].null_count() == 0
    assert list(range(count)) == sorted([*parsed.events["line_number"], *parsed.rejected["index"], *parsed.headers])
    assert parsed.events["line_number"].is_sorted()
    assert parsed.rejected["index"].is_sorted()
    assert_values_are_possible(parsed.events)


def assert_values_are_possible(events: pl.DataFrame) -> None:
    """Assert the ranges that hold for every event, whatever the format."""
    assert events["status"].drop_nulls().is_between(100, 999).all()
    assert (events["bytes_sent"].drop_nulls() >= 0).all()
    assert events["response_time_ms"].drop_nulls().is_finite().all()
    assert (events["response_time_ms"].drop_nulls() >= 0).all()


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Give a real-looking line with a piece cut out, doubled, or replaced."""
    line = draw(st.sampled_from(LINES))
    start = draw(st.integers(0, len(line)))
    end = draw(st.integers(start, min(len(line), start + 12)))
    pieces = ["", " ", '"', "\\", "-", "[", "]", "{", "}", "0", "99999999999999999999", "\x00", "é", "\n", ",", "null"]
    middle = draw(st.sampled_from([*pieces, line[start:end] * 2]) | st.text(max_size=5))
    return line[:start] + middle + line[end:]


@pytest.mark.parametrize("form", VARIANTS, ids=NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(st.none() | st.text(max_size=60) | mutated(), max_size=8))
def test_every_line_is_accounted_for(form: LogFormat, lines: Sequence[str | None]) -> None:
    """Whatever the lines are, nothing is raised, and each of them is an event, rejected or a header: one of them."""
    assert_accounted(form.parse(pl.Series(lines, dtype=pl.String)), len(lines))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | mutated().map(lambda line: line.encode("utf-16-le", "surrogatepass")))
def test_every_line_of_arbitrary_bytes_is_accounted_for(data: bytes) -> None:
    """From bytes to frames no line is lost, and the format that is detected never fails on them."""
    for block in read_blocks(io.BytesIO(b"x" + data)):
        assert_accounted(detect(block.lines).parse(block.lines), block.lines.len())


@pytest.mark.parametrize("form", TEXT_FORMATS, ids=lambda form: form.field_map.name)
@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from([*OBJECTS, "", " {} ", "null", "{}{}", '{"path": ', "<1>{}"]) | mutated(), max_size=9
    ),
    line_end=st.sampled_from(["\n", "\n", "\n", "\r\n"]),
    tail=st.sampled_from([b"", b"\n", b"\xff", b"{}"]),
    slice_lines=st.integers(1, 4),
)
def test_a_block_is_read_as_its_lines_are(
    form: JsonFormat, lines: Sequence[str], line_end: str, tail: bytes, slice_lines: int
) -> None:
    """Whether a slice of a block is decoded as it stands or taken apart, each of its lines becomes the same."""
    data = line_end.join(lines).encode() + tail
    for block in read_blocks(io.BytesIO(data)):
        with unittest.mock.patch.object(jsonl, "_SLICE_LINES", slice_lines):
            read = form.parse_text(block)
        expected = form.parse(block.lines)
        assert_frame_equal(read.events, expected.events)
        assert_frame_equal(read.rejected, expected.rejected)


@settings(max_examples=60, deadline=None)
@given(
    record=st.fixed_dictionaries(
        {
            "event_time": st.sampled_from(["2026-05-17T08:05:03Z", 5, None, "x"]),
            "path": st.none() | st.text(max_size=9),
        },
        optional={
            name: st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=4,
            )
            for name in ("status", "response_time_ms", "bytes_sent", "method", "client_ip", "host", "event_id", "junk")
        },
    )
)
def test_any_json_is_accounted_for(record: dict[str, object]) -> None:
    """Objects with values of any type are read or rejected."""
    lines = pl.Series([CANONICAL, json.dumps(record), json.dumps(record, ensure_ascii=False), CANONICAL])
    parsed = choose("canonical", lines).parse(lines)

    assert_accounted(parsed, 4)
    assert {0, 3} <= set(parsed.events["line_number"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (COMBINED, "combined"),
        (HAPROXY, "haproxy"),
        (CANONICAL, "canonical"),
        (CADDY, "jsonl"),
        (ALB, "alb"),
        (CLOUDFRONT, "cloudfront"),
        (IIS_FIELDS, "w3c"),
        (ENVOY, "envoy"),
        (TRAEFIK, "traefik"),
        (NPM, "npm"),
        (SQUID, "squid"),
        (LTSV, "ltsv"),
    ],
)
def test_the_format_that_accepts_most_lines_is_detected(line: str, expected: str) -> None:
    """A sample may hold lines of other formats; most lines decide."""
    sample = pl.Series([line, "junk", HAPROXY if expected in {"combined", "traefik"} else COMBINED, line, ""])

    assert expected == detect(sample).name


def test_an_unknown_format_rejects_every_line() -> None:
    """Where no format accepts a line, all are rejected with that reason, and none is lost."""
    sample = pl.Series(["Jan  1 00:00:00 INFO started", "2016-01-10 00:07:26 GET /"])
    form = detect(sample)
    parsed = form.parse(sample)

    assert isinstance(form, UnknownFormat)
    assert_accounted(parsed, 2)
    assert parsed.rejected["reason"].unique().to_list() == ["no known format"]


def test_no_lines_are_no_events() -> None:
    """An empty block gives two empty frames, whatever the format."""
    for form in (*VARIANTS, detect(pl.Series([], dtype=pl.String))):
        assert_accounted(form.parse(pl.Series([], dtype=pl.String)), 0)


def test_a_large_block_keeps_its_order() -> None:
    """Slices that are read in parallel come back in order."""
    lines = [COMBINED.replace("/a?b", f"/{number}") for number in range(40_000)]
    events = choose("auto", pl.Series(lines)).parse(pl.Series(lines)).events

    assert [f"/{number}" for number in range(40_000)] == events["path"].to_list()


def test_a_name_that_is_no_format_is_refused() -> None:
    """A caller can tell a wrong name from a file without events."""
    with pytest.raises(KeyError):
        choose("iis", pl.Series([COMBINED]))
