"""Synthetic traffic for `make demo` and for tests: log files as nginx and HAProxy write them, made up from a seed.

Nobody's requests: addresses are those reserved for documentation, hosts end in `.example`, and what the numbers say
is what the tables below put in. Three services: a web front (nginx combined with the request time, rotated daily),
an API (HAProxy over syslog) and a mobile back end (nginx JSON). A day depends only on its date, the seed and its
size, so that two samples agree on the days they share. Here only the making of lines; no parser, no storage.
"""

import dataclasses
import datetime as dt
import gzip
import ipaddress
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[Any]
Rng = np.random.Generator

DAY_US: Final = 86_400_000_000
HOUR_US: Final = DAY_US // 24
HEALTH_CHECKS_PER_DAY: Final = 8_640
POOL_SIZE: Final = 4_000
CLIENTS: Final = 3_000
# nginx counts the body alone, HAProxy what went over the wire.
HEADER_BYTES: Final = 162


@dataclasses.dataclass(frozen=True)
class Route:
    """One route of a service: `{}` in the path stands for an identifier of the kind."""

    path: str
    weight: float
    kind: str = "id"
    method: str = "GET"
    status: int = 200
    median_ms: float = 20.0
    sigma: float = 0.6
    median_bytes: float = 8_000.0


@dataclasses.dataclass(frozen=True)
class Service:
    """One service: where its share of the requests goes."""

    name: str
    number: int
    share: float
    routes: tuple[Route, ...]
    health_path: str
    fails_in_burst: bool = False


WEB: Final = Service(
    name="web",
    number=1,
    share=0.6,
    health_path="/healthz",
    routes=(
        Route("/", 12, median_ms=35, median_bytes=18_000),
        Route("/products/{}", 22, median_ms=48, median_bytes=24_000),
        Route("/products/{}/reviews?page=1", 6, median_ms=62, median_bytes=9_000),
        Route("/categories/{}", 9, kind="slug", median_ms=55, median_bytes=31_000),
        Route("/search?q={}&page=2", 7, kind="slug", median_ms=140, sigma=0.9, median_bytes=21_000),
        Route("/static/app.{}.js", 14, kind="hex", median_ms=1, sigma=0.8, median_bytes=180_000),
        Route("/images/{}.jpg", 13, kind="hex", median_ms=2, sigma=0.9, median_bytes=64_000),
        Route("/blog/{}/release-notes", 3, kind="date", median_ms=30, median_bytes=15_000),
        Route("/users/{}/profile", 3, median_ms=40, median_bytes=6_000),
        Route("/orders/{}", 4, kind="uuid", median_ms=70, median_bytes=7_000),
        Route("/cart", 4, method="POST", status=302, median_ms=45, median_bytes=320),
        Route("/checkout", 2, method="POST", status=303, median_ms=210, sigma=0.7, median_bytes=410),
        Route("/downloads/{}", 0.7, kind="ulid", median_ms=600, sigma=1.1, median_bytes=4_000_000),
        Route("/reports/{}", 0.8, kind="date", median_ms=3_800, sigma=0.8, median_bytes=240_000),
    ),
)
API: Final = Service(
    name="api",
    number=2,
    share=0.25,
    health_path="/health",
    fails_in_burst=True,
    routes=(
        Route("/v1/products/{}", 26, median_ms=14, median_bytes=1_800),
        Route("/v1/prices/{}", 20, median_ms=6, median_bytes=420),
        Route("/v1/stock?sku={}", 14, median_ms=9, median_bytes=260),
        Route("/v1/orders/{}", 10, kind="uuid", median_ms=28, median_bytes=2_600),
        Route("/v1/orders", 5, method="POST", status=201, median_ms=95, sigma=0.7, median_bytes=700),
        Route("/v1/carts/{}/items", 8, kind="uuid", method="PUT", median_ms=33, median_bytes=900),
        Route("/v1/carts/{}", 2, kind="uuid", method="DELETE", status=204, median_ms=18, median_bytes=140),
        Route("/v1/sessions/{}", 7, kind="hex", median_ms=4, median_bytes=350),
        Route("/v1/reports/{}/export", 1, kind="date", median_ms=5_200, sigma=0.7, median_bytes=900_000),
    ),
)
MOBILE: Final = Service(
    name="mobile",
    number=3,
    share=0.15,
    health_path="/ping",
    routes=(
        Route("/m/feed?cursor={}", 24, kind="ulid", median_ms=80, median_bytes=14_000),
        Route("/m/items/{}", 20, median_ms=26, median_bytes=3_200),
        Route("/m/items/{}/thumbnail", 18, median_ms=3, sigma=0.8, median_bytes=11_000),
        Route("/m/events", 16, method="POST", status=202, median_ms=7, median_bytes=60),
        Route("/m/devices/{}", 6, kind="uuid", method="PUT", status=204, median_ms=22, median_bytes=0),
        Route("/m/days/{}/summary", 3, kind="date", median_ms=190, sigma=0.9, median_bytes=5_200),
        Route("/m/sync/{}", 2, kind="uuid", median_ms=1_500, sigma=1.0, median_bytes=52_000),
    ),
)
SERVICES: Final = (WEB, API, MOBILE)

BROWSERS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
)
CRAWLERS: Final = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
)
SCANNERS: Final = ("-", "Mozilla/5.0 zgrab/0.x", "python-requests/2.32.3", "Go-http-client/1.1")
SCANS: Final = (
    "/.env",
    "//phpMyAdmin/index.php",
    "/.git/config",
    "/wp-login.php",
    "/cgi-bin/luci/;stok=/locale?form=country",
    "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
    "/solr/admin/info/system?wt=json",
    "/?q=%27%20OR%201%3D1--",
    "/..%2f..%2f..%2fetc%2fpasswd",
)
# Scanners also guess names that nobody has asked for before; these are what fills a table of paths.
GUESSES: Final = ("/wp-content/plugins/{}/readme.txt", "/{}.php", "/backup-{}.zip", "/{}/admin/")
SLUGS: Final = ("garden", "kitchen", "lamps", "winter-coats", "tools", "books", "toys", "bikes", "tea", "caf%C3%A9")
REFERERS: Final = ("-", "-", "-", "https://shop.example/", "https://www.google.com/", "https://news.example/today")
NODES: Final = ("node1", "node2", "node3")
# What nginx logs for a TLS hello on a plain port, a worm's greeting, and a connection that asks for nothing.
PROBES: Final = (
    r"\x16\x03\x01\x00\xEE\x01\x00\x00\xEA\x03\x03\x9C",
    r"\x03\x00\x00/*\xE0\x00\x00\x00\x00\x00Cookie: mstshash=Administr",
    "",
    "-",
    "HELP",
    r"SSH-2.0-Go",
)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Requests of one service, one row each: times in microseconds since 1970, durations in milliseconds."""

    time_us: Ints
    client: Texts
    method: Texts
    uri: Texts
    status: Ints
    size: Ints
    ms: Ints
    agent: Texts

    def in_order(self) -> "Traffic":
        """Bring the rows into the order of time."""
        order = np.argsort(self.time_us, kind="stable")
        return Traffic(*(getattr(self, field.name)[order] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Pools:
    """What the identifiers and addresses of a sample are drawn from."""

    clients: Texts
    values: dict[str, Texts]


def write_sample(
    directory: Path, *, end: dt.datetime, days: int = 3, seed: int = 7, events_per_day: int = 40_000
) -> list[Path]:
    """Write the synthetic logs of the whole UTC days before the midnight that begins `end`'s day; return the files.

    `events_per_day` lines a day over all services, about one in a thousand of them malformed. The same arguments
    give the same bytes; files of the same names are overwritten. Raises ValueError for an `end` without a zone, or
    for less than one day.
    """
    if days < 1:
        raise ValueError("a sample has at least one day")
    if end.tzinfo is None:
        raise ValueError("the end of the sample needs a time zone")
    directory.mkdir(parents=True, exist_ok=True)
    last = end.astimezone(dt.UTC).date()
    dates = [last - dt.timedelta(days=back) for back in range(days, 0, -1)]
    pools = _pools(np.random.default_rng([seed, 0]), last.year)
    written: list[Path] = []
    web = [_day(WEB, date, events_per_day, seed, pools) for date in dates]
    for age, lines in zip(range(days - 1, -1, -1), web, strict=True):
        written.append(_write_rotated(directory / "web-access.log", age, oldest=days - 1, lines=lines))
    for service, name in ((API, "api-haproxy.log"), (MOBILE, "mobile-access.jsonl")):
        lines = [line for date in dates for line in _day(service, date, events_per_day, seed, pools)]
        (directory / name).write_bytes(_joined(lines))
        written.append(directory / name)
    return written


def _day(service: Service, date: dt.date, events_per_day: int, seed: int, pools: Pools) -> list[bytes]:
    """Make the lines of one service and day."""
    # One generator for each day and service: what comes before has no say in what comes after.
    rng = np.random.default_rng([seed, date.toordinal(), service.number])
    others = sum(int(events_per_day * other.share) for other in SERVICES if other is not WEB)
    count = events_per_day - others if service is WEB else int(events_per_day * service.share)
    start_us = (date.toordinal() - dt.date(1970, 1, 1).toordinal()) * DAY_US
    health = min(HEALTH_CHECKS_PER_DAY, count // 6)
    crawled, scanned = int(count * 0.07), int(count * 0.03)
    parts = (
        _visits(service, count - health - crawled - scanned, start_us, rng, pools),
        _crawl(service, crawled, start_us, rng, pools),
        _scan(scanned, start_us, rng, pools),
        _health_checks(service, health, start_us, rng),
    )
    traffic = Traffic(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Traffic))
    )
    if service.fails_in_burst and date.toordinal() % 3 == 1:
        traffic = _with_burst(traffic, start_us + 14 * HOUR_US, rng)
    traffic = traffic.in_order()
    lines = RENDERERS[service.name](traffic, rng)
    return _damaged(lines, RUINERS[service.name], rng)


def _pools(rng: Rng, year: int) -> Pools:
    raw = [rng.bytes(16) for _ in range(POOL_SIZE)]
    crockford = np.array(list("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
    ulids = crockford[rng.integers(0, 32, (POOL_SIZE, 16))]
    first = dt.date(year - 1, 1, 1)
    values = {
        "id": [str(number) for number in rng.permutation(np.arange(1_000, 1_000 + POOL_SIZE * 7, 7))],
        "uuid": [str(uuid.UUID(bytes=part, version=4)) for part in raw],
        "hex": [part.hex() for part in raw],
        "ulid": ["01JC" + "0123456789"[i % 10] + "Z8XK5" + "".join(row) for i, row in enumerate(ulids)],
        "date": [str(first + dt.timedelta(days=int(day))) for day in rng.permutation(360)],
        "slug": list(SLUGS),
    }
    v4 = [f"{net}.{host}" for net in ("192.0.2", "198.51.100", "203.0.113") for host in range(1, 255)]
    prefix = int(ipaddress.IPv6Address("2001:db8::"))
    subnets, hosts = rng.integers(0, 2**16, CLIENTS), rng.integers(1, 2**62, CLIENTS)
    v6 = [str(ipaddress.IPv6Address(prefix | int(a) << 80 | int(b))) for a, b in zip(subnets, hosts, strict=True)]
    clients = _texts((v4 + v6)[:CLIENTS])
    return Pools(clients[rng.permutation(CLIENTS)], {kind: _texts(pool) for kind, pool in values.items()})


def _visits(service: Service, count: int, start_us: int, rng: Rng, pools: Pools) -> Traffic:
    """People: by day more than by night, popular things over and over."""
    chosen = _routes(service, count, rng)
    uri, method = _texts([""] * count), _texts([route.method for route in service.routes])[chosen]
    for number, route in enumerate(service.routes):
        rows = np.flatnonzero(chosen == number)
        pool = pools.values[route.kind]
        picked = pool[_zipf(len(pool), len(rows), rng)]
        uri[rows] = [route.path.format(value) for value in picked] if "{}" in route.path else route.path
    numbers = np.array([(r.status, r.median_ms, r.sigma, r.median_bytes) for r in service.routes])[chosen]
    status = numbers[:, 0].astype(np.int64)
    ms = numbers[:, 1] * np.exp(numbers[:, 2] * rng.standard_normal(count))
    size = numbers[:, 3] * np.exp(0.35 * rng.standard_normal(count))
    luck = rng.random(count)
    status[luck < 0.04] = 404  # noqa: PLR2004 - one link in twenty-five is dead
    status[(luck > 0.9) & (status == 200) & (numbers[:, 1] < 5)] = 304  # noqa: PLR2004 - what is quick is cached
    status[luck > 0.9965] = 500  # noqa: PLR2004 - a few in a thousand
    size[status == 304] = 0  # noqa: PLR2004 - HTTP's own number
    return Traffic(
        start_us + _daytimes(count, rng),
        pools.clients[_zipf(CLIENTS, count, rng, exponent=0.6)],
        method,
        uri,
        status,
        size.astype(np.int64),
        np.rint(ms).astype(np.int64),
        _texts(BROWSERS)[_zipf(len(BROWSERS), count, rng)],
    )


def _crawl(service: Service, count: int, start_us: int, rng: Rng, pools: Pools) -> Traffic:
    """Crawlers: evenly over day and night and over everything there is, popular or not."""
    readable = [route for route in service.routes if route.method == "GET"]
    ids = [pools.values[route.kind] for route in readable]
    chosen, where = rng.integers(0, len(readable), count), rng.random(count)
    uri = [readable[i].path.format(ids[i][int(w * len(ids[i]))]) for i, w in zip(chosen, where, strict=True)]
    medians = np.array([route.median_ms for route in readable])[chosen]
    return Traffic(
        start_us + np.sort(rng.integers(0, DAY_US, count)),
        _texts([f"203.0.113.{host}" for host in range(200, 232)])[rng.integers(0, 32, count)],
        _texts(["GET"] * count),
        _texts(uri),
        np.where(rng.random(count) < 0.1, 301, 200),  # noqa: PLR2004 - one in ten has moved
        rng.integers(2_000, 60_000, count),
        np.rint(medians * np.exp(0.5 * rng.standard_normal(count))).astype(np.int64),
        _texts(CRAWLERS)[rng.integers(0, len(CRAWLERS), count)],
    )


def _scan(count: int, start_us: int, rng: Rng, pools: Pools) -> Traffic:
    """Scanners: a few addresses, in short bursts, for known holes and for names that nobody has asked for."""
    guesses = rng.integers(0, 36**8, count)
    kinds = rng.integers(0, len(SCANS) + 3 * len(GUESSES), count)
    uri = [
        SCANS[kind] if kind < len(SCANS) else GUESSES[kind % len(GUESSES)].format(np.base_repr(guess, 36).lower())
        for kind, guess in zip(kinds.tolist(), guesses.tolist(), strict=True)
    ]
    methods = _texts(["GET", "GET", "GET", "HEAD", "POST", "PROPFIND"])[rng.integers(0, 6, count)]
    bursts = rng.integers(0, DAY_US - HOUR_US // 4, 6)
    visitors = pools.clients[rng.integers(0, CLIENTS, 6)]
    burst = rng.integers(0, 6, count)
    return Traffic(
        start_us + bursts[burst] + rng.integers(0, HOUR_US // 4, count),
        visitors[burst],
        methods,
        _texts(uri),
        _numbers((404, 404, 404, 403, 400, 405))[rng.integers(0, 6, count)],
        np.where(methods == "HEAD", 0, rng.integers(146, 564, count)),
        rng.integers(0, 4, count),
        _texts(SCANNERS)[rng.integers(0, len(SCANNERS), count)],
    )


def _health_checks(service: Service, count: int, start_us: int, rng: Rng) -> Traffic:
    """Health checks: one probe, like clockwork."""
    return Traffic(
        start_us + np.arange(count) * (DAY_US // max(count, 1)) + rng.integers(0, 2_000, count),
        _texts([f"10.{service.number}.0.7"] * count),
        _texts(["GET"] * count),
        _texts([service.health_path] * count),
        np.full(count, 200),
        np.full(count, 2),
        rng.integers(0, 3, count),
        _texts(["kube-probe/1.31"] * count),
    )


def _with_burst(traffic: Traffic, begin_us: int, rng: Rng) -> Traffic:
    """Let most requests of 35 minutes fail: refused at once, or given up after the 30 seconds of the timeout."""
    luck = rng.random(len(traffic.time_us))
    inside = (traffic.time_us >= begin_us) & (traffic.time_us < begin_us + HOUR_US * 35 // 60)
    refused, timed_out = inside & (luck < 0.5), inside & (luck > 0.85)  # noqa: PLR2004 - half, and a seventh
    status, ms = traffic.status.copy(), traffic.ms.copy()
    status[refused], status[timed_out] = 503, 504
    ms[refused], ms[timed_out] = 0, 30_001
    return dataclasses.replace(traffic, status=status, ms=ms, size=np.where(refused | timed_out, 55, traffic.size))


def _nginx_combined(traffic: Traffic, rng: Rng) -> list[bytes]:
    """Write `combined` with `$request_time` after it, as a log_format of nginx does."""
    count = len(traffic.time_us)
    referers = _texts(REFERERS)[rng.integers(0, len(REFERERS), count)]
    referers[~np.isin(traffic.agent, _texts(BROWSERS))] = "-"
    protocols = _texts(["HTTP/2.0", "HTTP/2.0", "HTTP/1.1"])[rng.integers(0, 3, count)]
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
    hosts = _texts(["m.shop.example", "m.shop.example", "m.outlet.example"])[rng.integers(0, 3, len(traffic.time_us))]
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
    order = np.argsort(written_us, kind="stable")
    traffic = Traffic(*(getattr(traffic, field.name)[order] for field in dataclasses.fields(traffic)))
    count = len(traffic.time_us)
    prefix = pl.from_epoch(pl.Series(written_us[order]), time_unit="us").dt.strftime("%b %e %H:%M:%S")
    ports, nodes = rng.integers(1024, 65536, count), _texts(NODES)[rng.integers(0, len(NODES), count)]
    open_now, aborts = rng.poisson(14, count), rng.random(count) < 0.001  # noqa: PLR2004 - one client in a thousand
    rows = zip(
        *_columns(traffic),
        _stamps(traffic.time_us, "%d/%b/%Y:%H:%M:%S%.3f"),
        prefix.to_list(),
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


def _damaged(lines: list[bytes], ruin: Callable[[bytes, Rng], bytes], rng: Rng) -> list[bytes]:
    """Put something malformed in the place of about one line in a thousand."""
    for row in rng.choice(len(lines), size=-(-len(lines) // 1000), replace=False).tolist() if lines else []:
        lines[row] = ruin(lines[row], rng)
    return lines


def _ruined_combined(line: bytes, rng: Rng) -> bytes:
    """Cut a line short, lose it to a power failure, or make it a request that is none."""
    kind = int(rng.integers(0, 10))
    if kind < 2:  # noqa: PLR2004 - two in ten
        return line[: int(rng.integers(6, 60))]
    if kind == 2:  # noqa: PLR2004 - one in ten
        return b"\x00" * int(rng.integers(16, 120))
    before = line[: line.index(b'"')].decode()
    return (
        f'{before}"{PROBES[int(rng.integers(0, len(PROBES)))]}" 400 157 "-" "-" 0.{rng.integers(0, 300):03d}'.encode()
    )


def _ruined_json(line: bytes, rng: Rng) -> bytes:
    """Cut a line short, empty its request, or give it a user agent that is no UTF-8, which nginx passes on as it is."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        return line[: int(rng.integers(6, 120))]
    if kind == 1:
        stamp, client = (json.loads(line)[key] for key in ("time_iso8601", "remote_addr"))
        return (
            f'{{"time_iso8601":"{stamp}","remote_addr":"{client}","host":"","request_method":"","request_uri":"",'
            f'"status":400,"body_bytes_sent":0,"request_time":0.000,"http_user_agent":""}}'
        ).encode()
    return line[: line.index(b'"http_user_agent"')] + b'"http_user_agent":"Caf\xe9Reader/2.1 \xff\xfe"}'


def _ruined_haproxy(line: bytes, rng: Rng) -> bytes:
    """Cut a line short, make it a request that HAProxy refused, or a message that is about no request."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        return line[: int(rng.integers(6, 90))]
    prefix, request = line[: line.index(b"]: ") + 3], line[line.index(b"]: ") + 3 :]
    if kind == 1:
        client = request[: request.index(b" api-in~")]
        return prefix + client + b' api-in~ api-in/<NOSRV> -1/-1/-1/-1/0 400 187 - - PR-- 9/8/0/0/0 0/0 "<BADREQ>"'
    return prefix + (
        b"Server api/node2 is DOWN, reason: Layer4 timeout, check duration: 2001ms. "
        b"2 active and 0 backup servers left. 3 sessions active, 0 requeued, 0 remaining in queue."
    )


RENDERERS: Final[dict[str, Callable[[Traffic, Rng], list[bytes]]]] = {
    "web": _nginx_combined,
    "api": _haproxy,
    "mobile": _nginx_json,
}
RUINERS: Final[dict[str, Callable[[bytes, Rng], bytes]]] = {
    "web": _ruined_combined,
    "api": _ruined_haproxy,
    "mobile": _ruined_json,
}


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


def _daytimes(count: int, rng: Rng) -> Ints:
    """Draw times of day in microseconds: the quietest at four in the morning, the busiest twelve hours later."""
    minutes = np.arange(24 * 60)
    load = 1.0 - 0.8 * np.cos((minutes - 4 * 60) / (24 * 60) * 2 * np.pi)
    minute = np.searchsorted(np.cumsum(load) / load.sum(), rng.random(count), side="right")
    drawn: Ints = np.minimum(minute, 24 * 60 - 1) * (HOUR_US // 60) + rng.integers(0, HOUR_US // 60, count)
    return drawn


def _zipf(size: int, count: int, rng: Rng, exponent: float = 1.05) -> Ints:
    """Draw ranks from 0 by Zipf's law over a bounded number of things."""
    weight = np.cumsum(np.arange(1, size + 1) ** -exponent)
    drawn: Ints = np.minimum(np.searchsorted(weight / weight[-1], rng.random(count), side="right"), size - 1)
    return drawn


def _routes(service: Service, count: int, rng: Rng) -> Ints:
    weight = np.cumsum([route.weight for route in service.routes])
    drawn: Ints = np.searchsorted(weight / weight[-1], rng.random(count), side="right")
    return drawn


def _texts(values: Sequence[str]) -> Texts:
    """Make an array of Python strings: numpy's own ones are as wide as the longest."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _numbers(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _write_rotated(path: Path, age: int, *, oldest: int, lines: list[bytes]) -> Path:
    """Write a day as logrotate would have left it: today's plain, those before compressed, the oldest with zstd."""
    data = _joined(lines)
    if age:
        suffix = "zst" if age == oldest and oldest > 1 else "gz"
        path = path.with_name(f"{path.name}.{age}.{suffix}")
        # No time of compression in the header: the same sample is the same bytes.
        data = pa.compress(data, codec="zstd", asbytes=True) if suffix == "zst" else gzip.compress(data, 6, mtime=0)
    path.write_bytes(data)
    return path


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
