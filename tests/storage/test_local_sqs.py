"""The local SQS server, tried on the real one."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from local_servers import kill, listening, pid_of

from pathstats_pipeline.storage.connect import local_queues
from pathstats_pipeline.storage.local_server import LOOPBACK, LocalServerError, State
from pathstats_pipeline.storage.local_sqs import QUEUE, LocalSqs

START = "import sys, pathlib; from pathstats_pipeline.storage.local_sqs import *; "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSqs]:
    """Give one running server to the tests that leave it running."""
    with LocalSqs(tmp_path_factory.mktemp("sqs")).in_use() as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalSqs]:
    """Give a server to the tests that start and stop it themselves."""
    unstarted = LocalSqs(tmp_path / "sqs")
    yield unstarted
    unstarted.stop()


def bodies(server: LocalSqs) -> list[str]:
    """What can be received from the queue now, each message hidden for a second at most."""
    queue, _ = local_queues(server.directory)
    return sorted(message.body for message in queue.receive(10, hidden_seconds=0))


def test_queues_and_messages_survive_a_stop_also_on_another_port(own: LocalSqs) -> None:
    """What was sent is there after a clean stop, hidden or not; a port that was taken meanwhile is given up."""
    assert not own.was_started
    assert own.start()
    queue, letters = local_queues(own.directory)
    queue.send("waits", {"pathstats_identity": "i"})
    letters.send("dead")
    endpoint = own.endpoint_url
    own.stop()
    assert LocalSqs(own.directory).was_started
    own.start()
    assert own.endpoint_url == endpoint
    assert bodies(own) == ["waits"]
    before = own._read_state()
    assert before is not None
    own.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((LOOPBACK, before.ports["sqs.port"]))
        other.listen()

        own.start()

        assert own.endpoint_url != endpoint
        queue, letters = local_queues(own.directory)
        assert [(each.identity, each.body) for each in queue.receive(10, hidden_seconds=60)] == [("i", "waits")]
        assert [each.body for each in letters.receive(10, hidden_seconds=60)] == ["dead"]


def test_a_kill_leaves_no_server_and_the_next_start_makes_one(own: LocalSqs) -> None:
    """After SIGKILL it is not taken for alive; the next start makes another process, with both queues."""
    own.start()
    queue, _ = local_queues(own.directory)
    first = pid_of(own)
    kill(own)

    assert own.start()

    assert pid_of(own) != first
    again, _ = local_queues(own.directory)
    assert again.name == queue.name == QUEUE
    assert again.depth().messages == 0


def test_processes_that_start_at_once_share_one_server(own: LocalSqs) -> None:
    """Whoever comes later finds the first one's server; it outlives them all, in a session of its own."""
    code = START + "s = LocalSqs(pathlib.Path(sys.argv[1])); print(s.start(), s.ensure_queue('q'))"
    command = [sys.executable, "-c", code, str(own.directory)]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(3)))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 3
    assert sorted(run.stdout.split()[0] for run in runs) == ["False", "False", "True"]
    assert len({run.stdout.split()[1] for run in runs}) == 1
    assert not own.log_path.with_suffix(".log.1").exists()
    assert os.getsid(pid_of(own)) == pid_of(own)


def test_starting_again_uses_the_running_server(server: LocalSqs) -> None:
    """A second use changes nothing, and doesn't stop it under the first."""
    pid = pid_of(server)
    with LocalSqs(server.directory).in_use() as same:
        assert same.ensure_queue("kept") == server.ensure_queue("kept")
    assert pid_of(server) == pid


def test_it_listens_on_loopback_alone(server: LocalSqs) -> None:
    """The server's process listens on one port at 127.0.0.1, and nowhere else."""
    state = server._read_state()
    assert state is not None
    assert listening(pid_of(server)) == {("0100007F", state.ports["sqs.port"])}


def test_the_environment_of_the_user_does_not_reach_the_server(
    server: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is set for the outside is not asked for loopback, and no AWS variable is handed over."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert server._is_ready()
    handed = Path(f"/proc/{pid_of(server)}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in handed if entry}
    assert names == {"GATEWAY_PORT", "BIND_HOST", "SERVICES", "PERSIST_STATE", "STATE_DIR", "HOME", "TMPDIR", "PATH"}


def test_a_stale_process_id_is_nobody_to_stop(own: LocalSqs) -> None:
    """When the server is gone and its process id belongs to another program, that program is left alone."""
    own.directory.mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:  # noqa: S607 - any program will do
        own._write_state(State({"sqs.port": 1}, bystander.pid))
        own._server_lock_path.touch()
        own.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_nothing_is_stopped_where_nothing_was_started(tmp_path: Path) -> None:
    """A directory that doesn't exist has no server, and asking makes no directory."""
    server = LocalSqs(tmp_path / "none")
    server.stop()
    assert not server.was_started
    with pytest.raises(LocalServerError, match=r"^the local SQS server of \S+ has never been started$"):
        server.client()
    assert not server.directory.exists()


def test_a_server_that_is_not_there_is_told_in_one_line(own: LocalSqs) -> None:
    """One that ran and was stopped can't be asked for queues; the error is one line."""
    own.start()
    own.stop()
    with pytest.raises(LocalServerError, match=r"^queue 'pathstats' can't be created: [^\n]*$"):
        local_queues(own.directory)


def test_a_missing_package_is_named(own: LocalSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ministack package, the error says what to install."""
    find = importlib.util.find_spec

    def missing(name: str, *rest: Any) -> Any:
        return None if name == "ministack" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(LocalServerError, match=r"^the local SQS server is not installed: pip install \S+\[local\]$"):
        own.start()
