"""Who asks for what, and when: people, crawlers, scanners and health checks of one service and day, as columns.

Each kind of visitor is one function that makes `Traffic`; `of_day` mixes them. How a request is written down is not
known here (lines.py).
"""

import dataclasses
import datetime as dt
from typing import Final

import numpy as np

from pathstats_pipeline.sample.pools import CLIENTS, Ints, Pools, Rng, Texts, texts, zipf
from pathstats_pipeline.sample.services import SERVICES, WEB, Service

DAY_US: Final = 86_400_000_000
HOUR_US: Final = DAY_US // 24
HEALTH_CHECKS_PER_DAY: Final = 8_640
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

    def in_order_of(self, times: Ints) -> "Traffic":
        """Bring the rows into the order of these times [row]."""
        order = np.argsort(times, kind="stable")
        return Traffic(*(getattr(self, field.name)[order] for field in dataclasses.fields(self)))


def of_day(service: Service, date: dt.date, events_per_day: int, rng: Rng, pools: Pools) -> Traffic:
    """The requests of one service and day, in the order of time; `events_per_day` is of all services together."""
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
    return traffic.in_order_of(traffic.time_us)


def _visits(service: Service, count: int, start_us: int, rng: Rng, pools: Pools) -> Traffic:
    """People: by day more than by night, popular things over and over."""
    chosen = _routes(service, count, rng)
    uri, method = texts([""] * count), texts([route.method for route in service.routes])[chosen]
    for number, route in enumerate(service.routes):
        rows = np.flatnonzero(chosen == number)
        pool = pools.values[route.kind]
        picked = pool[zipf(len(pool), len(rows), rng)]
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
        pools.clients[zipf(CLIENTS, count, rng, exponent=0.6)],
        method,
        uri,
        status,
        size.astype(np.int64),
        np.rint(ms).astype(np.int64),
        texts(BROWSERS)[zipf(len(BROWSERS), count, rng)],
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
        texts([f"203.0.113.{host}" for host in range(200, 232)])[rng.integers(0, 32, count)],
        texts(["GET"] * count),
        texts(uri),
        np.where(rng.random(count) < 0.1, 301, 200),  # noqa: PLR2004 - one in ten has moved
        rng.integers(2_000, 60_000, count),
        np.rint(medians * np.exp(0.5 * rng.standard_normal(count))).astype(np.int64),
        texts(CRAWLERS)[rng.integers(0, len(CRAWLERS), count)],
    )


def _scan(count: int, start_us: int, rng: Rng, pools: Pools) -> Traffic:
    """Scanners: a few addresses, in short bursts, for known holes and for names that nobody has asked for."""
    guesses = rng.integers(0, 36**8, count)
    kinds = rng.integers(0, len(SCANS) + 3 * len(GUESSES), count)
    uri = [
        SCANS[kind] if kind < len(SCANS) else GUESSES[kind % len(GUESSES)].format(np.base_repr(guess, 36).lower())
        for kind, guess in zip(kinds.tolist(), guesses.tolist(), strict=True)
    ]
    methods = texts(["GET", "GET", "GET", "HEAD", "POST", "PROPFIND"])[rng.integers(0, 6, count)]
    bursts = rng.integers(0, DAY_US - HOUR_US // 4, 6)
    visitors = pools.clients[rng.integers(0, CLIENTS, 6)]
    burst = rng.integers(0, 6, count)
    return Traffic(
        start_us + bursts[burst] + rng.integers(0, HOUR_US // 4, count),
        visitors[burst],
        methods,
        texts(uri),
        np.array((404, 404, 404, 403, 400, 405))[rng.integers(0, 6, count)],
        np.where(methods == "HEAD", 0, rng.integers(146, 564, count)),
        rng.integers(0, 4, count),
        texts(SCANNERS)[rng.integers(0, len(SCANNERS), count)],
    )


def _health_checks(service: Service, count: int, start_us: int, rng: Rng) -> Traffic:
    """Health checks: one probe, like clockwork."""
    return Traffic(
        start_us + np.arange(count) * (DAY_US // max(count, 1)) + rng.integers(0, 2_000, count),
        texts([f"10.{service.number}.0.7"] * count),
        texts(["GET"] * count),
        texts([service.health_path] * count),
        np.full(count, 200),
        np.full(count, 2),
        rng.integers(0, 3, count),
        texts(["kube-probe/1.31"] * count),
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


def _daytimes(count: int, rng: Rng) -> Ints:
    """Draw times of day in microseconds: the quietest at four in the morning, the busiest twelve hours later."""
    minutes = np.arange(24 * 60)
    load = 1.0 - 0.8 * np.cos((minutes - 4 * 60) / (24 * 60) * 2 * np.pi)
    minute = np.searchsorted(np.cumsum(load) / load.sum(), rng.random(count), side="right")
    drawn: Ints = np.minimum(minute, 24 * 60 - 1) * (HOUR_US // 60) + rng.integers(0, HOUR_US // 60, count)
    return drawn


def _routes(service: Service, count: int, rng: Rng) -> Ints:
    weight = np.cumsum([route.weight for route in service.routes])
    drawn: Ints = np.searchsorted(weight / weight[-1], rng.random(count), side="right")
    return drawn
