"""What a sample is drawn from, addresses and identifiers, and the law by which some things come more often."""

import dataclasses
import datetime as dt
import ipaddress
import uuid
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[Any]
Rng = np.random.Generator

POOL_SIZE: Final = 4_000
CLIENTS: Final = 3_000
SLUGS: Final = ("garden", "kitchen", "lamps", "winter-coats", "tools", "books", "toys", "bikes", "tea", "caf%C3%A9")


@dataclasses.dataclass(frozen=True)
class Pools:
    """What the identifiers and addresses of a sample are drawn from."""

    clients: Texts
    values: dict[str, Texts]


def pools_of(rng: Rng, year: int) -> Pools:
    """The pools of a sample that ends in a year."""
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
    clients = texts((v4 + v6)[:CLIENTS])
    return Pools(clients[rng.permutation(CLIENTS)], {kind: texts(pool) for kind, pool in values.items()})


def zipf(size: int, count: int, rng: Rng, exponent: float = 1.05) -> Ints:
    """Draw ranks from 0 by Zipf's law over a bounded number of things."""
    weight = np.cumsum(np.arange(1, size + 1) ** -exponent)
    drawn: Ints = np.minimum(np.searchsorted(weight / weight[-1], rng.random(count), side="right"), size - 1)
    return drawn


def texts(values: Sequence[str]) -> Texts:
    """Make an array of Python strings: numpy's own ones are as wide as the longest."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
