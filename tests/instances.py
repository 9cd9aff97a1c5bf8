"""Dagster's instances as operators have them: the local one on SQLite, and that of deploy/ on PostgreSQL."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import dagster as dg
import pytest
from postgres import postgres

BACKENDS = ("sqlite", "postgresql")


@contextlib.contextmanager
def instance_on(backend: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A fresh instance in a folder that is made; skipped where PostgreSQL isn't installed."""
    folder.mkdir()
    if backend == "sqlite":
        with dg.DagsterInstance.local_temp(str(folder)) as found:
            yield found
        return
    with postgres() as url:
        parts = urlsplit(url)
        named = {"HOST": parts.hostname, "PORT": parts.port, "USER": parts.username, "PASSWORD": "x"}
        for name, value in {**named, "DB": parts.path.strip("/")}.items():
            monkeypatch.setenv(f"DAGSTER_PG_{name}", str(value))
        monkeypatch.setenv("DAGSTER_STATE", str(folder))
        shutil.copy(pathlib.Path(__file__).parents[1] / "deploy" / "dagster.yaml", folder)
        with dg.DagsterInstance.from_config(str(folder)) as found:
            yield found
