"""The files of deploy/: Dagster takes its configuration, and image, services and docs speak of things that are there.

There is no container engine in CI: `make lint` has hadolint for the Dockerfile, the rest is held to here.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef

from pathstats_pipeline.cli import cli
from pathstats_pipeline.settings import Settings

ROOT = pathlib.Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "postgres"}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")


def in_yaml(value: Any) -> set[str]:
    """The environment variables that a Dagster configuration asks for."""
    if isinstance(value, Mapping):
        found = {value["env"]} if set(value) == {"env"} else set()
        return found.union(*map(in_yaml, value.values()))
    return set().union(*map(in_yaml, value)) if isinstance(value, list) else set()


def test_dagster_takes_the_configuration_and_asks_postgresql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """By Dagster's own validation, with the storage classes of the extra `postgres` made from it; none is connected."""
    text = (DEPLOY / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    needed = in_yaml(yaml.safe_load(text))
    assert needed == {f"DAGSTER_{name}" for name in ("PG_HOST", "PG_PORT", "PG_USER", "PG_PASSWORD", "PG_DB", "STATE")}
    for name in needed:
        monkeypatch.setenv(name, "5432" if name.endswith("PORT") else f"/{name}")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert config["run_monitoring"]["free_slots_after_run_end_seconds"] == 30
    assert config["run_monitoring"]["max_runtime_seconds"] == 7200
    assert config["run_retries"]["enabled"]
    ref = InstanceRef.from_dir(str(tmp_path))
    storage = ref.storage_data
    assert storage is not None
    assert storage.module_name == "dagster_postgres"
    assert "postgresql+psycopg2" in str(storage.config_yaml)


def test_production_and_local_agree_on_everything_but_the_storage() -> None:
    """What keeps steps apart, and frees what the dead hold, must not differ by accident."""
    production, local = (yaml.safe_load((ROOT / path).read_text()) for path in ("deploy/dagster.yaml", "dagster.yaml"))
    same = {"telemetry", "nux", "run_monitoring", "run_retries", "retention", "backfills", "schedules", "python_logs"}
    assert {name: production[name] for name in same} == {name: local[name] for name in same}
    assert production["concurrency"]["pools"] == local["concurrency"]["pools"]


def test_the_rules_of_retention_load_as_an_instance_too() -> None:
    """Everything but the storage, on SQLite."""
    config = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    for name in ("storage", "local_artifact_storage", "compute_logs"):
        del config[name]
    with dg.instance_for_test(overrides=config) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled


def test_every_service_has_an_image_a_check_of_its_health_and_restarts() -> None:
    """But the two that are one process and nothing else."""
    assert set(COMPOSE["services"]) == {"postgres", "code", "webserver", "daemon", "metrics", "watch", "consumer"}
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"pathstats:local|postgres:\d+\.\d+-bookworm", service["image"]), name
        assert service["restart"] == "unless-stopped"
        checked = service["healthcheck"]
        assert checked.get("disable") or (checked["test"][0] in {"CMD", "CMD-SHELL"} and checked["retries"] >= 3)
    assert {name for name in OURS if OURS[name]["healthcheck"].get("disable")} == {"watch", "consumer"}


def test_volumes_are_declared_and_whoever_opens_the_warehouse_shares_one() -> None:
    """A second volume of data would be a second, empty warehouse."""
    used = {volume.partition(":")[0] for each in COMPOSE["services"].values() for volume in each["volumes"]}
    named = {name for name in used if re.fullmatch(r"\w+", name)}
    assert named == set(COMPOSE["volumes"])
    for name, service in OURS.items():
        assert "data:/var/lib/pathstats" in service["volumes"], name
    assert "PATHSTATS_HOME=/var/lib/pathstats" in DOCKERFILE
    assert (DEPLOY / "dagster.yaml").exists()


def test_every_variable_is_one_of_ours_and_secrets_are_not_written_down() -> None:
    """What is misspelt would be ignored without a word."""
    text = (DEPLOY / "compose.yaml").read_text()
    known = {f"PATHSTATS_{name.upper()}" for name in Settings.model_fields} | {"PATHSTATS_FOLLOWED"}
    assert set(re.findall(r"PATHSTATS_\w+", text + DOCKERFILE)) <= known
    needed = in_yaml(yaml.safe_load((DEPLOY / "dagster.yaml").read_text()))
    given = set(OURS["code"]["environment"]) | set(re.findall(r"(DAGSTER_\w+)=", DOCKERFILE))
    assert needed <= given
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            assert not re.search("PASSWORD|SECRET|WEBHOOK", name) or str(value).startswith("${"), name


def test_published_ports_are_on_loopback() -> None:
    """Neither Dagster's UI nor the metrics ask for a password."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:3000:3000", "127.0.0.1:9464:9464"]


def test_commands_of_services_are_there() -> None:
    """A command that was renamed is noticed here."""
    for service in OURS.values():
        if service.get("command", [""])[0] == "pathstats":
            assert service["command"][1] in cli.commands
    [served] = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert served["grpc_server"]["host"] in COMPOSE["services"]
    assert f'"-p", "{served["grpc_server"]["port"]}"' in DOCKERFILE


def test_the_image_is_built_from_the_lock_as_another_user_than_root() -> None:
    """With hashes, from names of Docker Hub; nothing is copied that isn't let in."""
    assert DOCKERFILE.count("FROM python:3.11.14-slim-bookworm") == 2
    assert "--require-hashes --no-deps -r /src/requirements-image.lock" in DOCKERFILE
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert "HEALTHCHECK" in DOCKERFILE
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {name for names in copied for name in names.split()} == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_units_of_the_docs_run_what_is_there() -> None:
    """Each of them."""
    units = re.findall(r"^ExecStart=/opt/pathstats/venv/bin/(\S+) ?(\S*)", OPERATIONS, re.MULTILINE)
    assert {unit for unit, _ in units} == {"dagster-webserver", "dagster-daemon", "dagster", "pathstats"}
    assert {command for unit, command in units if unit == "pathstats"} <= set(cli.commands)
