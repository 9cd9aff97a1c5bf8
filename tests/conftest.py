"""What all tests share: a clean environment, a real S3 server for the session, and where the real logs are."""

import functools
import os
import pathlib
import sys
import uuid
from collections.abc import Iterator

import botocore.loaders
import botocore.session
import hypothesis
import pytest
from commands import Nursery, nursing

# Partition sets are fixed when the code location is imported, which is before any fixture can say from when on.
os.environ["PATHSTATS_START_DATE"] = "2012-01-01"

from other_s3 import ministack

from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.objects import S3Objects

# A client reads megabytes of JSON that describe its service, a quarter of a second each time; once is enough.
botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"

# How long an example takes says how busy the machine is; `make bench` is where speed is judged.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

LONGEST = (
    "test_fortnight.py",
    "test_queue.py",
    "test_crashes.py",
    "test_ui.py",
    "test_production.py",
    "test_backfill.py",
    "test_alarms.py",
    "test_real_logs.py",
    "test_sensors.py",
    "test_commands.py",
    "test_consumer.py",
    "test_life_cycle.py",
    "test_pipeline.py",
    "test_identity.py",
    "test_queue_commands.py",
    "test_many_hosts.py",
    "test_drill.py",
    "test_month.py",
    "test_killed.py",
    "test_queue_sensor.py",
    "test_local_s3.py",
    "test_dev.py",
)
"""Files that take a quarter of a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker is still at one of them when the others have nothing left."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No setting of the caller's reaches a test, and no test writes into the project's own state."""
    for name in list(os.environ):
        if name.startswith(("PATHSTATS_", "AWS_", "DAGSTER_")):
            monkeypatch.delenv(name)
    # It keeps the credentials that it was first asked with, for another test's server.
    if boto3 := sys.modules.get("boto3"):
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("PATHSTATS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """A real S3 server on loopback, one for each test process."""
    with LocalS3(tmp_path_factory.mktemp("s3")).in_use() as server:
        yield server


@pytest.fixture
def s3_objects(s3_server: LocalS3) -> S3Objects:
    """An empty bucket on the real S3 server."""
    return S3Objects(s3_client_of(s3_server), new_bucket(s3_server), "archive")


def new_bucket(server: LocalS3) -> str:
    """Make an empty bucket; its name."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    server.ensure_bucket(bucket)
    return bucket


def s3_settings(server: LocalS3, bucket: str) -> dict[str, str]:
    """The environment in which a bucket of a server is the archive's; no command then starts a server for itself."""
    return {
        "PATHSTATS_S3_ENDPOINT_URL": server.endpoint_url,
        "PATHSTATS_S3_BUCKET": bucket,
        "AWS_ACCESS_KEY_ID": server.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": server.credentials.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where commands are forked from, one for each test process."""
    with nursing() as running:
        yield running


def s3_client_of(server: LocalS3):  # type: ignore[no-untyped-def]  # noqa: ANN201 - boto3 has no types at run time
    """A boto3 client of a local server."""
    import boto3  # noqa: PLC0415 - tests without S3 needn't wait for it

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=server.credentials.secret_key,
    )


@pytest.fixture(scope="session")
def other_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second S3 server that shares no code with the first, one for each test process; its address."""
    with ministack(tmp_path_factory.mktemp("other-s3")) as url:
        yield url


@pytest.fixture
def other_s3_objects(other_s3_server: str) -> S3Objects:
    """An empty bucket on the second S3 server."""
    import boto3  # noqa: PLC0415 - tests without S3 needn't wait for it

    client = boto3.client(
        "s3",
        endpoint_url=other_s3_server,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return S3Objects(client, bucket, "archive")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The real logs that stand beside the checkout; they aren't part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real logs (../shared/data) are not on this machine")
    return SHARED_DATA
