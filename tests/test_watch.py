"""`pathstats watch` as a process: it stops when asked, several may follow the same place, and any may be killed."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from commands import PROJECT, Nursery, Shell
from conftest import new_bucket, s3_client_of, s3_settings
from ingesting import ALL_PATHS, LOG, stored

from pathstats_pipeline.storage.local_s3 import LocalS3

LINES = LOG.splitlines(keepends=True)
FILES = 3
EXPECTED = sorted(path.replace("/p/", f"/{name}/") for path in ALL_PATHS for name in range(FILES))


@pytest.fixture
def shell(tmp_path: pathlib.Path, nursery: Nursery) -> Shell:
    """A state of its own, and a directory to follow."""
    (tmp_path / "logs").mkdir()
    return Shell(tmp_path, nursery=nursery)


@contextlib.contextmanager
def watching(shell: Shell, *arguments: str | pathlib.Path) -> Iterator["subprocess.Popen[str]"]:
    """A watcher as the user starts it, while the context is open."""
    command = [sys.executable, "-m", "pathstats_pipeline", "watch", *map(str, arguments)]
    with subprocess.Popen(
        command, env=shell.env(), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def records(shell: Shell, state: str) -> list[pathlib.Path]:
    """The records of the intake in a state."""
    return list(shell.home.glob(f"landing/_sources/*/*-{state}.json"))


def grow(logs: pathlib.Path, start: int, end: int, rng: random.Random) -> None:
    """Append the next lines to each file, in pieces that end anywhere."""
    for name in range(FILES):
        data = b"".join(LINES[start:end]).replace(b"/p/", b"/%d/" % name)
        cut = rng.randrange(len(data))
        for piece in (data[:cut], data[cut:]):
            with (logs / f"{name}.log").open("ab") as file:
                file.write(piece)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it(shell: Shell, tmp_path: pathlib.Path, number: int) -> None:
    """After the file in hand, without an error; each pass that did something was one line."""
    grow(tmp_path / "logs", 0, 200, random.Random(1))  # noqa: S311 - test data
    with watching(shell, tmp_path / "logs", "--every", "0.1") as watcher:
        until(lambda: len(records(shell, "done")) == FILES)
        time.sleep(0.5)
        watcher.send_signal(number)
        out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (0, "")
    [line] = out.splitlines()
    assert line.endswith("Z 3 file(s): 600 new line(s), 600 accepted, 0 rejected, hours 2026-11-20T00 to 2026-11-20T09")


def test_several_watchers_lose_and_double_nothing(shell: Shell, tmp_path: pathlib.Path) -> None:
    """Two follow files that grow, by different names, and a command ingests them at the same time."""
    rng, logs = random.Random(2), tmp_path / "logs"  # noqa: S311 - test data
    grow(logs, 0, 20, rng)
    (tmp_path / "link").symlink_to(logs)
    with (
        watching(shell, logs, "--every", "0.1") as one,
        watching(shell, tmp_path / "link", "--every", "0.1") as other,
    ):
        until(lambda: records(shell, "done"))
        for start in range(20, 200, 20):
            grow(logs, start, start + 20, rng)
            if start == 100:
                shell.ok("ingest", *sorted(logs.iterdir()))
            time.sleep(0.2)
        for watcher in (one, other):
            watcher.send_signal(signal.SIGTERM)
            assert (watcher.communicate(timeout=60)[1], watcher.returncode) == ("", 0)
    shell.ok("watch", logs, "--once")
    assert stored(tmp_path) == (EXPECTED, [])


def test_twenty_kills_lose_and_double_nothing(shell: Shell, tmp_path: pathlib.Path, nursery: Nursery) -> None:
    """Each watcher is killed, most in the middle of a file; the next one, to which the files have grown, goes on."""
    rng, logs = random.Random(3), tmp_path / "logs"  # noqa: S311 - test data
    interrupted = 0
    for kill in range(20):
        grow(logs, kill * 10, kill * 10 + 10, rng)
        planned = len(records(shell, "planned"))

        def strike(child: int, planned: int = planned) -> None:
            if rng.random() < 0.8:
                until(lambda: len(records(shell, "planned")) > planned)
                time.sleep(rng.random() * 0.03)
            else:
                time.sleep(rng.random() * 0.5)
            os.kill(child, signal.SIGKILL)

        done = nursery.run(["watch", str(logs), "--every", "0.1"], shell.env(), strike)
        assert done.returncode == -signal.SIGKILL
        interrupted += len(records(shell, "planned")) > len(records(shell, "done"))
    shell.ok("watch", logs, "--once")
    assert interrupted >= 3
    assert len(records(shell, "planned")) == len(records(shell, "done"))
    assert stored(tmp_path) == (EXPECTED, [])


def test_a_prefix_is_followed_by_the_command(shell: Shell, s3_server: LocalS3) -> None:
    """What is ours in the bucket, the landing zone and the archive, isn't taken for logs."""
    bucket = new_bucket(s3_server)
    client = s3_client_of(s3_server)
    for key in ("logs/a.log", "archive/events/x.jsonl.gz", "logs/zone/_days/x", "logs/b.txt"):
        client.put_object(Bucket=bucket, Key=key, Body=LOG)
    environment = (*s3_settings(s3_server, bucket).items(), ("PATHSTATS_LANDING", f"s3://{bucket}/logs/zone"))
    on_s3 = Shell(shell.home, environment, shell.nursery)

    printed = [on_s3.ok("watch", f"s3://{bucket}", "--once", "--pattern", "*.log") for _ in range(2)]
    assert [" 1 file(s): 200 new line(s), 200 accepted, 0 rejected" in each for each in printed] == [True, False]
    assert on_s3.ok("watch", f"s3://{bucket}/", "--once") == ""  # the other object is the same log


def test_one_pass_fails_where_a_file_cannot_be_read(shell: Shell, tmp_path: pathlib.Path) -> None:
    """The others are ingested; a line says which, and the last line that there was one."""
    (tmp_path / "logs" / "a.log").write_bytes(LOG)
    (tmp_path / "logs" / "b.log").write_bytes(LOG.decode().encode("utf-16"))
    os.utime(tmp_path / "logs" / "b.log", (1, 1))

    done = shell.run("watch", tmp_path / "logs", "--once")

    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stderr.splitlines() == [
        f"pathstats: {tmp_path / 'logs' / 'b.log'}: UTF-16 text; convert it to UTF-8 first",
        f"pathstats: error: {tmp_path / 'logs'}: 1 could not be read",
    ]


def test_one_pass_fails_where_nothing_can_be_kept(shell: Shell, tmp_path: pathlib.Path) -> None:
    """A landing zone that takes nothing, as on a full disk: exit code 1, and the file comes in once it takes more."""
    (tmp_path / "logs" / "access.log").write_bytes(LOG)
    (shell.home / "landing").mkdir(parents=True, exist_ok=True)
    in_the_way = shell.home / "landing" / "dt=2026-11-20"
    in_the_way.write_text("")
    done = shell.run("watch", "--once", tmp_path / "logs")
    assert (done.returncode, "not all could be ingested" in done.stderr) == (1, True)

    in_the_way.unlink()
    shell.ok("watch", "--once", tmp_path / "logs")
    assert stored(tmp_path) == (ALL_PATHS, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s3://"], "s3://: names no bucket"),
        ([__file__], "is no directory: ingest a file with `pathstats ingest`"),
        (["nosuch", "--once"], "nosuch: 1 could not be read"),
        ([".", "--every", "0"], "--every"),
        ([".", "--map", "nosuch.toml"], "nosuch.toml"),
        ([], "PLACE"),
    ],
)
def test_what_cannot_be_followed_is_refused(shell: Shell, arguments: list[str], message: str) -> None:
    """In one line."""
    done = shell.run("watch", *arguments)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
