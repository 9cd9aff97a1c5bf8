"""The strict S3 server, a bucket on it, and a day to archive there."""

import time
import types
import uuid
from collections.abc import Iterator

import pytest

from pathstats_pipeline.storage.objects import S3Objects

from .days import Prepared, prepare
from .stores import Strict, client_of
from .strict_server import StrictServer, strict_server


@pytest.fixture(scope="session")
def strict_s3() -> Iterator[StrictServer]:
    """The server of the session."""
    with strict_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore's pauses before another attempt are none; how often it tries stays its own."""
    monkeypatch.setattr("botocore.endpoint.time", types.SimpleNamespace(sleep=lambda _: None, time=time.time))


@pytest.fixture
def strict(strict_s3: StrictServer) -> Strict:
    """An empty bucket on a server that does everything right, until it is told otherwise."""
    strict_s3.rules.clear()
    strict_s3.denied.clear()
    strict_s3.seen.clear()
    strict_s3.part_floor = 5 * 1024 * 1024
    return Strict(strict_s3, S3Objects(client_of(strict_s3.endpoint_url), f"b-{uuid.uuid4().hex[:12]}", "archive"))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A day to be copied and archived."""
    return prepare(tmp_path_factory.mktemp("prepared") / "day")
