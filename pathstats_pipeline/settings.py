"""Settings: environment variables `PATHSTATS_*`, each with a working local default, checked at start.

Add a setting here with its description. AWS credentials and region are not settings of ours: AWS's own standard
variables and files give them. Nothing else in the package reads the environment.
"""

import datetime as dt
import difflib
import functools
import logging
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import pydantic
import pydantic_settings

from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.events.templates import load_rules
from pathstats_pipeline.stats.pairs import SketchChoice

_log = logging.getLogger(__name__)

DEFAULT_BUCKET: Final = "pathstats"
_SECRETS: Final = {"alarm_webhook_url"}
"""What no message repeats."""
_OTHER_NAMES: Final = {"TRACEBACK", "FOLLOWED"}
"""Variables that are no settings: the command line's for tracebacks, and deploy/compose.yaml's for what is followed."""
_BUCKET: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


class SettingsError(ValueError):
    """A setting has a value that can't be used; the text is one line that names the variable."""


class Settings(pydantic_settings.BaseSettings):
    """All settings; read once, at start, by `load_settings`."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="PATHSTATS_", frozen=True, allow_inf_nan=False)

    home: Annotated[
        pathlib.Path, pydantic.Field(description="local state: warehouse, landing zone, local S3, locks")
    ] = pathlib.Path(".pathstats")
    warehouse: Annotated[pathlib.Path | None, pydantic.Field(description="the DuckDB file")] = None
    landing: Annotated[str | None, pydantic.Field(min_length=1, description="a directory or s3://bucket/prefix")] = None
    s3_bucket: Annotated[str | None, pydantic.Field(pattern=rf"^{_BUCKET}$")] = None
    s3_prefix: Annotated[str, pydantic.Field(description="key prefix of the archive, without slashes at its ends")] = (
        "archive"
    )
    s3_looks_first: Annotated[
        bool, pydantic.Field(description="look before each write; for a store that ignores If-None-Match")
    ] = False
    s3_endpoint_url: Annotated[str | None, pydantic.Field(pattern=r"^https?://[^/\s]+/?$")] = None
    start_date: Annotated[
        dt.date | None,
        pydantic.Field(description="the first partition, UTC; unset: the first day that ever landed, locally"),
    ] = None
    hot_days: Annotated[int, pydantic.Field(ge=0, le=3660, description="days that clean-up leaves alone")] = 3
    path_rules: Annotated[pydantic.FilePath | None, pydantic.Field(description="TOML file of path rules")] = None
    max_templates: Annotated[int, pydantic.Field(ge=1, description="templates an hour; the rest is __other__")] = 10_000
    sketches: Annotated[
        SketchChoice, pydantic.Field(description="what hours are built with; the two kinds are never merged")
    ] = SketchChoice.TDIGEST_HLL
    sqs_queue_url: Annotated[str | None, pydantic.Field(pattern=r"^https?://[^/\s]+/\S+$")] = None
    sqs_endpoint_url: Annotated[str | None, pydantic.Field(pattern=r"^https?://[^/\s]+/?$")] = None
    sqs_dead_letter_queue_url: Annotated[str | None, pydantic.Field(pattern=r"^https?://[^/\s]+/\S+$")] = None
    sqs_batch_messages: Annotated[int, pydantic.Field(ge=1, le=10_000, description="messages worked on at once")] = 100
    sqs_batch_mb: Annotated[float, pydantic.Field(gt=0, le=1024, description="the same in MiB, decompressed")] = 16.0
    sqs_batch_seconds: Annotated[float, pydantic.Field(gt=0, le=300, description="how long a batch is waited for")] = (
        5.0
    )
    sqs_groups: Annotated[int, pydantic.Field(ge=1, le=1000, description="loads published at once")] = 45
    sqs_hidden_seconds: Annotated[
        int, pydantic.Field(ge=1, le=43_200, description="how long received messages are kept from other consumers")
    ] = 900
    sqs_backlog_messages: Annotated[int, pydantic.Field(ge=1, description="more waiting messages are an alarm")] = (
        100_000
    )
    sqs_heartbeat_minutes: Annotated[
        float, pydantic.Field(gt=0, description="without a drain for so long while messages wait, it is an alarm")
    ] = 15.0
    archive_row_bytes: Annotated[float, pydantic.Field(gt=0, description="JSONL bytes a row, for the estimate")] = 150.0
    archive_gzip_ratio: Annotated[float, pydantic.Field(gt=0, le=1.5, description="gzip's share, for the estimate")] = (
        0.25
    )
    archive_multipart_mb: Annotated[
        float, pydantic.Field(ge=0, description="estimated MiB from which an archive is a multipart upload")
    ] = 100.0
    archive_lease_minutes: Annotated[
        float, pydantic.Field(gt=0, description="how long a run elsewhere that archives a day is waited for")
    ] = 15.0
    cleanup_grace_hours: Annotated[
        float, pydantic.Field(ge=0, le=87_840, description="hours that events stay after their archive was verified")
    ] = 0.0
    cleanup_batch_rows: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 5_000
    automation: Annotated[
        bool, pydantic.Field(description="whether Dagster asks for the runs that are due by itself")
    ] = True
    automation_seconds: Annotated[
        int, pydantic.Field(ge=1, le=3_600, description="how often it is looked what is due")
    ] = 60
    close_after_minutes: Annotated[
        float, pydantic.Field(ge=0, le=1_440, description="how long after its end an hour is closed")
    ] = 2.0
    archive_after_hours: Annotated[
        float, pydantic.Field(ge=0, le=8_784, description="how long after its end a day is archived")
    ] = 2.0
    max_rejected_share: Annotated[
        float, pydantic.Field(ge=0, le=1, description="a larger share of an hour's lines rejected is an alarm")
    ] = 0.05
    hot_store_limit_gb: Annotated[
        float | None, pydantic.Field(gt=0, description="GiB that the warehouse may take; unset, what its disk has")
    ] = None
    alarm_webhook_url: Annotated[
        pydantic.SecretStr | None,
        pydantic.Field(description="where Slack-compatible messages of failures go; a secret"),
    ] = None
    dagster_url: Annotated[
        str | None, pydantic.Field(pattern=r"^https?://[^/\s]+\S*$", description="of Dagster's UI, for links in alarms")
    ] = None
    keep_runs_days: Annotated[
        int, pydantic.Field(ge=31, le=3_660, description="how long runs that nothing depends on stay in Dagster")
    ] = 90
    lock_timeout_seconds: Annotated[
        float, pydantic.Field(gt=0, description="how long a run waits for the warehouse before it gives up")
    ] = 3_600.0

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _is_not_blank(cls, value: object, info: pydantic.ValidationInfo) -> object:
        # An empty prefix means the bucket's root; any other blank value is a variable that someone forgot to fill.
        if isinstance(value, str) and not value.strip() and (value or info.field_name != "s3_prefix"):
            raise ValueError("is blank")
        return value

    @pydantic.field_validator("landing")
    @classmethod
    def _landing_names_a_bucket(cls, value: str | None) -> str | None:
        if value and value.startswith("s3://") and not re.match(rf"s3://{_BUCKET}(/|$)", value):
            raise ValueError("names no bucket: write s3://bucket/prefix")
        if value and not value.startswith("s3://"):
            if "://" in value:
                raise ValueError("is neither a directory nor s3://bucket/prefix")
            _refuse_file(pathlib.Path(value))
        return value

    @pydantic.field_validator("alarm_webhook_url")
    @classmethod
    def _webhook_is_one(cls, value: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        if value and not re.match(r"^https?://[^/\s]+\S*$", value.get_secret_value()):
            raise ValueError("is no http or https URL")
        return value

    @pydantic.field_validator("home")
    @classmethod
    def _home_is_no_file(cls, value: pathlib.Path) -> pathlib.Path:
        _refuse_file(value)
        return value

    @pydantic.field_validator("warehouse")
    @classmethod
    def _warehouse_is_a_file(cls, value: pathlib.Path | None) -> pathlib.Path | None:
        # DuckDB takes such names for services or for memory; the warehouse is a file.
        if value and re.match(r"^(\w{2,}:|:)", str(value)):
            raise ValueError("is no path of a file")
        if value and value.is_dir():
            raise ValueError("is a directory, not a DuckDB file")
        return value

    @pydantic.field_validator("path_rules")
    @classmethod
    def _rules_can_be_read(cls, value: pathlib.Path | None) -> pathlib.Path | None:
        if value:
            load_rules(value)
        return value

    @pydantic.field_validator("s3_prefix")
    @classmethod
    def _prefix_is_a_folder(cls, value: str) -> str:
        prefix = value.strip("/")
        if prefix and {"", ".", ".."} & set(prefix.split("/")):
            raise ValueError("has an empty, '.' or '..' part")
        return prefix

    @property
    def warehouse_path(self) -> pathlib.Path:
        """The DuckDB file, absolute."""
        return (self.warehouse or self.home / "warehouse.duckdb").absolute()

    @property
    def landing_uri(self) -> str:
        """The landing zone: an absolute directory or `s3://bucket/prefix`."""
        if self.landing and self.landing.startswith("s3://"):
            return self.landing.rstrip("/")
        return str(pathlib.Path(self.landing or self.home / "landing").absolute())

    @property
    def bucket(self) -> str:
        """The bucket of the archive."""
        return self.s3_bucket or DEFAULT_BUCKET

    @property
    def uses_local_s3(self) -> bool:
        """Whether the archive goes to the local S3 server: neither a bucket nor an endpoint is set."""
        return self.s3_bucket is None and self.s3_endpoint_url is None

    @property
    def local_s3_directory(self) -> pathlib.Path:
        """Where the local S3 server keeps its objects, absolute."""
        return (self.home / "s3").absolute()

    @property
    def uses_local_queue(self) -> bool:
        """Whether messages come from the local SQS server: no queue is set."""
        return self.sqs_queue_url is None

    @property
    def local_sqs_directory(self) -> pathlib.Path:
        """Where the local SQS server keeps its queues, absolute."""
        return (self.home / "sqs").absolute()

    @property
    def sqs_batch_bytes(self) -> int:
        """Bytes of messages that are worked on at once."""
        return int(self.sqs_batch_mb * 1024 * 1024)

    @property
    def intake_lock_path(self) -> pathlib.Path:
        """Held by whoever takes in log files: two that meet the same file must agree on its identity."""
        return (self.home / "ingest.lock").absolute()

    @property
    def heartbeat(self) -> dt.timedelta:
        """For how long messages may wait without a drain."""
        return dt.timedelta(minutes=self.sqs_heartbeat_minutes)

    @property
    def retention(self) -> Retention:
        """How long archived events stay in the warehouse."""
        return Retention(self.hot_days, dt.timedelta(hours=self.cleanup_grace_hours))

    def absolute_environment(self) -> dict[str, str]:
        """The variables that name local paths, such that they mean the same in any working directory."""
        paths = {"HOME": self.home, "WAREHOUSE": self.warehouse, "PATH_RULES": self.path_rules}
        landing = None if self.landing is None else self.landing_uri
        named = {f"PATHSTATS_{name}": str(path.absolute()) for name, path in paths.items() if path is not None}
        return {**named, **({"PATHSTATS_LANDING": landing} if landing else {})}


def _in_words(problem: Mapping[str, Any]) -> str:
    reason = " ".join(problem["msg"].removeprefix("Value error, ").split())
    name = str(problem["loc"][0])
    value = "…" if name in _SECRETS else repr(problem["input"])
    return f"PATHSTATS_{name.upper()}={value}: {reason}"


def _refuse_file(path: pathlib.Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError("is a file, not a directory")


@functools.cache
def _tell_of(name: str, nearest: str | None) -> None:
    """Once a process, which reads the settings in several places; without any logging set up, it goes to stderr."""
    _log.warning(
        "%s is no setting of pathstats, and does nothing%s", name, f"; is it PATHSTATS_{nearest}?" if nearest else ""
    )


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises SettingsError, in one line that names the variable, for a value that can't be used. A name that is none of a
    setting is told, and refuses nothing: the version before must start with the environment of the one after.
    """
    known = {name.upper() for name in Settings.model_fields}
    for name in os.environ:
        prefix, _, rest = name.upper().partition("_")
        if prefix == "PATHSTATS" and rest not in known | _OTHER_NAMES:
            _tell_of(name, next(iter(difflib.get_close_matches(rest, known, 1)), None))
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        raise SettingsError("; ".join(map(_in_words, error.errors()))) from None
    if settings.start_date and settings.start_date > dt.datetime.now(dt.UTC).date():
        raise SettingsError(f"PATHSTATS_START_DATE={settings.start_date}: lies in the future")
    if letters := settings.sqs_dead_letter_queue_url:
        if settings.sqs_queue_url is None:
            raise SettingsError(f"PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL={letters}: PATHSTATS_SQS_QUEUE_URL is not set")
        if letters.rstrip("/") == settings.sqs_queue_url.rstrip("/"):
            raise SettingsError(f"PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL={letters}: is the queue itself")
    return settings
