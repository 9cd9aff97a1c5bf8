"""The local SQS server that `make dev` starts: MiniStack, on loopback only; its queues survive a restart.

A kill -9 of it loses what came since its last clean stop: it is for trying things out. Production points at its own
queue and needs nothing of this file.
"""

import contextlib
import dataclasses
import importlib.util
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pathstats_pipeline.storage.local_server import (
    LOOPBACK,
    PORTS,
    REGION,
    LocalServer,
    LocalServerError,
    is_free,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

QUEUE: Final = "pathstats"
DEAD_LETTERS: Final = "pathstats-dead"
_PORT: Final = "sqs.port"
_LONGEST_KEPT_SECONDS: Final = 1_209_600
"""14 days, the most that SQS keeps a message."""


@dataclasses.dataclass(frozen=True)
class LocalSqs(LocalServer):
    """The SQS server of one directory."""

    what: ClassVar = "local SQS server"
    port_names: ClassVar = (_PORT,)

    @property
    def endpoint_url(self) -> str:
        """Where the server listens; known once it has been started for the first time."""
        return self._address(_PORT)

    @property
    def was_started(self) -> bool:
        """Whether it was ever started in this directory."""
        return self._read_state() is not None

    def client(self) -> "SQSClient":
        """A client of the server, which takes any credentials."""
        import boto3  # noqa: PLC0415 - a tenth of a command's start, and not every command talks to a queue

        client: SQSClient = boto3.client(
            "sqs",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - it takes any
            # A proxy of the environment must not be asked for a server on loopback.
            config=Config(proxies={}, retries={"total_max_attempts": 2}, connect_timeout=1, read_timeout=30),
        )
        return client

    def ensure_queue(self, name: str) -> str:
        """Create the queue where it is missing; its URL."""
        client = self.client()
        try:
            # Looked for first: the server keeps queues by URL, and on another port would create a second, empty one.
            with contextlib.suppress(client.exceptions.QueueDoesNotExist):
                return self._here(client.get_queue_url(QueueName=name)["QueueUrl"])
            kept = {"MessageRetentionPeriod": str(_LONGEST_KEPT_SECONDS)}
            return self._here(client.create_queue(QueueName=name, Attributes=kept)["QueueUrl"])  # type: ignore[arg-type]
        except (BotoCoreError, ClientError) as error:
            raise LocalServerError(f"queue {name!r} can't be created: {' '.join(str(error).split())}") from error

    def _here(self, url: str) -> str:
        """A queue's URL with the server's address of today."""
        return urlsplit(url)._replace(netloc=urlsplit(self.endpoint_url).netloc).geturl()

    def _command(self, ports: Mapping[str, int]) -> list[str | Path]:  # noqa: ARG002 - its environment has the port
        if importlib.util.find_spec("ministack") is None:
            raise LocalServerError("the local SQS server is not installed: pip install pathstats-pipeline[local]")
        return [sys.executable, "-m", "ministack"]

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        home = str(self.directory.resolve())
        return {
            "GATEWAY_PORT": str(ports[_PORT]),
            "BIND_HOST": LOOPBACK,
            "SERVICES": "sqs",
            "PERSIST_STATE": "1",
            "STATE_DIR": f"{home}/state",
            "HOME": home,
            "TMPDIR": home,
            "PATH": os.defpath,
        }

    def _choose_ports(self) -> dict[str, int]:
        state = self._read_state()
        remembered = [] if state is None else [state.ports[_PORT]]
        # Not seeded: two instances that start together must not walk through the same ports.
        candidates = [*remembered, *random.SystemRandom().sample(PORTS, len(PORTS))]
        port = next(filter(is_free, candidates), None)
        if port is None:
            raise LocalServerError(f"no free port between {PORTS.start} and {PORTS.stop} for the {self.what}")
        return {_PORT: port}

    def _is_ready(self) -> bool:
        try:
            self.client().list_queues()
        except (BotoCoreError, ClientError):
            return False
        return True
