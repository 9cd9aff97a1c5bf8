"""A strict S3 server in memory: checks what others let pass, records every request, and fails as it is told.

Strict: every checksum that comes is checked, parts have a floor, If-None-Match is atomic on put and on Complete, and a
policy may deny. What it is told to do wrong is in faults.py. The protocol is here, the bucket in strict_bucket.py.
"""

import contextlib
import dataclasses
import http.server
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .faults import ANSWERS, Fault, Rule
from .strict_bucket import Answer, Bucket, S3Error, checked, unframed

SLOW_PIECES = 12
SLOW_PAUSE_SECONDS = 0.005
"""1 kB/s, scaled: a kB at a time with pauses, for the first kB only; the client's time-outs are scaled alike."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A request as it was received."""

    verb: str
    key: str
    headers: dict[str, str]
    query: dict[str, str]


_BY_METHOD = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete"}


def _verb(method: str, key: str, query: dict[str, str]) -> str:
    """The name of the S3 operation."""
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "Complete", "DELETE": "Abort"}[method]
    if "uploads" in query:
        return "Create" if method == "POST" else "ListUploads"
    if not key:
        return {"PUT": "CreateBucket", "GET": "List", "HEAD": "HeadBucket", "POST": "DeleteMany"}[method]
    return _BY_METHOD[method]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer goes out at once, not line by line
    server: "StrictServer"

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def handle_expect_100(self) -> bool:
        """Ask for the body at once: the buffer would keep the line to itself."""
        self.send_response_only(http.HTTPStatus.CONTINUE)
        self.end_headers()
        self.wfile.flush()
        return True

    def _serve(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        verb = _verb(self.command, key, query)
        raw = self.rfile.read(int(headers.get("content-length", 0)))
        faults = self.server.see(Seen(verb, key, headers, query))
        if Fault.RESET_BEFORE in faults:
            self._reset()
            return
        answer = self._answer(verb, bucket, key, query, headers, raw, faults)
        if Fault.RESET_AFTER in faults:
            self._reset()
            return
        self._send(answer, faults)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _answer(
        self,
        verb: str,
        bucket: str,
        key: str,
        query: dict[str, str],
        headers: dict[str, str],
        raw: bytes,
        faults: set[Fault],
    ) -> Answer:
        try:
            self.server.authorise(verb, headers, faults)
            body = unframed(raw, headers)
            if Fault.FLIPPED in faults and body:
                body = flipped(body, len(body) // 2)
            if Fault.NO_CHECKSUMS not in faults:
                checked(body, headers)
            if Fault.NO_CONDITIONS in faults:
                headers = {name: value for name, value in headers.items() if name != "if-none-match"}
            return self.server.bucket(bucket).do(verb, key, query, headers, body, faults)
        except S3Error as error:
            text = f"<Error><Code>{error.code}</Code><Message>as it was told</Message></Error>"
            return Answer(error.status, text.encode())

    def _send(self, answer: Answer, faults: set[Fault]) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(body)))
        if Fault.CUT in faults and not body:  # then the head is what is cut
            head: list[bytes] = self.__dict__["_headers_buffer"]
            self.wfile.write(b"".join(head)[:25])
            head.clear()
            self._reset()
            return
        self.end_headers()
        if Fault.CUT in faults:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self._reset()
            return
        if Fault.SLOW in faults:
            for _ in range(SLOW_PIECES):
                self.wfile.write(body[:1000])
                self.wfile.flush()
                body = body[1000:]
                time.sleep(SLOW_PAUSE_SECONDS)
        self.wfile.write(body)
        self.wfile.flush()

    def _reset(self) -> None:
        """Close the connection with a reset, not in good order."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True


def flipped(body: bytes, at: int, bit: int = 0) -> bytes:
    """The bytes with one bit turned over."""
    return body[:at] + bytes([body[at] ^ (1 << bit)]) + body[at + 1 :]


class StrictServer(http.server.ThreadingHTTPServer):
    """The server; told what to do wrong by `rules`, what not to allow by `denied`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rules: list[Rule] = []
        self.denied: set[str] = set()
        """Verbs that are denied; "unconditional Put" is one, too."""
        self.seen: list[Seen] = []
        self.part_floor = 5 * 1024 * 1024
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def bucket(self, name: str) -> Bucket:
        """The bucket, made where there is none."""
        with self._lock:
            bucket = self._buckets.setdefault(name, Bucket())
        bucket.part_floor = self.part_floor
        return bucket

    def see(self, seen: Seen) -> set[Fault]:
        """Record a request; the faults that it meets."""
        with self._lock:
            self.seen.append(seen)
            return {rule.fault for rule in self.rules if rule.applies(seen.verb, seen.key)}

    def authorise(self, verb: str, headers: dict[str, str], faults: set[Fault]) -> None:
        """Refuse what the policy denies, and what is to fail before it is done."""
        for fault in faults & ANSWERS.keys():
            raise S3Error(*ANSWERS[fault])
        unconditional = verb in {"Put", "Complete"} and "if-none-match" not in headers
        if verb in self.denied or (unconditional and "unconditional Put" in self.denied):
            raise S3Error(403, "AccessDenied")

    def verbs(self) -> list[str]:
        """The verbs that were seen."""
        return [seen.verb for seen in self.seen]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's fault here; anything else is ours, and printed."""
        import sys  # noqa: PLC0415

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def strict_server() -> Iterator[StrictServer]:
    """A server, for as long as the context is open."""
    server = StrictServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
