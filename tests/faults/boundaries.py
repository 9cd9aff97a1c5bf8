"""The shim of the crash tests: counts the boundaries that a process passes, and kills it with SIGKILL at one of them.

A boundary stands before and after each request to S3, each commit and checkpoint of the warehouse, and each deletion
of a landing file. "After" a request is when the server has done it and nobody has heard of it yet. The product knows
nothing of this file.
"""

import dataclasses
import os
import pathlib
import signal
from collections.abc import Sequence
from typing import Any

from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.session import Session

_STATEMENTS = ("COMMIT", "CHECKPOINT", "INSERT INTO pathstats.archive_steps")


@dataclasses.dataclass
class Boundaries:
    """Boundaries so far, written to `log` one a line; the process dies at number `crash_at` (from 0)."""

    log: pathlib.Path
    crash_at: int | None = None
    passed: int = 0

    def __call__(self, name: str) -> None:
        """Pass a boundary, or die at it."""
        with self.log.open("a") as file:
            file.write(f"{name}\n")
        if self.passed == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def watch_client(self, client: Any) -> None:
        """Stand before and after each request of a boto3 client; retries of botocore count too."""

        def before(request: Any, **_: Any) -> None:
            self(f"before {_name(request.method, request.url)}")
            last.append(_name(request.method, request.url))

        def after(**_: Any) -> None:
            self(f"after {last.pop()}")

        last: list[str] = []
        client.meta.events.register("before-send.s3", before)
        client.meta.events.register("response-received.s3", after)

    def watch_warehouse(self) -> None:
        """Stand before and after each statement of the warehouse that makes something durable."""
        run = Session._run

        def watched(session: Session, sql: str, parameters: Sequence[Any] = ()) -> Any:
            name = next((each for each in _STATEMENTS if sql.startswith(each)), None)
            if name is None:
                return run(session, sql, parameters)
            if name.startswith("INSERT"):
                name = f"record {parameters[2]}"
            self(f"before {name}")
            answer = run(session, sql, parameters)
            self(f"after {name}")
            return answer

        Session._run = watched  # type: ignore[method-assign,assignment]

    def watch_landing(self) -> None:
        """Stand before and after each deletion of a landing file."""
        delete = DirectoryObjects.delete

        def watched(objects: DirectoryObjects, key: str) -> None:
            self("before delete landing file")
            delete(objects, key)
            self("after delete landing file")

        DirectoryObjects.delete = watched  # type: ignore[method-assign,assignment]


def _name(method: str, url: str) -> str:
    """A request in words: the verb, what of the archive it is about, and what part of an upload."""
    path, _, query = url.partition("?")
    about = next((each for each in ("claims", "events", "metadata") if f"/{each}/" in path or each in query), "bucket")
    if "partNumber=" in query:
        number = query.partition("partNumber=")[2].partition("&")[0]
        return f"part {number}"
    if "uploadId=" in query:
        return {"POST": "complete upload", "DELETE": "abort upload"}[method]
    if query.startswith("uploads"):
        return {"POST": "create upload", "GET": "list uploads"}[method]
    return f"{'LIST' if 'list-type' in query else method} {about}"
