"""Envoy's text lines, in its default layout and in Istio's, and JSON lines among them."""

import json

import polars as pl
import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.envoy import EnvoyFormat
from pathstats_pipeline.events.formats.registry import detect

ENVOY = EnvoyFormat()
STAMP = "[2016-04-15T20:17:00.310Z]"
DEFAULT = (
    f'{STAMP} "POST /api/v1/locations?a=b HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21" "x.com:80" "-"'
)
ISTIO = (
    f'{STAMP} "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 4 "-" "curl" "84961386" "httpbin:8000" '
    '"127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound_.8000_ default'
)


def test_the_documented_line_fills_every_column() -> None:
    """The duration is in milliseconds, and bytes are those that were sent."""
    assert event_of(ENVOY, DEFAULT) == {
        "event_time": "2016-04-15 20:17:00.310000",
        "host": "x.com",
        "method": "POST",
        "path": "/api/v1/locations",
        "status": 204,
        "response_time_ms": 226.0,
        "bytes_sent": 0,
        "client_ip": "10.0.35.28",
        "user_agent": "nsq2http",
    }


def test_lines_of_istio_name_the_peer() -> None:
    """Where the log has the address of the peer, it is taken, and not the header that any client can write."""
    event = event_of(ENVOY, ISTIO)

    assert (event["client_ip"], event["path"], event["status"]) == ("10.44.1.23", "/status/418", 418)
    assert event == event_of(ENVOY, ISTIO.replace('via_upstream - "-"', '"-" "-"'))  # releases before 1.9


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET http://h.com:8080/a?b HTTP/1.1", ("GET", "/a")),
        ("CONNECT h.com:443 HTTP/1.1", ("CONNECT", "h.com:443")),
        ("CONNECT - HTTP/2", ("CONNECT", None)),
        ('GET /a "b" c HTTP/1.1', ("GET", '/a "b" c')),
        ("GET /a -", ("GET", "/a")),
        ("- - HTTP/1.1", (None, None)),
    ],
)
def test_odd_requests_are_requests(request_line: str, expected: tuple[str | None, str | None]) -> None:
    """What Envoy could not read has no method and no path."""
    event = event_of(ENVOY, DEFAULT.replace("POST /api/v1/locations?a=b HTTP/2", request_line))

    assert expected == (event.get("method"), event.get("path"))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [("-", None), ("2001:db8::1", "2001:db8::1"), ("[2001:db8::1]:54, 10.0.0.2", "2001:db8::1")],
)
def test_the_default_layout_has_the_forwarded_addresses_only(forwarded: str, client: str | None) -> None:
    """The first of them is the client."""
    assert event_of(ENVOY, DEFAULT.replace("10.0.35.28", forwarded)).get("client_ip") == client


def test_quotes_in_a_user_agent_end_nothing() -> None:
    """Envoy escapes nothing; the fields behind are found from the end."""
    assert event_of(ENVOY, DEFAULT.replace("nsq2http", 'a "b" c'))["user_agent"] == 'a "b" c'


def test_what_is_unknown_is_null() -> None:
    """A request that was cut off before its answer has status 0, and a field without a value is a dash."""
    event = event_of(ENVOY, DEFAULT.replace("204 - 154 0 226", "0 DC 154 0 -"))

    assert not {"status", "response_time_ms"} & event.keys()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f'{STAMP} "- - -" 0 UF,URX - - "-" 0 0 10000 - "-" "-" "-" "-" "10.43.0.1:27018" o - 2 1 - -', "no request"),
        (f'{STAMP} "- - -" 0 - 0 0 10 - "-" "-" "-" "-" "10.43.0.1:27018"', "no request"),
        ("[2020-09-12 13:38:23.077][1][info][main] starting main dispatch loop", "not a line"),
        ('{"level": "info", "msg": "xdsproxy connected"}', "no time"),
    ],
)
def test_what_is_no_request_is_rejected(line: str, reason: str) -> None:
    """TCP connections and what Envoy says about itself are no events."""
    assert reason in reason_of(ENVOY, line)


def test_text_and_json_in_a_container_log_are_one_format() -> None:
    """Listeners of one Envoy may log differently; JSON alone is a matter of the field map."""
    record = {"start_time": "2016-04-15T20:17:01Z", "method": "GET", "path": "/b", "response_code": 200, "duration": 3}
    cri = "2016-04-15T22:17:02.493035218+02:00 stdout F "
    lines = pl.Series([cri + DEFAULT, cri + json.dumps(record)])

    assert detect(lines) == ENVOY
    assert ENVOY.parse(lines).events["response_time_ms"].to_list() == [226.0, 3.0]
    assert detect(lines[1:]).name == "jsonl"
