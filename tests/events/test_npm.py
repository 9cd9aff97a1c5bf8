"""Nginx proxy manager's lines, by the layouts in its configuration."""

import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.npm import NpmFormat

NPM = NpmFormat()
PROXY = (
    '[01/Oct/2025:14:32:15 +0200] HIT 200 200 - GET https example.com "/api/users?a" [Client 10.0.0.1] [Length 1543] '
    '[Gzip 2.45] [Sent-to 10.0.0.2:8080] "curl" "https://example.com/"'
)
STANDARD = PROXY.replace("HIT 200 200", "200").replace(" [Sent-to 10.0.0.2:8080]", "")


@pytest.mark.parametrize("line", [PROXY, STANDARD])
def test_both_layouts_fill_every_column_they_know(line: str) -> None:
    """Proxy hosts have a cache and an upstream status; nobody logs a request time."""
    assert event_of(NPM, line) == {
        "event_time": "2025-10-01 12:32:15",
        "host": "example.com",
        "method": "GET",
        "path": "/api/users",
        "status": 200,
        "bytes_sent": 1543,
        "client_ip": "10.0.0.1",
        "user_agent": "curl",
    }


@pytest.mark.parametrize("tried", ["- -", "MISS 502, 200", "- 502 : 200", "EXPIRED -"])
def test_the_own_status_is_the_last(tried: str) -> None:
    """Several upstreams may have been tried before."""
    assert event_of(NPM, PROXY.replace("HIT 200", tried))["status"] == 200


def test_what_is_no_http_is_an_event() -> None:
    """It has neither method nor host nor path."""
    event = event_of(NPM, PROXY.replace("200 - GET https example.com", "400 - - http -").replace("/api/users?a", "-"))

    assert not {"method", "host", "path"} & event.keys()
    assert event["status"] == 400


def test_its_default_host_writes_combined_lines() -> None:
    """They are read, too; lines of its error log are named."""
    combined = '10.0.0.1 - - [24/Jan/2022:16:22:14 +0000] "GET /d HTTP/1.1" 404 552 "-" "curl"'

    assert event_of(NPM, combined)["path"] == "/d"
    assert reason_of(NPM, "2022/01/24 16:33:06 [error] 334#334: *338 x").startswith("nginx error log line")
