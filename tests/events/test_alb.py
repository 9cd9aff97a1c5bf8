"""AWS load balancers, by lines after their documentation."""

import polars as pl
import pytest
from single_lines import event_of, reason_of

from pathstats_pipeline.events.formats.alb import AlbFormat

ALB = AlbFormat()
TAIL = (
    'ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:x "Root=1-58337281" "www.example.com" '
    '"arn:aws:acm:x" 1 2018-07-02T22:22:48.364000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-"'
)


def line(
    request: str = "GET https://www.example.com:443/a?b HTTP/1.1",
    *,
    times: str = "0.086 0.048 0.037",
    client: str = "192.168.131.39:2817",
    agent: str = "curl/7.46.0",
    tail: str = TAIL,
) -> str:
    """Give a line with one part of it made odd."""
    head = f"https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 {client} 10.0.0.1:80"
    return f'{head} {times} 200 200 0 57 "{request}" "{agent}" {tail}'


def test_the_documented_line_fills_every_column() -> None:
    """The time is that of the answer; the three processing times, in seconds, are added up."""
    assert event_of(ALB, line()) == {
        "event_time": "2018-07-02 22:23:00.186641",
        "host": "www.example.com",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "response_time_ms": 171.0,
        "bytes_sent": 57,
        "client_ip": "192.168.131.39",
        "user_agent": "curl/7.46.0",
    }


@pytest.mark.parametrize("times", ["-1 -1 -1", "0.001 -1 -1", "0.001 0.002 -1"])
def test_a_time_that_is_not_known_makes_the_total_unknown(times: str) -> None:
    """The balancer writes -1; a part of a total is not the total."""
    assert "response_time_ms" not in event_of(ALB, line(times=times))


@pytest.mark.parametrize("client", ["2001:db8::7:44740", "[2001:db8::7]:44740"])
def test_addresses_of_version_6_lose_their_port(client: str) -> None:
    """With brackets or without, what stands behind the last colon is the port."""
    assert event_of(ALB, line(client=client))["client_ip"] == "2001:db8::7"


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET https://[2001:db8::1]:443/ HTTP/2.0", {"method": "GET", "path": "/", "host": "2001:db8::1"}),
        ("GET https://x.com:443/a%20b;c?d#e HTTP/1.1", {"method": "GET", "path": "/a%20b;c", "host": "x.com"}),
        ('GET http://x.com:80/a "b" HTTP/1.1', {"method": "GET", "path": '/a "b"', "host": "x.com"}),
        ("OPTIONS http://x.com:80* HTTP/1.1", {"method": "OPTIONS", "path": "*", "host": "x.com"}),
        ("- http://lb-1.elb.amazonaws.com:80- -", {"host": "lb-1.elb.amazonaws.com"}),
        ("- - -", {"host": "www.example.com"}),
    ],
)
def test_odd_requests_are_requests(request_line: str, expected: dict[str, str]) -> None:
    """What the balancer could not read has no method and no path; elsewhere the query is dropped, the rest stays."""
    if request_line == "- - -":
        assert reason_of(ALB, line(request_line)) == "load balancer TCP line: it has no request"
    else:
        event = event_of(ALB, line(request_line))
        assert expected == {key: event[key] for key in ("method", "path", "host") if key in event}


@pytest.mark.parametrize("agent", ['a "b" c', "ends with \\", '\\"escaped\\"', "${jndi:ldap://x/a}"])
def test_a_user_agent_ends_before_the_cipher(agent: str) -> None:
    """Quotes and backslashes in it end nothing."""
    assert event_of(ALB, line(agent=agent))["user_agent"] == agent


@pytest.mark.parametrize("tail", ["- -", f'{TAIL} TID_1234abcd5678ef90 "m.example.com" "-" "TransformSuccess" 1.2.3.4'])
def test_fewer_and_more_fields_behind_are_no_matter(tail: str) -> None:
    """Classic balancers end with the cipher, and newer releases write ever more."""
    assert event_of(ALB, line(tail=tail)) == event_of(ALB, line())


def test_lines_of_classic_balancers_are_read() -> None:
    """They have no type in front, and the oldest no user agent."""
    old = (
        '2014-10-08T00:20:23Z lb 1.2.3.4:5 10.0.0.1:80 0.1 0.2 0.3 200 200 0 922 "GET http://a.com:80/v1?x=1 HTTP/1.1"'
    )
    event = event_of(ALB, old)

    assert (event["host"], event["path"], event["response_time_ms"]) == ("a.com", "/v1", 600.0)
    assert event_of(ALB, line().removeprefix("https ")) == event_of(ALB, line())


def test_a_listener_that_knows_no_http_logs_no_requests() -> None:
    """TLS lines of network balancers and TCP lines of classic ones are rejected."""
    tcp = '2015-05-13T23:39:43.9Z lb 1.2.3.4:2817 10.0.0.1:80 0.001069 0.000028 0.000041 - - 82 305 "- - - " "-" - -'
    tls = "tls 2.0 2018-12-20T02:59:40 net/my-nlb/c6e77e28c25b2234 g3d4b5e8bb8464cd 72.21.218.154:51341 1.2.3.4:443 5 2"

    assert reason_of(ALB, tcp) == "load balancer TCP line: it has no request"
    assert reason_of(ALB, tls) == "not a line of an AWS load balancer's access log"


def test_a_block_of_all_kinds_keeps_its_order() -> None:
    """Lines that are read by different patterns come back in the order of the file."""
    lines = [line(agent=agent) for agent in ("a", 'b "c"', "d", "e\\")] * 3
    events = ALB.parse(pl.Series(lines)).events

    assert events["user_agent"].to_list() == ["a", 'b "c"', "d", "e\\"] * 3
