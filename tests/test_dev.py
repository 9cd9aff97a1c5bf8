"""`pathstats dev`: one set of servers for a home, and none that outlives the command, however that ends."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from commands import Shell
from conftest import new_bucket, s3_settings
from dagster_server import serving as served

from pathstats_pipeline.defs.serving import LOCK_NAME, AlreadyServingError, alone, end_group
from pathstats_pipeline.storage.local_s3 import LocalS3

URL = "http://127.0.0.1:3000"
_DAGSTER = """
import pathlib, subprocess, sys, time
servers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) for _ in range(2)]
pathlib.Path("pids").write_text(" ".join(str(server.pid) for server in servers))
time.sleep(300)
"""
"""A `dagster dev` whose servers don't end with it."""
_COMMAND = """
import pathlib, sys
from pathstats_pipeline.defs import serving
with serving.alone(pathlib.Path(sys.argv[1]), sys.argv[2]) as lock:
    sys.exit(serving.serve("127.0.0.1", 3000, {}, lock))
"""
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(300)"


class Home:
    """A home, and a command on it that runs the servers above in place of Dagster's."""

    def __init__(self, path: pathlib.Path, before: str = "") -> None:
        self.path = path
        package = path / "code" / "dagster"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(_DAGSTER)
        self.group = 0
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-c", _COMMAND, str(path), URL],
            env={**os.environ, "DAGSTER_HOME": str(path), "PYTHONPATH": str(path / "code")},
        )

    def start(self) -> None:
        """Wait until everything runs."""
        wait_until(lambda: len(self._read("pids").split()) == 2 and '"group"' in self._read(LOCK_NAME))
        self.servers = [int(pid) for pid in self._read("pids").split()]
        self.group = os.getpgid(self.servers[0])
        [self.minder] = set(_holders(self.path / LOCK_NAME)) - {self.process.pid, self.group}

    def _read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.path / name).read_text()
        return ""


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Iterator[Home]:
    """Servers that run; whatever a test does to them, they are gone after it."""
    with running(Home(tmp_path)) as started:
        yield started


@contextlib.contextmanager
def running(started: Home) -> Iterator[Home]:
    """Have the servers of a home while the context is open."""
    try:
        started.start()
        yield started
    finally:
        started.process.kill()  # and the minder ends the rest
        started.process.wait()
        if started.group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.group, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _holders(path: pathlib.Path) -> list[int]:
    """The processes that have a file open."""
    if sys.platform != "linux":
        pytest.skip("who has a file open is read from /proc")
    found = []
    for descriptor in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == path:
                found.append(int(descriptor.parts[2]))
    return sorted(set(found))


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for doesn't."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_second_one_is_refused_and_told_who_runs(home: Home) -> None:
    """With the process and the address; the first one isn't touched."""
    with pytest.raises(AlreadyServingError) as refused, alone(home.path, URL):
        pass
    assert str(refused.value) == (
        f"pathstats dev already runs on this home (pid {home.process.pid}, {URL}); stop it first"
    )
    assert all(map(lives, home.servers))


def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run worker that hangs, say."""
    monkeypatch.setattr("pathstats_pipeline.defs.serving.LEADER_SECONDS", 0.2)
    monkeypatch.setattr("pathstats_pipeline.defs.serving.REST_SECONDS", 0.2)
    monkeypatch.setattr("pathstats_pipeline.defs.serving.KILLED_SECONDS", 0.2)
    with subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        process.stdout.readline()
        end_group(process.pid)
        assert process.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_no_server_outlives_the_command(home: Home, number: signal.Signals) -> None:
    """The next start waits for that, and begins."""
    home.process.send_signal(number)
    home.process.wait(60)
    with alone(home.path, URL):
        assert not any(map(lives, [home.group, home.minder, *home.servers]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_job_in_the_background_is_stopped_as_any_other(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    """Shells ignore SIGINT for it, nohup SIGHUP; Dagster then takes SIGTERM as it found SIGINT."""
    with running(Home(tmp_path, before="trap '' INT HUP TERM;")) as home:
        home.process.send_signal(number)
        home.process.wait(60)
        assert not any(map(lives, [home.group, home.minder, *home.servers]))


def test_no_server_outlives_dagster_dev(home: Home) -> None:
    """The command ends with it, and takes the rest along."""
    os.kill(home.group, signal.SIGKILL)
    assert home.process.wait(60) != 0
    assert not any(map(lives, home.servers))


def test_where_the_minder_was_killed_too_the_refusal_says_what_to_stop(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it says helps."""
    for pid in (home.minder, home.process.pid):
        os.kill(pid, signal.SIGKILL)
    home.process.wait()
    monkeypatch.setattr("pathstats_pipeline.defs.serving.LEADER_SECONDS", -100)
    with pytest.raises(AlreadyServingError) as refused, alone(home.path, URL):
        pass
    said, _, remedy = str(refused.value).partition("; stop them with: ")
    assert said == (
        f"servers of a pathstats dev that was killed (pid {home.process.pid}, {URL}) still run on this home"
    )
    subprocess.run(["/bin/sh", "-c", remedy], check=True)
    monkeypatch.undo()
    with alone(home.path, URL):
        assert not lives(home.group)


def test_what_is_written_of_an_earlier_one_is_no_obstacle(tmp_path: pathlib.Path) -> None:
    """The kernel's lock counts, not a file that a power cut has left."""
    (tmp_path / LOCK_NAME).write_text(f'{{"pid": {os.getpid()}, "url": "{URL}", "gr')
    with alone(tmp_path, URL):
        pass


def test_dagsters_own_servers_are_refused_a_second_time_and_end_when_the_command_is_killed(
    tmp_path: pathlib.Path, s3_server: LocalS3
) -> None:
    """The real ones: web server, daemon, code server; without a word of warning about `dagster dev` itself."""
    # No local server of its own, which would outlive it on purpose.
    settings = {**s3_settings(s3_server, new_bucket(s3_server)), "PATHSTATS_SQS_QUEUE_URL": "http://127.0.0.1:9/none"}
    shell = Shell(tmp_path / "home", tuple(settings.items()))
    log = tmp_path / "log"
    with served(shell, log) as server:
        pid = int((tmp_path / "home" / LOCK_NAME).read_text().split('"pid": ')[1].split(",")[0])
        assert shell.refused("dev", "--port", "3999") == (
            f"pathstats: error: pathstats dev already runs on this home (pid {pid}, {server.url}); stop it first"
        )
        group = _group_of(shell.home)
        servers = [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if _is_in(group, path)]
        assert len(servers) >= 4
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # as make does, and a shell
        with alone(shell.home, URL):
            assert not any(map(lives, servers))
    assert "Supersession" not in log.read_text()


def _group_of(home: pathlib.Path) -> int:
    return int((home / LOCK_NAME).read_text().split('"group": ')[1].strip("}"))


def _is_in(group: int, process: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        return os.getpgid(int(process.name)) == group
    return False
