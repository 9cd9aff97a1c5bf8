"""Traefik's common log format, by lines after its documentation."""

import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.traefik import TraefikFormat

TRAEFIK = TraefikFormat()
LINE = (
    '10.0.0.1 - - [08/Dec/2021:09:16:05 +0100] "GET /a?b HTTP/2.0" 200 414 "http://r/" "curl" 500 "test@docker" '
    '"http://10.0.0.2:80" 12ms'
)


def test_the_documented_line_fills_every_column_it_knows() -> None:
    """The duration is in milliseconds; the host asked for is not logged."""
    assert event_of(TRAEFIK, LINE) == {
        "event_time": "2021-12-08 08:16:05",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "response_time_ms": 12.0,
        "bytes_sent": 414,
        "client_ip": "10.0.0.1",
        "user_agent": "curl",
    }


@pytest.mark.parametrize(
    ("old", "new", "column", "expected"),
    [
        ('"curl"', '"Mozilla "x" y"', "user_agent", 'Mozilla "x" y'),
        ('"http://r/"', '"http://r/"q"', "user_agent", "curl"),
        ("/a?b", '/a"b', "path", '/a"b'),
        ("- - [", "- john doe [", "client_ip", "10.0.0.1"),
        ("10.0.0.1 ", "2001:db8::1 ", "client_ip", "2001:db8::1"),
        ("200 414", "- -", "status", None),
        ("GET /a?b HTTP/2.0", "- - -", "path", None),
        ("GET /a?b HTTP/2.0", "CONNECT h.com:443 HTTP/1.1", "path", "h.com:443"),
        ("GET /a?b HTTP/2.0", "GET http://h.com/c?d HTTP/1.1", "host", "h.com"),
        ("12ms", "12ms more", "response_time_ms", 12.0),
        ('"test@docker" "http://10.0.0.2:80"', '"-" "-"', "response_time_ms", 12.0),
        ('"test@docker"', '"a@docker -> b@docker"', "response_time_ms", 12.0),
    ],
)
def test_odd_lines_are_read(old: str, new: str, column: str, expected: str | float | None) -> None:
    """Traefik escapes nothing within its quotes, and writes a dash for what it does not know."""
    assert event_of(TRAEFIK, LINE.replace(old, new)).get(column) == expected


@pytest.mark.parametrize("line", [LINE.removesuffix("ms"), LINE.partition(" 500")[0], 'time="x" level=info msg="y"'])
def test_other_lines_are_rejected(line: str) -> None:
    """Combined lines have a format of their own, and what Traefik says about itself is no request."""
    assert reason_of(TRAEFIK, line) == "not a line of Traefik's common log format"
