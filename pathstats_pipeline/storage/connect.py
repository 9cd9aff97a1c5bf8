"""From settings to stores and queues: clients, local servers, the landing zone. For code without Dagster, too."""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import botocore.config
import botocore.exceptions

from pathstats_pipeline.intake.messages import QueueError
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_sqs import DEAD_LETTERS, QUEUE, LocalSqs
from pathstats_pipeline.storage.objects import DirectoryObjects, S3Objects
from pathstats_pipeline.storage.queue import SqsQueue

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


def local_queues(directory: pathlib.Path) -> tuple[SqsQueue, SqsQueue]:
    """The queue of the local SQS server of a directory, and its dead letters; both are made where they are missing."""
    server = LocalSqs(directory)
    client = server.client()
    return SqsQueue(client, server.ensure_queue(QUEUE)), SqsQueue(client, server.ensure_queue(DEAD_LETTERS))


def queues(url: str, dead_letter_url: str | None, endpoint_url: str | None) -> tuple[SqsQueue, SqsQueue | None]:
    """A queue on SQS and its dead letters, with the credentials of AWS's own files and variables; raises QueueError."""
    import boto3  # noqa: PLC0415 - a tenth of a command's start, and not every command talks to a queue

    try:
        client = boto3.client("sqs", config=_CONFIG, endpoint_url=endpoint_url)
    except botocore.exceptions.BotoCoreError as error:  # AWS's own settings: no region, no such profile
        raise QueueError(f"cannot ask for queue {url}: {' '.join(str(error).split())}") from error
    return SqsQueue(client, url), SqsQueue(client, dead_letter_url) if dead_letter_url else None


def queues_of(settings: Settings) -> tuple[SqsQueue, SqsQueue | None]:
    """The queue that the settings name and its dead letters, or those of the local server."""
    if settings.sqs_queue_url is None:
        return local_queues(settings.local_sqs_directory)
    return queues(settings.sqs_queue_url, settings.sqs_dead_letter_queue_url, settings.sqs_endpoint_url)


def landing_zone(uri: str, client: "Callable[[], S3Client]") -> Landing:
    """The landing zone at a directory or at `s3://bucket/prefix`; the client is only made for the latter."""
    if not uri.startswith("s3://"):
        return Landing(DirectoryObjects(pathlib.Path(uri)))
    parts = urlsplit(uri)
    return Landing(S3Objects(client(), parts.netloc, parts.path.strip("/")))
