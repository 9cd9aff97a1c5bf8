"""Squid's native log, by lines after its documentation."""

import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.squid import SquidFormat

SQUID = SquidFormat()
LINE = "1286536309.586    921 192.168.0.68 TCP_MISS/200 507 POST http://x.co:81/f?a bob DIRECT/72.5.1.1 text/plain"


def test_the_documented_line_fills_every_column_it_knows() -> None:
    """The elapsed time is in milliseconds, and the time that of the end, in unix seconds."""
    assert event_of(SQUID, LINE) == {
        "event_time": "2010-10-08 11:11:49.586000",
        "host": "x.co",
        "method": "POST",
        "path": "/f",
        "status": 200,
        "response_time_ms": 921.0,
        "bytes_sent": 507,
        "client_ip": "192.168.0.68",
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("CONNECT www.x.com:443", ("CONNECT", "www.x.com:443", "www.x.com")),
        ("CONNECT [2001:db8::2]:443", ("CONNECT", "[2001:db8::2]:443", "2001:db8::2")),
        ("GET /", ("GET", "/", None)),
        ("GET http://x.com", ("GET", "/", "x.com")),
        ("GET http://x.com/a b/c?d", ("GET", "/a b/c", "x.com")),
        ("GET ftp://h.com/info", ("GET", "/info", "h.com")),
        ("NONE error:invalid-request", (None, None, None)),
        ("- error:transaction-end-before-headers", (None, None, None)),
    ],
)
def test_each_kind_of_target_is_read(asked: str, expected: tuple[str | None, ...]) -> None:
    """Where Squid could read no request, there is an event without method and path."""
    event = event_of(SQUID, LINE.replace("POST http://x.co:81/f?a", asked))

    assert expected == (event.get("method"), event.get("path"), event.get("host"))


@pytest.mark.parametrize("result", ["NONE_NONE/000", "TCP_MISS_ABORTED/000", "UDP_MISS/-"])
def test_no_status_is_null(result: str) -> None:
    """A client that went away before the answer got none."""
    assert "status" not in event_of(SQUID, LINE.replace("TCP_MISS/200", result))


def test_addresses_of_version_6_and_logged_headers_are_no_matter() -> None:
    """`log_mime_hdrs` puts both headers behind the content type."""
    line = LINE.replace("192.168.0.68", "2001:db8::1").replace("DIRECT/72.5.1.1", "HIER_DIRECT/2001:db8::9")
    event = event_of(SQUID, f"{line} [Host: x.co\\r\\n] [HTTP/1.1 200 OK\\r\\n]")

    assert event == {**event_of(SQUID, LINE), "client_ip": "2001:db8::1"}


@pytest.mark.parametrize("line", ["1286536309 1 a", "2010/10/08 11:11:49| Starting Squid Cache", LINE[:60]])
def test_other_lines_are_rejected(line: str) -> None:
    """Lines of cache.log, and lines that were cut, are none."""
    assert reason_of(SQUID, line) == "not a line of Squid's native log format"
