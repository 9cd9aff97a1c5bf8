"""The command line as a user runs it: a real process, its own state, its exit code and what it printed."""

import dataclasses
import os
import pathlib
import subprocess
import sys

PROJECT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Shell:
    """Runs `pathstats` with its state in `home`, in the project's folder, with some environment on top."""

    home: pathlib.Path
    environment: tuple[tuple[str, str], ...] = ()

    def env(self) -> dict[str, str]:
        """The environment of the commands: the caller's, without any setting of pathstats, AWS or Dagster."""
        prefixes = ("PATHSTATS_", "AWS_", "DAGSTER_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        return {**clean, "PATHSTATS_HOME": str(self.home), "NO_PROXY": "127.0.0.1", **dict(self.environment)}

    def run(self, *arguments: str | pathlib.Path, timeout_seconds: float = 280) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, whatever its exit code."""
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

    @property
    def warehouse(self) -> pathlib.Path:
        """The DuckDB file of this state."""
        return self.home / "warehouse.duckdb"
