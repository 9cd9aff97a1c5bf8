"""Dagster as an operator has it: web server and daemon as processes, asked over GraphQL as the UI asks them."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from commands import PROJECT, Shell

CHECKED = """query { assetNodeOrError(assetKey: {path: ["path_stats_daily"]}) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { status }
    partitionStatuses { ... on AssetCheckTimePartitionStatuses { ranges { status startKey endKey } } } } } } } } }"""
"""What the UI asks of the check of `path_stats_daily`, on its own page and beside the asset."""

START_SECONDS = 180
POLL_SECONDS = 1.0


def verdicts_of(answer: Any) -> dict[str, str]:
    """The status of the check by range of days, and its latest one, in the answer to `CHECKED`."""
    checks = answer["assetNodeOrError"]["assetChecksOrError"]["checks"]
    [check] = [each for each in checks if each["name"] == "sketches_readable"]
    ranges = {
        f"{each['startKey']} to {each['endKey']}": each["status"] for each in check["partitionStatuses"]["ranges"]
    }
    return {**ranges, "latest": check["executionForLatestMaterialization"]["status"]}


@dataclasses.dataclass(frozen=True)
class Server:
    """A running `pathstats dev`."""

    url: str
    shell: Shell

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that a GraphQL query gives; fails on errors."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http on loopback
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def launch_backfill(self, assets: list[str], partitions: list[str]) -> str:
        """Launch an asset backfill, as the UI's button does; its id."""
        launched = self.ask(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                 __typename ... on LaunchBackfillSuccess { backfillId }
                 ... on PythonError { message } } }""",
            params={
                "assetSelection": [{"path": [asset]} for asset in assets],
                "partitionNames": partitions,
                "tags": [],
            },
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill_status(self, backfill_id: str) -> str:
        """The status of a backfill: REQUESTED, COMPLETED_SUCCESS, FAILED and others."""
        query = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
                     ... on PartitionBackfill { status } } }"""
        return str(self.ask(query, id=backfill_id)["partitionBackfillOrError"]["status"])

    def runs(self) -> list[dict[str, Any]]:
        """Every run: id, status, job, tags."""
        query = "{ runsOrError(limit: 500) { ... on Runs { results { runId status jobName tags { key value } } } } }"
        results: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        return results

    def materialized(self, asset: str) -> int:
        """How many partitions of an asset are materialised."""
        query = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
                     ... on AssetNode { partitionStats { numMaterialized } } } }"""
        return int(self.ask(query, key={"path": [asset]})["assetNodeOrError"]["partitionStats"]["numMaterialized"])


def wait_for(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds; fails, saying what was waited for, when the time is up."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def serving(shell: Shell, log: pathlib.Path) -> Iterator[Server]:
    """Run `pathstats dev` in a session of its own while the context is open, and stop it as Ctrl-C would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pathstats_pipeline", "dev", "--port", str(port)],
            env=shell.env(),
            cwd=PROJECT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", shell)
            wait_for(f"the web server ({log.read_text()[-2_000:]})", lambda: _answers(server), START_SECONDS)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)


def _answers(server: Server) -> bool:
    try:
        return bool(server.ask("{ version }"))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
