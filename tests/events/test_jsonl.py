import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pathstats_pipeline.events.formats.fieldmap import FieldMap, FieldMapError, load_map, shipped_maps
from pathstats_pipeline.events.formats.jsonl import CANONICAL_MAP, JsonFormat
from pathstats_pipeline.events.formats.registry import choose, detect
from pathstats_pipeline.events.schema import EVENT_SCHEMA

CANONICAL = JsonFormat(CANONICAL_MAP, name="canonical")
FLAT = JsonFormat(
    FieldMap(
        name="flat",
        columns={
            "event_time": (("t",),),
            "path": (("p",),),
            "request": (("r",),),
            "method": (("m",),),
            "status": (("s",), ("code",)),
            "response_time_ms": (("d",),),
            "bytes_sent": (("b",),),
            "user_agent": (("h", "agent", 0),),
        },
        time=("rfc3339", "unix_s", "clf"),
        response_time="s",
    )
)
GOOD = '{"t": 1.5, "p": "/a"}'

NGINX = {
    "time_iso8601": "2026-05-17T10:05:03+02:00",
    "remote_addr": "10.0.0.1",
    "request": "GET /a?b HTTP/1.1",
    "status": "200",
    "body_bytes_sent": "123",
    "request_time": "0.005",
    "http_user_agent": "curl",
    "http_host": "example.com:8080",
}
CADDY = {
    "ts": 1646861401.5241024,
    "request": {
        "remote_ip": "10.0.0.1",
        "method": "GET",
        "host": "example.com",
        "uri": "/a?b",
        "headers": {"User-Agent": ["curl"], "Accept": ["*/*"]},
    },
    "duration": 0.005,
    "size": 123,
    "status": 200,
}
TRAEFIK = {
    "ClientAddr": "10.0.0.1:4711",
    "ClientHost": "10.0.0.1",
    "DownstreamContentSize": 123,
    "DownstreamStatus": 200,
    "Duration": 5_000_000,
    "RequestHost": "example.com",
    "RequestMethod": "GET",
    "RequestPath": "/a?b",
    "StartUTC": "2026-05-17T08:05:03.123456789Z",
    "request_User-Agent": "curl",
}
CLOUDFLARE = {
    "ClientIP": "10.0.0.1",
    "ClientRequestHost": "example.com",
    "ClientRequestMethod": "GET",
    "ClientRequestPath": "/a",
    "ClientRequestURI": "/a?b",
    "ClientRequestUserAgent": "curl",
    "EdgeEndTimestamp": "2026-05-17T08:05:03Z",
    "EdgeResponseBytes": 123,
    "EdgeResponseStatus": 200,
    "EdgeStartTimestamp": "2026-05-17T08:05:03Z",
    "EdgeTimeToFirstByteMs": 5,
    "OriginResponseStatus": 0,
    "RayID": "3a6050bcbe121a87",
}
ENVOY = {
    ":authority": "example.com:443",
    "start_time": "2026-05-17T08:05:03.123Z",
    "method": "GET",
    "x-envoy-origin-path": "/a?b",
    "response_code": 200,
    "duration": 5,
    "bytes_sent": 123,
    "downstream_remote_address": "10.0.0.1:4711",
    "x-forwarded-for": "192.0.2.1",
    "user-agent": "curl",
}


def parse(line: str, form: JsonFormat = FLAT) -> dict[str, Any]:
    """Give the only event of a line, or fail with the reason why there is none."""
    parsed = form.parse(pl.Series([line]))
    assert parsed.rejected.is_empty(), parsed.rejected.item(0, "reason")
    return parsed.events.row(0, named=True)


def reason(line: str, form: JsonFormat = FLAT) -> str:
    """Give the reason for which a line is rejected, also among lines that are good."""
    parsed = form.parse(pl.Series([GOOD, line, GOOD]) if form is FLAT else pl.Series(["", line]))
    assert 1 in parsed.rejected["index"]
    return str(parsed.rejected.filter(pl.col("index") == 1).item(0, "reason"))


@pytest.mark.parametrize(
    ("name", "record"),
    [("nginx", NGINX), ("caddy", CADDY), ("traefik", TRAEFIK), ("envoy", ENVOY), ("cloudflare", CLOUDFLARE)],
)
def test_shipped_maps_are_chosen_by_their_keys(name: str, record: dict[str, Any]) -> None:
    """A server's own JSON needs no map file: its keys choose the shipped one, and every column is filled."""
    sample = pl.Series([json.dumps(record)])
    form = detect(sample)
    event = form.parse(sample).events.row(0, named=True)

    assert isinstance(form, JsonFormat)
    assert name == form.field_map.name
    assert form == choose("jsonl", sample)
    assert (event["host"], event["method"], event["path"], event["status"]) == ("example.com", "GET", "/a", 200)
    assert (
        event["response_time_ms"],
        event["bytes_sent"],
        event["client_ip"],
        event["user_agent"],
    ) == (5.0, 123, "10.0.0.1", "curl")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"2026-05-17T10:05:03+02:00"', "2026-05-17T08:05:03"),
        ('"2026-05-17T08:05:03.123456789Z"', "2026-05-17T08:05:03.123456"),  # cut, not rounded
        ('"2026-05-17 08:05:03,5"', "2026-05-17T08:05:03.500000"),
        ('"2026-05-17t08:05:03z"', "2026-05-17T08:05:03"),
        ('"2026-05-17T08:05:03-0330"', "2026-05-17T11:35:03"),
        ('"17/May/2026:10:05:03 +0200"', "2026-05-17T08:05:03"),
        ("1646861401.5241024", "2022-03-09T21:30:01.524102"),
        ('"1646861401.524"', "2022-03-09T21:30:01.524000"),
        ("0", "1970-01-01T00:00:00"),
    ],
)
def test_times(value: str, expected: str) -> None:
    """Every form of time that a map names is read to UTC microseconds."""
    assert expected == parse(f'{{"t": {value}, "p": "/"}}')["event_time"].isoformat()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hello", "not JSON"),
        ("{'t': 1}", "not JSON"),
        ('{"t": 1, "p": "/a"', "not JSON"),
        ('{"t": 1, "p": "/a"}}', "not JSON"),
        ('{"t": 1, "p": "/a"} {"t": 1, "p": "/a"}', "not JSON"),
        ('{"t": 1, "p": "/a"},{"t": 1, "p": "/a"}', "not JSON"),
        ('{"t": NaN, "p": "/a"}', "not JSON"),
        ('{"t": 1, "p": "/a", "x": Infinity}', "not JSON"),
        ('{"t": 1, "p": "/a", "x": ' + "[" * 3000 + "]" * 3000 + "}", "not JSON"),  # deeper than any reader goes
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("12", "not a JSON object"),
        ('[2016-04-15T20:17:00.310Z] "POST /a HTTP/2" 204', "Envoy text log line; the format envoy reads it"),
        ("{}", "no time"),
        ('{"p": "/a"}', "no time"),
        ('{"t": null, "p": "/a"}', "no time"),
        ('{"t": "yesterday", "p": "/a"}', "bad time"),
        ('{"t": "2026-02-30T00:00:00Z", "p": "/a"}', "bad time"),
        ('{"t": -1, "p": "/a"}', "bad time"),
        ('{"t": 1e300, "p": "/a"}', "bad time"),
        ('{"t": true, "p": "/a"}', "bad time"),
        ('{"t": 1}', "no path"),
        ('{"t": 1, "p": "/a", "s": "abc"}', "bad status"),
        ('{"t": 1, "p": "/a", "s": [200]}', "bad status"),
        ('{"t": 1, "p": "/a", "s": 200.5}', "bad status"),
        ('{"t": 1, "p": "/a", "b": "many"}', "bad bytes"),
        ('{"t": 1, "p": "/a", "d": "long"}', "bad response time"),
    ],
)
def test_lines_that_are_rejected(line: str, expected: str) -> None:
    """A line that is no event is rejected for its own reason, and its neighbours are not."""
    assert expected == reason(line)


@pytest.mark.parametrize(
    ("members", "column", "expected"),
    [
        ('"s": "404"', "status", 404),
        ('"s": 404.0', "status", 404),
        ('"s": 0', "status", None),
        ('"s": "-"', "status", None),
        ('"s": 99999999999999999999999', "status", None),
        ('"code": 201', "status", 201),  # the second place, where the first has nothing
        ('"s": 200, "code": 201', "status", 200),
        ('"b": 18446744073709551616', "bytes_sent", None),
        ('"b": -1', "bytes_sent", None),
        ('"b": 0', "bytes_sent", 0),
        ('"d": 0.25', "response_time_ms", 250.0),
        ('"d": "0.25"', "response_time_ms", 250.0),
        ('"d": "12ms"', "response_time_ms", 12.0),
        ('"d": -1', "response_time_ms", None),
        ('"d": "NaN"', "response_time_ms", None),
        ('"d": "-"', "response_time_ms", None),
        ('"h": {"agent": ["a", "b"]}', "user_agent", "a"),
        ('"h": {"agent": []}', "user_agent", None),
        ('"h": {"agent": "a"}', "user_agent", None),  # another shape than the map's
        ('"h": 5', "user_agent", None),
        ('"h": null', "user_agent", None),
        ('"m": "GET"', "method", "GET"),
        ('"m": "no method"', "method", None),
    ],
)
def test_values(members: str, column: str, expected: object) -> None:
    """Numbers may be texts; the unknown is NULL; a value of an unforeseen shape does not cost the line."""
    assert expected == parse(f'{{"t": 1, "p": "/a", {members}}}')[column]


def test_a_whole_request_line_serves_as_method_and_path() -> None:
    """Where method and path have no keys of their own, the request line is taken apart."""
    event = parse('{"t": 1, "r": "GET http://example.com/a?b HTTP/1.1"}')

    assert (event["method"], event["path"], event["host"]) == ("GET", "/a", "example.com")


def test_a_null_path_is_a_request_without_one() -> None:
    """Envoy writes null for the path of a request that is not HTTP: that is traffic, not a gap."""
    event = parse('{"t": 1, "m": null, "p": null, "s": 400}')

    assert (event["method"], event["path"], event["status"]) == (None, None, 400)


def test_twice_the_same_key_does_not_fail() -> None:
    """A key that stands twice gives one of its values."""
    assert parse('{"t": 1, "p": "/a", "p": "/a"}')["path"] == "/a"


def test_bad_lines_do_not_move_their_neighbours() -> None:
    """Over several slices, each event keeps the number of its line."""
    lines = [f'{{"t": 1, "p": "/{number}", "s": 200}}' for number in range(20_000)]
    lines[5] = '{"t": 1, "p": }'
    lines[9_000] = '{"t": 1, "p": "/9000", "h": "another shape"}'
    lines[19_999] = "x"
    parsed = FLAT.parse(pl.Series(lines))

    assert parsed.rejected["index"].to_list() == [5, 19_999]
    assert parsed.events.filter(pl.col("path") != "/" + pl.col("line_number").cast(pl.String)).is_empty()


def test_canonical_lines_come_back_as_they_are() -> None:
    """What the archive writes is read again without a change, a query-like path and an id included."""
    record = {
        "event_id": "a-1",
        "event_time": "2026-05-17T08:05:03.123456Z",
        "host": "example.com:8080",
        "method": "GET",
        "path": "lv|?x#y",
        "status": 200,
        "response_time_ms": 0.1,
        "bytes_sent": 2**62,
        "client_ip": "[fd00::1]:80",
        "user_agent": 'a\u0000"\u2028',
    }
    event = parse(json.dumps({**record, "more": {"x": [1]}}), CANONICAL)
    expected = dt.datetime(2026, 5, 17, 8, 5, 3, 123_456)

    assert {**record, "event_time": expected, "line_number": 0} == event


@pytest.mark.parametrize(
    ("members", "column", "expected"),
    [
        ('"event_time": "2026-05-17T08:05:03"', "event_id", None),
        ('"event_time": "2026-05-17T08:05:03", "response_time_ms": -1', "response_time_ms", None),
        ('"event_time": "2026-05-17T08:05:03", "response_time_ms": "inf"', "response_time_ms", None),
        ('"event_time": "2026-05-17T08:05:03", "bytes_sent": -5', "bytes_sent", None),
    ],
)
def test_canonical_unknowns(members: str, column: str, expected: object) -> None:
    """What is unknown or impossible is NULL in our own lines, too."""
    assert expected == parse(f'{{"path": "/a", {members}}}', CANONICAL)[column]


@pytest.mark.parametrize(
    ("line", "expected"),
    [('{"path": "/a"}', "no time"), ('{"event_time": "2026-05-17T08:05:03Z"}', "no path")],
)
def test_canonical_lines_need_time_and_path(line: str, expected: str) -> None:
    """Our own lines are rejected without a time, or without the key of the path."""
    assert expected == reason(line, CANONICAL)


def test_a_canonical_null_path_is_kept() -> None:
    """An archived event without a path comes back."""
    assert parse('{"event_time": "2026-05-17T08:05:03Z", "path": null}', CANONICAL)["path"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = ", "not TOML"),
        ("[columns]\npath = 'p'", "columns.event_time: is needed"),
        ("[columns]\nevent_time = 't'", "columns.path: is needed"),
        ("[columns]\nevent_time = 't'\npath = 'p'\nstate = 's'", "columns.state: no such column"),
        ("[columns]\nevent_time = 't'\npath = 5", "columns.path: must be"),
        ("[columns]\nevent_time = 't'\npath = []", "columns.path: names no key"),
        ("[columns]\nevent_time = 't'\npath = [['a', -1]]", "-1 is neither a key nor a position"),
        ("[columns]\nevent_time = 't'\npath = 'p'\nresponse_time_ms = 'd'", "response_time: must be one of"),
        ("time = 'noon'\n[columns]\nevent_time = 't'\npath = 'p'", "time: must be of"),
        ("time = [5]\n[columns]\nevent_time = 't'\npath = 'p'", "time: must be"),
        ("colums = 1", "colums: unknown key"),
        ("name = 5\n[columns]\nevent_time = 't'\npath = 'p'", "name: must be a text"),
        ("name = 'x'", "columns: a table [columns] is needed"),
        ("[columns]\nevent_time = 't'\npath = 'r'\nmethod = 'r.m'", "r is used both as a value"),
    ],
)
def test_a_wrong_map_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """A map that can't be used is refused, naming the file and the key."""
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(FieldMapError) as caught:
        load_map(file)

    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_map_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing map is one line, too."""
    with pytest.raises(FieldMapError, match="No such file"):
        load_map(tmp_path / "none.toml")


def test_a_users_map_is_read(tmp_path: Path) -> None:
    """Dotted keys, lists of places, and keys that hold dots are all places."""
    file = tmp_path / "my.toml"
    file.write_text(
        'time = "unix_ms"\nresponse_time = "us"\n[columns]\nevent_time = "at.ms"\n'
        'path = ["p", ["http.path"]]\nresponse_time_ms = "d"\n'
    )
    event = parse('{"at": {"ms": 1500}, "http.path": "/a", "d": 250}', JsonFormat(load_map(file)))

    assert (event["path"], event["response_time_ms"], event["event_time"].microsecond) == ("/a", 0.25, 500_000)


def test_shipped_maps_name_only_columns_of_the_schema() -> None:
    """Five writers are known, and their maps are checked like a user's."""
    assert [field_map.name for field_map in shipped_maps()] == ["caddy", "cloudflare", "envoy", "nginx", "traefik"]
    assert all(set(field_map.columns) <= {*EVENT_SCHEMA, "request"} for field_map in shipped_maps())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-05-17T08:05:03Z", "2026-05-17 08:05:03"),
        ("2026-05-17T08:05:03.123456789Z", "2026-05-17 08:05:03.123456"),
        (1_779_005_103, "2026-05-17 08:05:03"),
        (1_779_005_103_123_456_789, "2026-05-17 08:05:03.123456"),
        ("1779005103123456999", "2026-05-17 08:05:03.123456"),
    ],
)
def test_each_timestamp_format_of_logpush_is_read(value: str | int, expected: str) -> None:
    """RFC 3339, unix seconds and nanoseconds are told apart by themselves; nanoseconds lose no microsecond."""
    sample = pl.Series([json.dumps({**CLOUDFLARE, "EdgeStartTimestamp": value})])

    assert expected == str(choose("jsonl", sample).parse(sample).events["event_time"].item())
