"""Resources: configuration in, one domain object out. Assets see a warehouse, a landing zone, a store; not drivers.

`WarehouseResource` is dagster-duckdb's resource with its connection replaced: that one keeps the file locked after an
error and gives up on a busy file. `ArchiveStorage` uses dagster-aws's S3 resource as it is.
"""

import contextlib
import datetime as dt
import functools
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Self

import dagster as dg
from dagster_aws.s3 import S3Resource
from dagster_duckdb import DuckDBResource
from pydantic import Field

from pathstats_pipeline.alarms.messages import Message
from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.defs.abandoned import LivingResource
from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake.consumer import Bounds, Consumer, consumer_of
from pathstats_pipeline.intake.ingest import first_hour
from pathstats_pipeline.settings import Settings, load_settings
from pathstats_pipeline.stats.pairs import SketchChoice
from pathstats_pipeline.storage.compaction import Compaction, compact
from pathstats_pipeline.storage.connect import landing_zone, local_queues, local_s3_of, queues
from pathstats_pipeline.storage.duck import in_turn, open_connection
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.queue import SqsQueue
from pathstats_pipeline.storage.space import Space, space_of
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse
from pathstats_pipeline.storage.webhook import post


class WarehouseResource(LivingResource, DuckDBResource):
    """The DuckDB warehouse; one run at a time holds it, the others wait."""

    lock_timeout_seconds: float = Field(default=3_600.0, description="how long to wait for the file")

    @contextlib.contextmanager
    def open(self, at_most_seconds: float | None = None) -> Iterator[Warehouse]:
        """The warehouse, held alone while the context is open; whoever only looks waits for it a short while."""
        seconds = min(self.lock_timeout_seconds, at_most_seconds or self.lock_timeout_seconds)
        with open_warehouse(pathlib.Path(self.database), lock_timeout_seconds=seconds) as warehouse:
            yield warehouse

    def space(self) -> Space:
        """How large the file is, and how much room it has."""
        return space_of(pathlib.Path(self.database))

    def compact(self, *, deleted: bool) -> Compaction:
        """Give freed space back to the disk; nobody may have the warehouse open here."""
        timeout = self.lock_timeout_seconds
        return compact(pathlib.Path(self.database), lock_timeout_seconds=timeout, deleted=deleted)

    def claimant(self, lease: dt.timedelta) -> Claimant:
        """Who claims generations: all runs of this warehouse on this host, of which one at a time holds it."""
        return Claimant(f"{socket.gethostname()}:{pathlib.Path(self.database).resolve()}", lease)

    @contextlib.contextmanager
    def get_connection(self) -> Iterator[Any]:
        """A DuckDB connection under the same lock, closed whatever happens; for assets of your own."""
        with open_connection(
            pathlib.Path(self.database), lock_timeout_seconds=self.lock_timeout_seconds, config=self.connection_config
        ) as connection:
            yield connection


class LocalS3Resource(S3Resource):
    """dagster-aws's S3 resource for the local server, whose address and credentials stand in its directory."""

    directory: str = Field(description="the local server's directory")

    def get_client(self) -> Any:
        """A client of the local server."""
        server = LocalS3(pathlib.Path(self.directory))
        keys = server.credentials
        return S3Resource(
            endpoint_url=server.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
        ).get_client()


class ArchiveStorage(dg.ConfigurableResource[Any]):
    """Where the archive is: a bucket and a prefix on S3."""

    s3: dg.ResourceDependency[S3Resource]
    bucket: str
    prefix: str
    looks_first: bool = False

    def objects(self) -> S3Objects:
        """The store of the archive's objects. A new client each call: ask once a run."""
        return S3Objects(self.s3.get_client(), self.bucket, self.prefix, self.looks_first)


class LandingZone(dg.ConfigurableResource[Any]):
    """Where the loads of events land: a directory, or a prefix on S3."""

    s3: dg.ResourceDependency[S3Resource]
    uri: str

    def landing(self) -> Landing:
        """The landing zone."""
        return landing_zone(self.uri, self.s3.get_client)


class MessageQueues(LivingResource):
    """The queue that events come by, and its dead letters; what each number means stands in settings.py."""

    s3: dg.ResourceDependency[S3Resource]
    url: str | None = None
    dead_letter_url: str | None = None
    endpoint_url: str | None = None
    local_directory: str = Field(description="of the local SQS server, which is used where no queue is set")
    lock_path: str = Field(description="held by whoever takes in log files")
    lock_timeout_seconds: float
    first_hour: str
    batch_messages: int
    batch_bytes: int
    batch_seconds: float
    groups: int
    hidden_seconds: int
    backlog_messages: int
    heartbeat_minutes: float

    @classmethod
    def of(cls, settings: Settings, s3: S3Resource) -> Self:
        """The queue that the settings name, or the local server's."""
        return cls(
            s3=s3,
            url=settings.sqs_queue_url,
            dead_letter_url=settings.sqs_dead_letter_queue_url,
            endpoint_url=settings.sqs_endpoint_url,
            local_directory=str(settings.local_sqs_directory),
            lock_path=str(settings.intake_lock_path),
            lock_timeout_seconds=settings.lock_timeout_seconds,
            first_hour=first_hour(settings).isoformat(),
            batch_messages=settings.sqs_batch_messages,
            batch_bytes=settings.sqs_batch_bytes,
            batch_seconds=settings.sqs_batch_seconds,
            groups=settings.sqs_groups,
            hidden_seconds=settings.sqs_hidden_seconds,
            backlog_messages=settings.sqs_backlog_messages,
            heartbeat_minutes=settings.sqs_heartbeat_minutes,
        )

    @property
    def is_there(self) -> bool:
        """Whether there is a queue to ask: one that is set, or a local one that has been started."""
        return self.url is not None or LocalSqs(pathlib.Path(self.local_directory)).was_started

    @property
    def heartbeat(self) -> dt.timedelta:
        """For how long messages may wait without a drain."""
        return dt.timedelta(minutes=self.heartbeat_minutes)

    def queues(self) -> tuple[SqsQueue, SqsQueue | None]:
        """The queue and its dead letters. New clients each call: ask once a run."""
        if self.url is None:
            return local_queues(pathlib.Path(self.local_directory))
        return queues(self.url, self.dead_letter_url, self.endpoint_url)

    def consumer(self, landing: Landing, clock: Callable[[], dt.datetime]) -> Consumer:
        """Who takes messages off the queue into the landing zone."""
        lock = functools.partial(
            in_turn, pathlib.Path(self.lock_path), timeout_seconds=self.lock_timeout_seconds, what=self.lock_path
        )
        return consumer_of(
            self.queues(),
            landing,
            lambda bucket: S3Objects(self.s3.get_client(), bucket),
            dt.datetime.fromisoformat(self.first_hour),
            clock,
            lock,
            Bounds(self.batch_messages, self.batch_bytes, self.batch_seconds, self.groups, self.hidden_seconds),
        )


class Rules(dg.ConfigurableResource[Any]):
    """The knobs of statistics, archive and checks; what each means stands in settings.py."""

    hot_days: int
    max_templates: int
    path_rules: str | None = None
    sketches: str = SketchChoice.TDIGEST_HLL.value
    archive_row_bytes: float
    archive_gzip_ratio: float
    archive_multipart_mb: float
    archive_lease_minutes: float
    cleanup_grace_hours: float
    cleanup_batch_rows: int
    max_rejected_share: float
    hot_store_limit_gb: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules that the settings give."""
        return cls(
            **settings.model_dump(include=set(cls.model_fields) - {"path_rules", "sketches"}),
            sketches=settings.sketches.value,
            path_rules=str(settings.path_rules.absolute()) if settings.path_rules else None,
        )

    @property
    def sketch_choice(self) -> SketchChoice:
        """The pair of sketches that hours are built with."""
        return SketchChoice(self.sketches)

    @property
    def lease(self) -> dt.timedelta:
        """For how long a claim on a generation holds."""
        return dt.timedelta(minutes=self.archive_lease_minutes)

    @property
    def retention(self) -> Retention:
        """How long archived events stay in the warehouse."""
        return Retention(self.hot_days, dt.timedelta(hours=self.cleanup_grace_hours))

    @property
    def size_rule(self) -> SizeRule:
        """How an archive's size is estimated, and from which size on it is a multipart upload."""
        return SizeRule(self.archive_row_bytes, self.archive_gzip_ratio, self.archive_multipart_mb)


class Automation(dg.ConfigurableResource[Any]):
    """When the sensor `due_runs` asks for runs; what each number means stands in settings.py."""

    is_on: bool
    close_after_minutes: float
    archive_after_hours: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rhythm that the settings give."""
        return cls(
            is_on=settings.automation,
            close_after_minutes=settings.close_after_minutes,
            archive_after_hours=settings.archive_after_hours,
        )

    @property
    def close_after(self) -> dt.timedelta:
        """How long after its end an hour is closed."""
        return dt.timedelta(minutes=self.close_after_minutes)

    @property
    def archive_after(self) -> dt.timedelta:
        """How long after its end a day is archived."""
        return dt.timedelta(hours=self.archive_after_hours)


class AlarmWebhook(dg.ConfigurableResource[Any]):
    """Where alarms go. The URL is no field: the UI shows fields, and it is a secret."""

    is_set: bool
    dagster_url: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings name."""
        return cls(is_set=settings.alarm_webhook_url is not None, dagster_url=settings.dagster_url)

    def post(self, message: Message) -> None:
        """Send a message; raises WebhookError."""
        if url := load_settings().alarm_webhook_url:
            post(url.get_secret_value(), message)


class Housekeeping(dg.ConfigurableResource[Any]):
    """How long runs stay; what the number means stands in settings.py."""

    keep_runs_days: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(keep_runs_days=settings.keep_runs_days)


class Clock(dg.ConfigurableResource[Any]):
    """What time it is. A resource, so that whoever tries out a fortnight needn't wait for one."""

    def now(self) -> dt.datetime:
        """The time in UTC, naive as all times here."""
        return naive_utc(dt.datetime.now(dt.UTC))


def resources_of(settings: Settings) -> dict[str, Any]:
    """The resources that the settings give, by the names that assets ask for them."""
    s3 = (
        LocalS3Resource(directory=str(local_s3_of(settings).directory))
        if settings.uses_local_s3
        else S3Resource(endpoint_url=settings.s3_endpoint_url)
    )
    return {
        "warehouse": WarehouseResource(
            database=str(settings.warehouse_path), lock_timeout_seconds=settings.lock_timeout_seconds
        ),
        "landing_zone": LandingZone(s3=s3, uri=settings.landing_uri),
        "archive_storage": ArchiveStorage(
            s3=s3, bucket=settings.bucket, prefix=settings.s3_prefix, looks_first=settings.s3_looks_first
        ),
        "message_queues": MessageQueues.of(settings, s3),
        "rules": Rules.of(settings),
        "automation": Automation.of(settings),
        "alarm_webhook": AlarmWebhook.of(settings),
        "housekeeping": Housekeeping.of(settings),
        "clock": Clock(),
    }
