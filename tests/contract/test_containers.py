"""Dockerfile and docker-compose.yml name only commands, variables, ports and paths that exist in the code.

No container engine runs the tests, so this is the check that the two files stay true.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings_names import setting_names

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = ("migrate", "worker", "api")


def instructions() -> list[tuple[str, str]]:
    """Dockerfile instructions with their continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_dockerfile_copies_only_what_exists() -> None:
    sources = [
        word
        for name, rest in instructions()
        if name == "COPY"
        for word in rest.split()[:-1]
        if not word.startswith("--")
    ]
    assert sources
    assert [word for word in sources if not (ROOT / word).exists()] == []


def test_dockerfile_copies_every_package() -> None:
    copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()}
    assert {"api", "db", "ingest", "lineage"} <= copied


def test_dockerfile_runs_as_an_unprivileged_user() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert users[-1] not in {"root", "0"}


@pytest.mark.parametrize("service", OURS)
def test_commands_exist(service: str) -> None:
    command = COMPOSE["services"][service]["command"]
    assert command[:2] == ["python", "-m"]
    answer = subprocess.run(
        [sys.executable, *command[1:], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("service", OURS)
def test_variables_are_settings(service: str) -> None:
    assert set(COMPOSE["services"][service]["environment"]) <= setting_names()


def test_dockerfile_variables_are_settings() -> None:
    text = next(rest for name, rest in instructions() if name == "ENV")
    names = {pair.split("=", 1)[0] for pair in text.split()}
    assert names - {"PATH", "PYTHONUNBUFFERED"} <= setting_names()


def test_ports_agree() -> None:
    api = COMPOSE["services"]["api"]
    port = api["environment"]["FEDERATOR_PORT"]
    assert [mapping.rsplit(":", 1)[-1] for mapping in api["ports"]] == [port]
    assert f"127.0.0.1:{port}/_mgmt/ping" in api["healthcheck"]["test"][-1]
    assert ("EXPOSE", port) in instructions()


def test_data_paths_agree() -> None:
    for service in OURS:
        definition = COMPOSE["services"][service]
        mounts = {mount.split(":")[1] for mount in definition["volumes"]}
        assert definition["environment"]["FEDERATOR_DATA_DIR"] in mounts


def test_every_service_waits_for_the_one_before() -> None:
    services = COMPOSE["services"]
    assert services["migrate"]["depends_on"]["database"]["condition"] == "service_healthy"
    for service in ("worker", "api"):
        assert services[service]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert "healthcheck" in services["database"]
    assert "healthcheck" in services["api"]


def test_no_secret_is_written_down() -> None:
    for definition in COMPOSE["services"].values():
        for name, value in definition["environment"].items():
            if re.search(r"PASSWORD|TOKEN|SECRET", name):
                assert str(value).startswith("${"), f"{name} holds a value"
