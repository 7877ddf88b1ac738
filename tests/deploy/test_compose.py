"""The Compose file: valid, complete, and every setting in it is one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator

from watchword.settings import read_settings

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "compose"
OURS = ("worker", "camera", "stream", "query", "gateway")
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::[-?]([^}]*))?\}")


def written() -> str:
    return (FOLDER / "compose.yaml").read_text()


def example() -> dict[str, str]:
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture
def compose() -> dict[str, Any]:
    """The file with the values of the example in it."""
    given = example()
    loaded: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda one: given.get(one[1], one[2] or ""), written()))
    return loaded


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    validator = Draft7Validator(get_builtin_schema("vendor.compose-spec"))
    assert [error.message for error in validator.iter_errors(compose)] == []
    compose["services"]["query"]["helthcheck"] = {}
    assert list(validator.iter_errors(compose))


def test_the_example_has_every_value_that_people_change_as_the_file_has_it() -> None:
    given = example()
    for name, default in VARIABLE.findall(written()):
        if name in given and default and not name.startswith("WATCHWORD_"):
            assert given[name] == default, name
    assert set(given) <= {name for name, _ in VARIABLE.findall(written())}


@pytest.mark.parametrize("process", OURS)
def test_a_process_starts_on_its_settings(
    process: str, compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = compose["services"][process]
    assert service["command"] == ["run", process]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, str(value))
    settings = read_settings()
    # Each address names a service, at the port where that service listens.
    assert settings.kafka.brokers == "kafka:9092"
    assert json.loads(service["environment"]["WATCHWORD_MILVUS__ENDPOINTS"]) == list(settings.milvus.endpoints)
    for address in (settings.encoder.address, settings.query.address):
        host, _, port = address.rpartition(":")
        listens = compose["services"][host]["environment"]
        assert f"0.0.0.0:{port}" in listens.values(), host


def test_our_processes_may_no_more_than_they_must(compose: dict[str, Any]) -> None:
    for process in OURS:
        service = compose["services"][process]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
        assert service["deploy"]["resources"]["limits"]["memory"]


def test_only_loopback_is_opened_on_the_host(compose: dict[str, Any]) -> None:
    opened = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert opened
    assert all(port.startswith("127.0.0.1:") for port in opened)
    assert compose["networks"]["inner"] == {"internal": True}


def test_who_uses_a_catalog_or_pictures_elsewhere_reaches_them(compose: dict[str, Any]) -> None:
    for process in ("camera", "stream", "query"):
        assert "outer" in compose["services"][process]["networks"], process


def test_what_a_service_waits_for_has_a_health_check(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name in service.get("depends_on", ()):
            # Ours is in the image.
            assert name in OURS or "healthcheck" in compose["services"][name]
