import datetime as dt
from typing import Any

import polars as pl
import pytest

from pathstats_pipeline.events.formats.clf import ClfFormat

STAMP = "[17/May/2015:10:05:03 +0000]"


def parse(line: str, form: ClfFormat | None = None) -> dict[str, Any]:
    """Give the only event of a line, or fail with the reason why there is none."""
    parsed = (form or ClfFormat()).parse(pl.Series([line]))
    assert parsed.rejected.is_empty(), parsed.rejected.item(0, "reason")
    return parsed.events.row(0, named=True)


def reason(line: str) -> str:
    """Give the reason for which a line is rejected."""
    parsed = ClfFormat().parse(pl.Series([line]))
    assert parsed.events.is_empty()
    return str(parsed.rejected.item(0, "reason"))


def request(text: str) -> dict[str, Any]:
    """Give the event of a combined line with this request."""
    return parse(f'10.0.0.1 - - {STAMP} "{text}" 400 0 "-" "-"')


def with_tail(tail: str, form: ClfFormat | None = None) -> float | None:
    """Give the response time of a combined line that ends so."""
    value = parse(f'10.0.0.1 - - {STAMP} "GET / HTTP/1.1" 200 5 "-" "curl"{tail}', form)["response_time_ms"]
    return None if value is None else float(value)


def test_an_ordinary_line_fills_every_column_it_knows() -> None:
    """A combined line becomes an event; what it does not tell is NULL."""
    event = parse(f'10.0.0.1 - bob {STAMP} "GET /a;b?c=d HTTP/1.1" 200 123 "http://r/" "Mozilla/5.0 (X11)"')

    assert event == {
        "event_id": None,
        "event_time": dt.datetime(2015, 5, 17, 10, 5, 3),
        "host": None,
        "method": "GET",
        "path": "/a;b",
        "status": 200,
        "response_time_ms": None,
        "bytes_sent": 123,
        "client_ip": "10.0.0.1",
        "user_agent": "Mozilla/5.0 (X11)",
        "line_number": 0,
    }


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("17/May/2015:10:05:03 +0200", "2015-05-17T08:05:03.000000"),
        ("01/Jan/2016:00:30:00 +1100", "2015-12-31T13:30:00.000000"),  # into the year before
        ("31/Dec/2015:23:30:00 -0730", "2016-01-01T07:00:00.000000"),  # half-hour offsets exist
        ("17/May/2015:10:05:03.123 +0200", "2015-05-17T08:05:03.123000"),  # Apache's msec_frac
        ("2015-05-17T10:05:03+02:00", "2015-05-17T08:05:03.000000"),  # nginx's $time_iso8601
    ],
)
def test_times_become_utc(stamp: str, expected: str) -> None:
    """Whatever the offset, an event's time is UTC."""
    event = parse(f'10.0.0.1 - - [{stamp}] "GET / HTTP/1.1" 200 5 "-" "-"')

    assert expected == event["event_time"].isoformat(timespec="microseconds")


def test_offsets_may_differ_from_line_to_line() -> None:
    """Lines of one block are read each by its own offset."""
    lines = [
        f'10.0.0.1 - - [17/May/2015:10:05:03 {zone}] "GET / HTTP/1.1" 200 5' for zone in ("+0000", "+0200", "-0700")
    ]
    hours = ClfFormat().parse(pl.Series(lines)).events["event_time"].dt.hour()

    assert hours.to_list() == [10, 8, 17]


@pytest.mark.parametrize(
    "stamp", ["30/Feb/2015:10:05:03 +0000", "17/May/2015:25:05:03 +0000", "17/Mai/2015:10:05:03 +0000", "now"]
)
def test_impossible_times_are_rejected(stamp: str) -> None:
    """A line whose time does not exist is rejected, for that reason."""
    assert reason(f'10.0.0.1 - - [{stamp}] "GET / HTTP/1.1" 200 5 "-" "-"') == "bad time"


def test_times_before_1970_are_rejected() -> None:
    """A year outside 1970 to 9999 is a clock that was never set."""
    found = reason('10.0.0.1 - - [17/May/1969:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "-"')

    assert found == "time outside the years 1970 to 9999"


@pytest.mark.parametrize(
    ("text", "method", "path"),
    [
        ("GET / HTTP/1.1", "GET", "/"),
        ("GET /", "GET", "/"),  # HTTP/0.9
        ("GET /a?b#c HTTP/1.1", "GET", "/a"),
        ("GET /a#c?b HTTP/2", "GET", "/a"),
        ("GET //phpMyAdmin/ HTTP/1.1", "GET", "//phpMyAdmin/"),  # not an authority
        ("GET /a b c HTTP/1.1", "GET", "/a b c"),  # unescaped blanks in the target
        ("GET http://example.com:8080/a?b HTTP/1.1", "GET", "/a"),
        ("GET http://example.com HTTP/1.1", "GET", "/"),
        ("OPTIONS * HTTP/1.0", "OPTIONS", "*"),
        ("CONNECT example.com:443 HTTP/1.1", "CONNECT", "example.com:443"),
        ("VERSION-CONTROL /a HTTP/1.1", "VERSION-CONTROL", "/a"),
        (r"GET /\"quoted\" HTTP/1.1", "GET", r"/\"quoted\""),  # escapes stay as logged
        (r"GET /\x16 HTTP/1.1", "GET", r"/\x16"),
        ("GET /haproxy-status;csv;norefresh HTTP/1.1", "GET", "/haproxy-status;csv;norefresh"),
        (r"\x16\x03\x01\x01 \x02", None, r"\x16\x03\x01\x01 \x02"),  # a TLS probe
        ("HELP", None, "HELP"),
        (r"Gh0st\xAD\x00?x", None, r"Gh0st\xAD\x00?x"),  # as received: nothing is dropped
        ("A" * 33 + " /", None, "A" * 33 + " /"),  # no method is that long
        ("-", None, None),
        ("", None, None),
        ("<BADREQ>", None, None),
    ],
)
def test_requests(text: str, method: str | None, path: str | None) -> None:
    """A request gives its method and path; one that is not HTTP is an event without method."""
    event = request(text)

    assert (method, path) == (event["method"], event["path"])


def test_an_absolute_target_names_the_host() -> None:
    """The authority of an absolute target is the host where nothing else is."""
    assert request("GET http://u@example.com:8080/a HTTP/1.1")["host"] == "example.com"


@pytest.mark.parametrize(
    ("lead", "host", "client"),
    [
        ("10.0.0.1 - -", None, "10.0.0.1"),
        ("10.0.0.1 -", None, "10.0.0.1"),  # one field only
        ("10.0.0.1 - a user name", None, "10.0.0.1"),
        ("10.0.0.1 - a [b] c", None, "10.0.0.1"),
        ("www.example.com 10.0.0.1 - -", "www.example.com", "10.0.0.1"),
        ("www.example.com:80 10.0.0.1 - bob", "www.example.com", "10.0.0.1"),
        ("www.example.com:443 2001:db8::1 - -", "www.example.com", "2001:db8::1"),
        ("- 10.0.0.1 - -", None, "10.0.0.1"),  # an unknown virtual host
        ("2001:db8::1 - -", None, "2001:db8::1"),
        ("[fd00::1]:4711 - -", None, "fd00::1"),
        ("crawler.example.net - -", None, "crawler.example.net"),  # HostnameLookups On
        ("10.0.0.1, 10.0.0.2 - -", None, "10.0.0.1"),  # X-Forwarded-For in the client's place
        ("- - -", None, None),
    ],
)
def test_what_stands_before_the_time(lead: str, host: str | None, client: str | None) -> None:
    """A virtual host stands in front of the client only where the second word is an address."""
    event = parse(f'{lead} {STAMP} "GET / HTTP/1.1" 200 5 "-" "curl"')

    assert (host, client) == (event["host"], event["client_ip"])


@pytest.mark.parametrize(
    ("status", "size", "expected"),
    [
        ("200", "0", (200, 0)),
        ("-", "-", (None, None)),
        ("0", "5", (None, 5)),
        ("000", "5", (None, 5)),
        ("-1", "-1", (None, None)),
        ("1000", "99999999999999999999", (None, None)),
    ],
)
def test_numbers(status: str, size: str, expected: tuple[int | None, int | None]) -> None:
    """Unknown numbers are NULL; no bytes are 0 bytes."""
    event = parse(f'10.0.0.1 - - {STAMP} "GET / HTTP/1.1" {status} {size} "-" "-"')

    assert expected == (event["status"], event["bytes_sent"])


@pytest.mark.parametrize(("numbers", "expected"), [("abc 5", "bad status"), ("200 5x", "bad bytes")])
def test_what_is_no_number_is_rejected(numbers: str, expected: str) -> None:
    """A word where a number belongs says that the line is of another format."""
    assert expected == reason(f'10.0.0.1 - - {STAMP} "GET / HTTP/1.1" {numbers} "-" "-"')


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", None),
        (" 0.005", 5.0),  # nginx $request_time
        (" 1234", 1.234),  # Apache %D
        (" 12ms", 12.0),
        (" 1500us", 1.5),
        (" 2s", 2000.0),
        (' "0.005"', 5.0),
        (' "-"', None),  # nginx's default: "$http_x_forwarded_for"
        (' "10.0.0.7, 10.0.0.8"', None),
        (' "10.0.0.7" 0.250', 250.0),
        (' "-" rt=0.005 uct="0.000" urt="0.004"', 5.0),  # the upstream's time is not ours
        (' request_time="0.005"', 5.0),
        (' urt="0.004"', None),
        (" 0.120 0.118 .", 120.0),  # $request_time $upstream_response_time $pipe
        (' 500 "router" "http://10.0.0.1:80" 0ms', 0.0),  # Traefik
        (" 612 0.003 [default-web-80] [] 10.0.0.5:80 12 0.003 200 8a5b3c", 3.0),  # ingress-nginx
        (" 1534 20912", None),  # combinedio: bytes in and out
        (" -", None),
        (" -5", None),
    ],
)
def test_request_times(tail: str, expected: float | None) -> None:
    """A written unit wins; a point means seconds; a bare integer microseconds; what is not clear is NULL."""
    assert expected == with_tail(tail)


@pytest.mark.parametrize(("unit", "expected"), [("auto", 0.25), ("us", 0.25), ("ms", 250.0), ("s", 250_000.0)])
def test_the_unit_can_be_told(unit: Any, expected: float) -> None:
    """`time_unit` decides for a number without a unit, and never against a written one."""
    assert expected == with_tail(" 250", ClfFormat(time_unit=unit))
    assert with_tail(" 7ms", ClfFormat(time_unit=unit)) == 7.0


@pytest.mark.parametrize(
    ("tail", "expected"), [("", None), (" 0.005", 5.0), (" 1234", 1.234), (' "http://referer/"', None)]
)
def test_common_lines_are_accepted(tail: str, expected: float | None) -> None:
    """A common line, with or without a time, is read in a combined file, and has no user agent."""
    event = parse(f'10.0.0.1 - - {STAMP} "GET / HTTP/1.1" 200 5{tail}')

    assert (expected, None) == (event["response_time_ms"], event["user_agent"])


@pytest.mark.parametrize(
    "prefix",
    [
        "2025-12-31T17:37:40.493035218+01:00 stdout F ",
        "<190>Feb  2 04:05:24 web1 nginx: ",
        "Feb  2 04:05:24 web1 nginx[12]: ",
        "<190>1 2025-12-31T17:37:40Z web1 nginx 12 access - ",
        '<190>1 2025-12-31T17:37:40Z web1 nginx 12 - [a b="c"] ',
        "2025-12-31T17:37:40.4+01:00 web1 nginx: ",
    ],
)
def test_a_carriers_prefix_is_taken_off(prefix: str) -> None:
    """What a container runtime or syslog writes before a line is no part of it."""
    event = parse(f'{prefix}10.0.0.1 - - {STAMP} "GET /a HTTP/1.1" 200 5 "-" "-"')

    assert (event["client_ip"], event["path"]) == ("10.0.0.1", "/a")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "blank line"),
        (" \t", "blank line"),
        ("hello", "not a line of the common or combined log format"),
        (f'10.0.0.1 - - {STAMP} "GET / HTT', "not a line of the common or combined log format"),
        ("2021/12/01 13:53:33 [error] 31#31: *46 open() failed", "nginx error log line, not an access log line"),
    ],
)
def test_other_lines_are_rejected_with_a_reason(line: str, expected: str) -> None:
    """What is no access log line is rejected, and the reason says what it is."""
    assert expected == reason(line)


def test_a_line_too_long_to_keep_is_rejected() -> None:
    """NULL stands for a line that was too long; it keeps its place."""
    parsed = ClfFormat().parse(pl.Series([None, f'10.0.0.1 - - {STAMP} "GET / HTTP/1.1" 200 5'], dtype=pl.String))

    assert parsed.rejected.rows() == [(0, "line longer than 1 MiB")]
    assert parsed.events["line_number"].to_list() == [1]
