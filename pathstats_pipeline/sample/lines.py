"""How requests are written down: nginx's combined log with the request time, nginx's JSON, HAProxy over syslog.

One function a format, from traffic to lines without their line ends. No parser's code is used here: the sample is what
other programs write.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from pathstats_pipeline.sample.pools import Ints, Rng, texts
from pathstats_pipeline.sample.traffic import BROWSERS, Traffic

# nginx counts the body alone, HAProxy what went over the wire.
HEADER_BYTES: Final = 162
REFERERS: Final = ("-", "-", "-", "https://shop.example/", "https://www.google.com/", "https://news.example/today")
NODES: Final = ("node1", "node2", "node3")


def _nginx_combined(traffic: Traffic, rng: Rng) -> list[bytes]:
    """Write `combined` with `$request_time` after it, as a log_format of nginx does."""
    count = len(traffic.time_us)
    referers = texts(REFERERS)[rng.integers(0, len(REFERERS), count)]
    referers[~np.isin(traffic.agent, texts(BROWSERS))] = "-"
    protocols = texts(["HTTP/2.0", "HTTP/2.0", "HTTP/1.1"])[rng.integers(0, 3, count)]
    rows = zip(
        *_columns(traffic), _stamps(traffic.time_us, "%d/%b/%Y:%H:%M:%S +0000"), referers, protocols, strict=True
    )
    return [
        f'{client} - - [{stamp}] "{method} {uri} {protocol}" {status} {size} "{referer}" "{agent}" '
        f"{ms // 1000}.{ms % 1000:03d}".encode()
        for client, method, uri, status, size, ms, agent, stamp, referer, protocol in rows
    ]


def _nginx_json(traffic: Traffic, rng: Rng) -> list[bytes]:
    """Write as a `log_format escape=json` of nginx does: whole seconds in the time, thousandths in the duration."""
    hosts = texts(["m.shop.example", "m.shop.example", "m.outlet.example"])[rng.integers(0, 3, len(traffic.time_us))]
    rows = zip(*_columns(traffic), _stamps(traffic.time_us, "%Y-%m-%dT%H:%M:%S+00:00"), hosts, strict=True)
    return [
        f'{{"time_iso8601":"{stamp}","remote_addr":"{client}","host":"{host}","request_method":"{method}",'
        f'"request_uri":{json.dumps(uri)},"status":{status},"body_bytes_sent":{size},'
        f'"request_time":{ms // 1000}.{ms % 1000:03d},"http_user_agent":{json.dumps(agent)}}}'.encode()
        for client, method, uri, status, size, ms, agent, stamp, host in rows
    ]


def _haproxy(traffic: Traffic, rng: Rng) -> list[bytes]:
    """Write HAProxy's HTTP log behind a syslog prefix: in the order of the ends, stamped with the beginnings."""
    written_us = traffic.time_us + traffic.ms * 1000
    traffic = traffic.in_order_of(written_us)
    count = len(traffic.time_us)
    prefix = _stamps(np.sort(written_us), "%b %e %H:%M:%S")
    ports, nodes = rng.integers(1024, 65536, count), texts(NODES)[rng.integers(0, len(NODES), count)]
    open_now, aborts = rng.poisson(14, count), rng.random(count) < 0.001  # noqa: PLR2004 - one client in a thousand
    rows = zip(
        *_columns(traffic),
        _stamps(traffic.time_us, "%d/%b/%Y:%H:%M:%S%.3f"),
        prefix,
        ports.tolist(),
        nodes,
        open_now.tolist(),
        aborts.tolist(),
        strict=True,
    )
    return [
        f"{prefix} lb1 haproxy[2214]: {client}:{port} [{stamp}] api-in~ "
        f"{_outcome(status, body + HEADER_BYTES, ms, node, gone=gone)} "
        f'{now + 2}/{now + 1}/{now // 2}/{now // 5}/0 0/0 "{method} {uri} HTTP/1.1"'.encode()
        for client, method, uri, status, body, ms, _, stamp, prefix, port, node, now, gone in rows
    ]


def _outcome(status: int, size: int, ms: int, node: str, *, gone: bool) -> str:
    """Backend, timers, status, bytes, cookies and termination state of a request; -1 for a phase never reached."""
    if status == 503:  # noqa: PLR2004 - HTTP's own number
        return f"api/<NOSRV> 0/-1/-1/-1/{ms} 503 {size} - - SC--"
    if status == 504:  # noqa: PLR2004 - HTTP's own number
        return f"api/{node} 0/0/1/-1/{ms} 504 {size} - - sH--"
    if gone:
        return f"api/{node} 0/0/0/-1/{ms} -1 0 - - CD--"
    waited = ms * 9 // 10
    return f"api/{node} 0/0/{min(1, ms - waited)}/{waited}/{ms} {status} {size} - - ----"


def _columns(traffic: Traffic) -> tuple[Sequence[Any], ...]:
    """Hand the columns over as Python lists: looping over those is several times faster than over arrays."""
    return (
        traffic.client.tolist(),
        traffic.method.tolist(),
        traffic.uri.tolist(),
        traffic.status.tolist(),
        traffic.size.tolist(),
        traffic.ms.tolist(),
        traffic.agent.tolist(),
    )


def _stamps(time_us: Ints, form: str) -> list[str]:
    return pl.from_epoch(pl.Series(time_us), time_unit="us").dt.strftime(form).to_list()


RENDERERS: Final[dict[str, Callable[[Traffic, Rng], list[bytes]]]] = {
    "web": _nginx_combined,
    "api": _haproxy,
    "mobile": _nginx_json,
}
