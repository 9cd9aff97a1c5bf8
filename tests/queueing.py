"""What tests of the queue share: a queue on the server of the session, its settings, and messages for it."""

import datetime as dt
import json
import uuid
from typing import TYPE_CHECKING

import boto3

from pathstats_pipeline.storage.local_server import REGION
from pathstats_pipeline.storage.queue import SqsQueue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

NOWHERE = "http://127.0.0.1:9"
"""Where no server is."""
HOUR = dt.datetime(2026, 3, 1, 5)


def client_of(endpoint_url: str) -> "SQSClient":
    """A client of a server that takes any credentials."""
    made: SQSClient = boto3.client(
        "sqs", endpoint_url=endpoint_url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )
    return made


def new_queue(endpoint_url: str) -> SqsQueue:
    """An empty queue."""
    client = client_of(endpoint_url)
    return SqsQueue(client, client.create_queue(QueueName=f"test-{uuid.uuid4().hex[:12]}")["QueueUrl"])


def queue_settings(queue: SqsQueue, letters: SqsQueue) -> dict[str, str]:
    """The environment in which these are the queue and its dead letters, and no S3 is started for anything."""
    return {
        "PATHSTATS_SQS_QUEUE_URL": queue.url,
        "PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL": letters.url,
        "PATHSTATS_SQS_ENDPOINT_URL": queue.client.meta.endpoint_url,
        "PATHSTATS_S3_ENDPOINT_URL": NOWHERE,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }


def event_lines(count: int, hour: dt.datetime = HOUR) -> str:
    """Events of an hour as JSON lines, each with an id of its own."""
    return "".join(
        json.dumps(
            {
                "event_id": uuid.uuid4().hex,
                "event_time": f"{hour + dt.timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}Z",
                "host": "api.example",
                "method": "GET",
                "path": f"/users/{number}",
                "status": 200,
                "response_time_ms": 1.5,
                "bytes_sent": 10,
                "client_ip": "192.0.2.1",
                "user_agent": "curl/8",
            }
        )
        + "\n"
        for number in range(count)
    )


def fail_before(queue: SqsQueue, times: int) -> None:
    """Let the only message of a queue have been received so often."""
    for _ in range(times):
        [message] = queue.receive(1, hidden_seconds=600, wait_seconds=1)
        assert queue.hide({message: 0}) == 0
