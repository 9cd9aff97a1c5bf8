"""The command line as a user runs it: a process for each command, its own state, its exit code and what it printed."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

PROJECT = pathlib.Path(__file__).parents[1]

_NURSERY = """
import json, os, sys
import boto3, dagster, dagster_aws.s3, dagster_duckdb
from pathstats_pipeline.cli import main

# Of ours, only what reads no environment: settings and partitions are fixed when the definitions are imported.
assert not any(name.startswith(("pathstats_pipeline.defs", "pathstats_pipeline.definitions")) for name in sys.modules)
for line in sys.stdin:
    order = json.loads(line)
    if child := os.fork():
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.environ.clear()
    os.environ.update(order["env"])
    for descriptor, path in enumerate((os.devnull, order["stdout"], order["stderr"])):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
    sys.argv = ["pathstats", *order["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    sys.stdout.flush()
    # Not the interpreter's own end: C++ libraries would miss the threads that the fork has left behind.
    os._exit(code)
"""
"""Forks a child for each command; a child is a process as `python -m pathstats_pipeline` starts it, imports done."""


@dataclasses.dataclass(frozen=True)
class Nursery:
    """A process that has imported what commands import, which takes longer than most of them, and runs none itself."""

    process: "subprocess.Popen[str]"

    def run(
        self, arguments: list[str], env: dict[str, str], meanwhile: Callable[[int], object] = lambda _child: None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end in a child of its own; do something meanwhile, such as killing it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.NamedTemporaryFile("r") as stdout, tempfile.NamedTemporaryFile("r") as stderr:
            order = {"arguments": arguments, "env": env, "stdout": stdout.name, "stderr": stderr.name}
            print(json.dumps(order), file=self.process.stdin, flush=True)
            child = self.process.stdout.readline()
            assert child, "the nursery is gone"
            meanwhile(int(child))
            code = self.process.stdout.readline()
            return subprocess.CompletedProcess(arguments, int(code), stdout.read(), stderr.read())


@contextlib.contextmanager
def nursing() -> Iterator[Nursery]:
    """Have a nursery while the context is open."""
    with subprocess.Popen(
        [sys.executable, "-c", _NURSERY],
        env=_clean_environment(),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)


@dataclasses.dataclass(frozen=True)
class Shell:
    """Runs `pathstats` with its state in `home`, in the project's folder, with some environment on top.

    With a nursery a command doesn't pay for its imports; without, it is started as the user does.
    """

    home: pathlib.Path
    environment: tuple[tuple[str, str], ...] = ()
    nursery: Nursery | None = None

    def env(self) -> dict[str, str]:
        """The environment of the commands: the caller's, without any setting of pathstats, AWS or Dagster."""
        return {
            **_clean_environment(),
            "PATHSTATS_HOME": str(self.home),
            "NO_PROXY": "127.0.0.1",
            **dict(self.environment),
        }

    def run(self, *arguments: str | pathlib.Path, timeout_seconds: float = 280) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, whatever its exit code; the time is limited where it is a process of its own."""
        if self.nursery:
            return self.nursery.run([*map(str, arguments)], self.env())
        return subprocess.run(
            [sys.executable, "-m", "pathstats_pipeline", *map(str, arguments)],
            env=self.env(),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )

    def ok(self, *arguments: str | pathlib.Path, timeout_seconds: float = 280) -> str:
        """Run a command that must succeed; its stdout."""
        done = self.run(*arguments, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str | pathlib.Path) -> str:
        """Run a command that must fail; its one line on stderr."""
        done = self.run(*arguments)
        lines = [line for line in done.stderr.splitlines() if line.startswith("pathstats: ")]
        assert done.returncode != 0, done.stdout
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return lines[0]

    @contextlib.contextmanager
    def running(self, *arguments: str, log: pathlib.Path) -> "Iterator[subprocess.Popen[bytes]]":
        """A command that goes on until it is told to stop; both of its streams go to a log. Killed if it still runs."""
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "pathstats_pipeline", *arguments],
                env=self.env(),
                cwd=PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    @property
    def warehouse(self) -> pathlib.Path:
        """The DuckDB file of this state."""
        return self.home / "warehouse.duckdb"


def _clean_environment() -> dict[str, str]:
    prefixes = ("PATHSTATS_", "AWS_", "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
