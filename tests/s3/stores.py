"""A store on the strict S3 server, with the product's own client settings at a faster clock."""

import dataclasses
from typing import Any

import boto3
import botocore.config

from pathstats_pipeline.storage import connect
from pathstats_pipeline.storage.objects import S3Objects

from .faults import Fault, Rule
from .strict_bucket import Bucket
from .strict_server import Seen, StrictServer

ATTEMPTS = 5
"""What the product's client settings allow: the first request and four more."""


@dataclasses.dataclass(frozen=True)
class Strict:
    """A bucket of its own on the strict server, and the store on it."""

    server: StrictServer
    objects: S3Objects

    @property
    def bucket(self) -> Bucket:
        """What the server keeps."""
        return self.server.bucket(self.objects.bucket)

    @property
    def seen(self) -> list[Seen]:
        """Every request that came."""
        return self.server.seen

    def fail(self, fault: Fault, verb: str = "", key: str = "", **when: Any) -> Rule:
        """Tell the server what to do wrong."""
        rule = Rule(fault, verb, key, **when)
        self.server.rules.append(rule)
        return rule

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.server.rules.clear()

    def kept(self, part: str = "") -> dict[str, bytes]:
        """The objects whose key contains a text, without the prefix of the store."""
        start = len(self.objects.prefix) + 1
        return {key[start:]: body for key, body in self.bucket.objects.items() if part in key}


def client_of(endpoint_url: str, **changed: Any) -> Any:
    """A client with the product's settings, and short time-outs."""
    config = connect._CONFIG.merge(botocore.config.Config(connect_timeout=2, read_timeout=2))
    credentials = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=endpoint_url, **{**credentials, "config": config, **changed})
