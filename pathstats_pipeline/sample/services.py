"""What the made-up services serve: their routes, with how often, how fast and how large each is.

A row of a table is a route; the traffic of the sample follows from these alone. No drawing here.
"""

import dataclasses
from typing import Final


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
