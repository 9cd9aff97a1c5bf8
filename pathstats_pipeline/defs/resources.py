"""Resources: configuration in, one domain object out. Assets see a warehouse, a landing zone, a store; not drivers.

`WarehouseResource` is dagster-duckdb's resource with its connection replaced: that one keeps the file locked after an
error and gives up on a busy file. `ArchiveStorage` uses dagster-aws's S3 resource as it is.
"""

import contextlib
import datetime as dt
import pathlib
import socket
from collections.abc import Iterator
from typing import Any, Self

import dagster as dg
from dagster_aws.s3 import S3Resource
from dagster_duckdb import DuckDBResource
from pydantic import Field

from pathstats_pipeline.archive.claims import Claimant
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.stats.pairs import SketchChoice
from pathstats_pipeline.storage.compaction import Compaction, compact
from pathstats_pipeline.storage.connect import landing_zone, local_s3_of
from pathstats_pipeline.storage.duck import open_connection
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.objects import S3Objects
from pathstats_pipeline.storage.warehouse import Warehouse, open_warehouse


class WarehouseResource(DuckDBResource):
    """The DuckDB warehouse; one run at a time holds it, the others wait."""

    lock_timeout_seconds: float = Field(default=3_600.0, description="how long to wait for the file")

    @contextlib.contextmanager
    def open(self) -> Iterator[Warehouse]:
        """The warehouse, held alone while the context is open."""
        with open_warehouse(pathlib.Path(self.database), lock_timeout_seconds=self.lock_timeout_seconds) as warehouse:
            yield warehouse

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


class Rules(dg.ConfigurableResource[Any]):
    """The knobs of statistics and archive; what each means stands in settings.py."""

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
        "rules": Rules.of(settings),
    }
