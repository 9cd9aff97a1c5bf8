import datetime as dt
from typing import Any

import polars as pl
import pytest

from pathstats_pipeline.events.formats.haproxy import HaproxyFormat

NUMBERS = "fe~ be/srv1 0/0/0/1/4 404 638 - - ---- 0/0/0/0/0 0/0"
STAMP = "[02/Feb/2012:04:05:25.657]"


def parse(line: str) -> dict[str, Any]:
    """Give the only event of a line, or fail with the reason why there is none."""
    parsed = HaproxyFormat().parse(pl.Series([line]))
    assert parsed.rejected.is_empty(), parsed.rejected.item(0, "reason")
    return parsed.events.row(0, named=True)


def reason(line: str) -> str:
    """Give the reason for which a line is rejected."""
    parsed = HaproxyFormat().parse(pl.Series([line]))
    assert parsed.events.is_empty()
    return str(parsed.rejected.item(0, "reason"))


def test_an_ordinary_line_fills_every_column_it_knows() -> None:
    """A line of the HTTP log becomes an event, its accept time read as UTC."""
    event = parse(f'Feb  2 04:05:25 127.0.0.1 haproxy[9883]: 10.0.0.1:42619 {STAMP} {NUMBERS} "GET /a?b HTTP/1.0"')

    assert event == {
        "event_id": None,
        "event_time": dt.datetime(2012, 2, 2, 4, 5, 25, 657_000),
        "host": None,
        "method": "GET",
        "path": "/a",
        "status": 404,
        "response_time_ms": 4.0,
        "bytes_sent": 638,
        "client_ip": "10.0.0.1",
        "user_agent": None,
        "line_number": 0,
    }


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "Feb  2 04:05:25 127.0.0.1 haproxy[9883]: ",
        "<134>Feb  2 04:05:25 haproxy[9883]: ",
        "<134>haproxy[9883]: ",
        "2012-02-02T04:05:25.657+01:00 lb1 haproxy[9883]: ",
        "<134>1 2012-02-02T04:05:25Z lb1 haproxy 9883 - - ",
        "2012-02-02T04:05:25.657+01:00 stdout F ",
        "some collector wrote this: ",
    ],
)
def test_any_prefix_is_accepted(prefix: str) -> None:
    """Whatever stands before the client is no part of the line."""
    event = parse(f'{prefix}10.0.0.1:42619 {STAMP} {NUMBERS} "GET /a HTTP/1.0"')

    assert (event["client_ip"], event["path"]) == ("10.0.0.1", "/a")


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("10.0.0.1:1234", "10.0.0.1"),
        ("2001:db8::1:1234", "2001:db8::1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("::ffff:10.0.0.1:1234", "::ffff:10.0.0.1"),
        ("unix:1", None),
    ],
)
def test_clients(client: str, expected: str | None) -> None:
    """The client's port is dropped, also behind IPv6; a Unix socket has no address."""
    assert expected == parse(f'{client} {STAMP} {NUMBERS} "GET / HTTP/1.0"')["client_ip"]


@pytest.mark.parametrize(
    ("timers", "status", "size", "expected"),
    [
        ("-1/-1/-1/-1/12", "401", "262", (401, 12.0, 262)),  # Tt counts where the others are unknown
        ("0/0/0/1/0", "200", "0", (200, 0.0, 0)),
        ("0/0/0/1/-1", "-1", "0", (None, None, 0)),
        ("0/0/0/1/+25", "200", "+739", (200, None, None)),  # logasap
        ("170/0/0/3/173", "000", "-", (None, 173.0, None)),
    ],
)
def test_numbers(timers: str, status: str, size: str, expected: tuple[int | None, float | None, int | None]) -> None:
    """Tt is the response time; what is negative or not final is unknown."""
    event = parse(f'10.0.0.1:1 {STAMP} fe be/<NOSRV> {timers} {status} {size} - - PR-- 0/0/0/0/0 0/0 "GET / HTTP/1.0"')

    assert expected == (event["status"], event["response_time_ms"], event["bytes_sent"])


@pytest.mark.parametrize(
    "request_part",
    [
        '"GET /a HTTP/1.1"',
        '{example.com|curl} "GET /a HTTP/1.1"',
        '{example.com} {text/html} "GET /a HTTP/1.1"',
        '{a "quoted" agent} "GET /a HTTP/1.1"',
        '{a}b} "GET /a HTTP/1.1"',
        '"GET /a HTTP/1.1" 0/0000000000000000/0/0/0 -/TLSv1.3/TLS_AES_128_GCM_SHA256',  # httpslog
        '"GET /a?cut-at-the-length-lim',
    ],
)
def test_what_stands_around_the_request(request_part: str) -> None:
    """Captured headers before it, more fields behind it, or a line cut short do not hide a request."""
    event = parse(f"10.0.0.1:1 {STAMP} {NUMBERS} {request_part}")

    assert (event["method"], event["path"]) == ("GET", "/a")


def test_a_bad_request_is_an_event() -> None:
    """`<BADREQ>` is traffic without method and path."""
    event = parse(f'10.0.0.1:1 {STAMP} fe fe/<NOSRV> -1/-1/-1/-1/0 400 187 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"')

    assert (event["method"], event["path"], event["status"]) == (None, None, 400)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"10.0.0.1:1 {STAMP} fe/1: SSL handshake failure", "haproxy connection error line: it has no request"),
        (f"10.0.0.1:1 {STAMP} fe/1: Connection error during", "haproxy connection error line: it has no request"),
        (f"10.0.0.1:1 {STAMP} fe be/srv 0/0/5007 212 -- 0/0/0/0/3 0/0", "haproxy TCP log line: it has no request"),
        ("Feb  2 04:05:25 lb haproxy[1]: Proxy fe started.", "not a line of the haproxy HTTP log format"),
        (f'10.0.0.1:1 [30/Feb/2012:04:05:25.657] {NUMBERS} "GET / HTTP/1.0"', "bad time"),
        (f'10.0.0.1:1 {STAMP} fe be/s 0/0/0/1/x 200 5 - - ---- 0/0/0/0/0 0/0 "GET / HTTP/1.0"', "bad response time"),
        (f'10.0.0.1:1 {STAMP} fe be/s 0/0/0/1/2 abc 5 - - ---- 0/0/0/0/0 0/0 "GET / HTTP/1.0"', "bad status"),
    ],
)
def test_other_lines_are_rejected_with_a_reason(line: str, expected: str) -> None:
    """What HAProxy writes besides requests is rejected, and the reason says what it is."""
    assert expected == reason(line)
