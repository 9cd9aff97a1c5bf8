"""What goes wrong with lines: cut short, lost to a power failure, probes that are no request, text that is no UTF-8.

One function a format, from a good line to a bad one.
"""

import json
from collections.abc import Callable
from typing import Final

from pathstats_pipeline.sample.pools import Rng

# What nginx logs for a TLS hello on a plain port, a worm's greeting, and a connection that asks for nothing.
PROBES: Final = (
    r"\x16\x03\x01\x00\xEE\x01\x00\x00\xEA\x03\x03\x9C",
    r"\x03\x00\x00/*\xE0\x00\x00\x00\x00\x00Cookie: mstshash=Administr",
    "",
    "-",
    "HELP",
    r"SSH-2.0-Go",
)


def damaged(service: str, lines: list[bytes], rng: Rng) -> list[bytes]:
    """Put something malformed in the place of about one line in a thousand."""
    for row in rng.choice(len(lines), size=-(-len(lines) // 1000), replace=False).tolist() if lines else []:
        lines[row] = RUINERS[service](lines[row], rng)
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


RUINERS: Final[dict[str, Callable[[bytes, Rng], bytes]]] = {
    "web": _ruined_combined,
    "api": _ruined_haproxy,
    "mobile": _ruined_json,
}
