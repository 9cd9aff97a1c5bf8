"""The services of deploy/ as processes on one machine: its configuration, its commands, its checks, on PostgreSQL.

What a container adds is not tried. It takes a minute and more, so it is one of `make test-faults`.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]
from commands import Shell
from conftest import new_bucket, s3_settings
from dagster_server import wait_for
from postgres import postgres

from pathstats_pipeline.storage.local_s3 import LocalS3

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
IMAGE_COMMAND = json.loads((DEPLOY / "Dockerfile").read_text().rpartition("\nCMD ")[2])
BINARIES = pathlib.Path(sys.executable).parent
WAIT_SECONDS = 180


@dataclasses.dataclass
class Host:
    """Where the services run: a folder, an environment, and other ports than the image's."""

    folder: pathlib.Path
    environment: dict[str, str]
    ports: dict[str, str]

    def here(self, command: list[str]) -> list[str]:
        """A command of a service as it is on this host: its binaries, its ports, its workspace."""
        workspace = str(self.folder / "workspace.yaml")
        words = [word.replace("/opt/pathstats/workspace.yaml", workspace) for word in command]
        for port, other in self.ports.items():
            words = [word.replace(port, other) for word in words]
        return [str(BINARIES / words[0]), *words[1:]]

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """A service while the context is open, which it is once its own check says that it is well."""
        command = self.here(SERVICES[name].get("command", IMAGE_COMMAND))
        with (
            (self.folder / f"{name}.log").open("wb") as log,
            subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log) as process,
        ):
            try:
                wait_for(f"{name} to be well", lambda: self._is_well(name), WAIT_SECONDS)
                yield
                process.terminate()
                process.wait(60)
            finally:
                process.kill()
        assert process.returncode == 0, name

    def _is_well(self, name: str) -> bool:
        check = self.here(SERVICES[name]["healthcheck"]["test"][1:])
        return subprocess.run(check, env=self.environment, capture_output=True, check=False).returncode == 0

    def ask(self, service: str, path: str, body: bytes | None = None) -> str:
        """What a service answers."""
        port = self.ports["9464" if service == "metrics" else "3000"]
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http on loopback
            return str(answer.read().decode())

    def has_ticked(self, sensor: str) -> bool:
        """Whether the metrics say that a sensor was evaluated."""
        return f'sensor="{sensor}"' in self.ask("metrics", "/metrics")


@pytest.fixture
def host(tmp_path: pathlib.Path, s3_server: LocalS3) -> Iterator[Host]:
    """A fresh database, a fresh bucket, nothing running."""
    dagster = tmp_path / "dagster"
    dagster.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", dagster)
    with contextlib.ExitStack() as stack:
        url = urlsplit(stack.enter_context(postgres()))
        probes = [stack.enter_context(socket.socket()) for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = dict(zip(("4266", "3000", "9464"), (str(probe.getsockname()[1]) for probe in probes), strict=True))
        for probe in probes:
            probe.close()
        text = (DEPLOY / "workspace.yaml").read_text()
        workspace = text.replace("host: code", "host: 127.0.0.1").replace("4266", ports["4266"])
        (tmp_path / "workspace.yaml").write_text(workspace)
        database = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "PASSWORD": "x", "DB": "postgres"}
        environment = {
            **Shell(tmp_path / "data").env(),
            **s3_settings(s3_server, new_bucket(s3_server)),
            **{f"DAGSTER_PG_{name}": str(value) for name, value in database.items()},
            "DAGSTER_HOME": str(dagster),
            "DAGSTER_STATE": str(dagster),
            "PATHSTATS_START_DATE": "2026-11-20",
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        }
        yield Host(tmp_path, environment, ports)


@pytest.mark.faults
def test_the_services_are_well_and_a_run_goes_its_way(host: Host) -> None:
    """Each by the check that compose has for it; sensors tick, as the metrics say, and a run is launched and ends."""
    load = host.folder / "data" / "landing" / "dt=2026-11-20" / "hour=05" / "x.jsonl"
    with host.running("code"), host.running("webserver"), host.running("daemon"), host.running("metrics"):
        for sensor in ("due_runs", "alarms"):
            _wait_for(sensor, functools.partial(host.has_ticked, sensor))
        load.parent.mkdir(parents=True)
        load.write_text('{"event_id":"a","event_time":"2026-11-20T05:00:01Z","path":"/x"}\n')
        query = {"query": "{runsOrError(limit: 50) {... on Runs {results {jobName status}}}}"}
        body = json.dumps(query).encode()
        _wait_for("a run", lambda: '"jobName":"hourly","status":"SUCCESS"' in host.ask("ui", "/graphql", body))


def _wait_for(what: str, condition: Callable[[], bool]) -> None:
    wait_for(what, condition, WAIT_SECONDS)
