"""From settings to stores: S3 clients, the local S3 server, the landing zone. For code without Dagster, too."""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import botocore.config

from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import DirectoryObjects, S3Objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONFIG: Final = botocore.config.Config(
    connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"}
)


def local_s3_of(settings: Settings) -> LocalS3:
    """The local S3 server that the settings imply when they name no other."""
    return LocalS3(settings.local_s3_directory)


def s3_client(settings: Settings) -> "S3Client":
    """A client of the archive's S3: the local server, or what the settings and AWS's own files and variables name."""
    import boto3  # noqa: PLC0415 - a tenth of a command's start, and not every command talks to S3

    where: dict[str, Any] = {"endpoint_url": settings.s3_endpoint_url}
    if settings.uses_local_s3:
        server = local_s3_of(settings)
        where = {
            "endpoint_url": server.endpoint_url,
            "region_name": "us-east-1",
            "aws_access_key_id": server.credentials.access_key,
            "aws_secret_access_key": server.credentials.secret_key,
        }
    client: S3Client = boto3.client("s3", config=_CONFIG, **where)
    return client


def archive_objects(settings: Settings) -> S3Objects:
    """The store of the archive's objects."""
    return S3Objects(s3_client(settings), settings.bucket, settings.s3_prefix, settings.s3_looks_first)


def bucket_objects(settings: Settings, bucket: str) -> S3Objects:
    """A whole bucket, for the log files that stand in it."""
    return S3Objects(s3_client(settings), bucket)


def landing_zone(uri: str, client: "Callable[[], S3Client]") -> Landing:
    """The landing zone at a directory or at `s3://bucket/prefix`; the client is only made for the latter."""
    if not uri.startswith("s3://"):
        return Landing(DirectoryObjects(pathlib.Path(uri)))
    parts = urlsplit(uri)
    return Landing(S3Objects(client(), parts.netloc, parts.path.strip("/")))
