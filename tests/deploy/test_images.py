"""The images: what their files copy and call is there, and what they set are settings."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest

from watchword.cli import command
from watchword.settings import PREFIX, read_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "docker"
FILES = [FOLDER / "Dockerfile", FOLDER / "Dockerfile.gpu"]


def joined(file: Path) -> str:
    """The file with one instruction a line, without comments."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", " ", "\n".join(lines))


def copied(file: Path) -> set[str]:
    """What is copied from the repository."""
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", joined(file), re.MULTILINE)
    return {name for names in found for name in names.split()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_has_every_room_of_the_distribution_and_nothing_that_is_not_there(file: Path) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied(file)
    assert all((ROOT / name).exists() for name in copied(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_build_is_sent_what_it_copies(file: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied(file) <= let_in
    assert not any(fnmatch(".git", name) for name in let_in)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_an_image_sets_are_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", joined(file)))
    assert f"{PREFIX}OPS__PORT" in given
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert read_settings({}).ops.port == int(given[f"{PREFIX}OPS__PORT"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_that_an_image_calls_exists(file: Path) -> None:
    called = re.findall(r"bin/watchword (?:--set \S+ )*(\w+) (\w+)", joined(file))
    assert called == [("models", "build")]
    for group, wanted in called:
        found = command.commands[group]
        assert isinstance(found, click.Group)
        assert wanted in found.commands
    assert "probe" in command.commands


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_runs_as_nobody_says_when_it_is_ready_and_has_no_installer(file: Path) -> None:
    build, final = re.split(r"^FROM ", joined(file), flags=re.MULTILINE)[1:]
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert "pip" not in final
    assert "pip uninstall -qy pip" in build
