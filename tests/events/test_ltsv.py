"""LTSV with the labels of ltsv.org."""

import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.ltsv import LtsvFormat

LTSV = LtsvFormat()
FIELDS = {
    "host": "127.0.0.1",
    "ident": "-",
    "user": "frank",
    "time": "[10/Oct/2000:13:55:36 -0700]",
    "req": "GET /apache_pb.gif?a=b HTTP/1.0",
    "status": "200",
    "size": "2326",
    "referer": "http://www.example.com/start.html",
    "ua": "Mozilla/4.08 [en] (Win98; I ;Nav)",
    "vhost": "www.example.com:80",
    "reqtime_microsec": "1234",
}


def line(**fields: str | None) -> str:
    """Give the documented line with other fields; None takes one out."""
    given = {**FIELDS, **fields}
    return "\t".join(f"{label}:{value}" for label, value in given.items() if value is not None)


def test_the_documented_line_fills_every_column() -> None:
    """`host` is the client, `vhost` the host; a value ends with a tab and holds anything else."""
    assert event_of(LTSV, line()) == {
        "event_time": "2000-10-10 20:55:36",
        "host": "www.example.com",
        "method": "GET",
        "path": "/apache_pb.gif",
        "status": 200,
        "response_time_ms": 1.234,
        "bytes_sent": 2326,
        "client_ip": "127.0.0.1",
        "user_agent": "Mozilla/4.08 [en] (Win98; I ;Nav)",
    }


@pytest.mark.parametrize("time", ["10/Oct/2000:13:55:36 -0700", "2000-10-10T20:55:36Z", "971211336", "971211336.000"])
def test_each_way_to_write_a_time_is_read(time: str) -> None:
    """With or without brackets, RFC 3339, or unix seconds."""
    assert event_of(LTSV, line(time=time))["event_time"] == "2000-10-10 20:55:36"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reqtime_microsec": None, "reqtime": "0.012"}, 12.0),
        ({"reqtime_microsec": "-", "reqtime": "0.012"}, 12.0),
        ({"reqtime_microsec": None, "apptime": "0.5"}, None),
        ({"reqtime_microsec": "-"}, None),
    ],
)
def test_the_label_tells_the_unit(fields: dict[str, str | None], expected: float | None) -> None:
    """`reqtime` is in seconds; what the application took is not the request's time."""
    assert event_of(LTSV, line(**fields)).get("response_time_ms") == expected


def test_method_and_uri_may_stand_alone() -> None:
    """They win over a request line; brackets and colons are a part of a path."""
    event = event_of(LTSV, line(req=None, method="PUT", uri="/a[1]:b?c", ua="", vhost=None, size="-"))

    assert (event["method"], event["path"]) == ("PUT", "/a[1]:b")
    assert not {"user_agent", "host", "bytes_sent"} & event.keys()


@pytest.mark.parametrize(("req", "path"), [("-", None), ("", None), ("\\x16\\x03", "\\x16\\x03")])
def test_a_request_that_is_no_http_is_an_event(req: str, path: str | None) -> None:
    """It has no method, and its path is the text as received."""
    event = event_of(LTSV, line(req=req))

    assert (event.get("method"), event.get("path")) == (None, path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(time=None), "no time"),
        (line(time="yesterday"), "bad time"),
        (line(req=None), "no path"),
        (line(status="OK"), "bad status"),
        (line() + "\tloose", "not LTSV: a field without a label"),
        ("plain text", "not LTSV: a field without a label"),
    ],
)
def test_lines_that_are_rejected(text: str, reason: str) -> None:
    """Every reason is told."""
    assert reason_of(LTSV, text) == reason
