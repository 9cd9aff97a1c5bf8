"""A PostgreSQL server on loopback, of the system's package; tests without it are skipped, and say so."""

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

_BINARIES = pathlib.Path("/usr/lib/postgresql")


def _binary(name: str) -> str:
    found = shutil.which(name) or next(iter(sorted(map(str, _BINARIES.glob(f"*/bin/{name}")))), None)
    return found or pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A fresh server; the URL of its database, as SQLAlchemy takes it."""
    initdb, pg_ctl = _binary("initdb"), _binary("pg_ctl")
    with tempfile.TemporaryDirectory(prefix="pathstats-postgres-") as folder, socket.socket() as probe:
        # The server won't run as root, who gives it to the user of the package.
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if as_user:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        data = f"{folder}/data"

        def run(*command: str) -> None:
            subprocess.run([*as_user, *command], cwd="/", check=True, capture_output=True, text=True)

        run(initdb, "-D", data, "-U", "dagster", "-A", "trust", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run(pg_ctl, "-D", data, "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
