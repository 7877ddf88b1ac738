"""Bundles that come to be on the command line: exported, pulled, quantized."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.bundle import load_bundle
from models.making import quantize
from tests.clips import CLIPS
from tests.models.hub import REPOSITORY, local_hub
from tests.models.small import CONFIGS, write_source
from tests.models.toy import toy_bundle, toy_folder
from tests.watchword.terminal import Cli, Ended

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = [str(CLIPS[name]) for name in ("bikes", "bigbuckbunny", "carphone_pristine")]


def test_an_exported_model_is_told_with_its_space_and_is_sound(cli: Cli, tmp_path: Path) -> None:
    folder = write_source(tmp_path / "small", CONFIGS["clip"])

    made = cli("models", "export", str(folder), "--random", "7", "--licence", "none", "--name", "mine")

    assert made.code == 0, made.err
    bundle = load_bundle(tmp_path / "data" / "bundles" / "mine")
    assert f"mine is ready: space {bundle.space.id}, 32 numbers, in {bundle.folder}" in made.out
    assert f"--set encoder.bundle={bundle.folder}" in made.out
    assert made.err.count("agrees with open_clip") == 2
    assert "mine is sound" in cli("models", "verify", "mine").out


def test_a_pulled_bundle_comes_from_the_hub_that_the_environment_names(tmp_path: Path) -> None:
    with local_hub(toy_folder(tmp_path / "published")) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
        # A process of its own: the hub's library reads its address once, when it is imported.
        command = [sys.executable, "-m", "watchword", "--data-dir", str(tmp_path / "data"), "models", "pull"]
        made = subprocess.run(
            [*command, REPOSITORY, "--name", "toy"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    assert made.returncode == 0, made.stderr
    bundle = load_bundle(tmp_path / "data" / "bundles" / "toy")
    assert f"toy is ready: space {bundle.space.id}, 16 numbers, in {bundle.folder}" in made.stdout
    assert bundle.licence == "mit"


def _quantized(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, now_ms: float) -> Ended:
    """Of a toy that takes 10 ms an item before, and `now_ms` in int8, however busy this machine is."""
    monkeypatch.setattr(quantize, "_alternated", lambda *_: (10.0, now_ms))
    toy = toy_bundle(tmp_path / "toy")
    return cli("models", "quantize", str(toy.folder), *RECORDINGS, "--as", "toy-int8")


def test_an_int8_bundle_that_wins_is_shown_with_what_was_measured_and_kept(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _quantized(cli, tmp_path, monkeypatch, now_ms=5.0)

    assert made.code == 0, made.err
    heading, *trials = made.out.splitlines()
    assert heading.split() == ["tower", "int8", "MB", "ms", "an", "item", "cosine"]
    assert [line.split()[:2] for line in trials[:4]] == [list(way) for way in quantize._WAYS]
    assert any("10.0 -> 5.0" in line and line.endswith("good") for line in trials)
    assert "overlap@10" in made.out
    assert "toy-int8 is ready" in made.out
    assert "toy-int8" in cli("models", "list").out
    assert "toy-int8 is sound" in cli("models", "verify", "toy-int8").out


def test_an_int8_bundle_that_is_not_faster_is_refused_with_the_reason(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _quantized(cli, tmp_path, monkeypatch, now_ms=10.0)

    assert made.code == 1
    assert "not faster here (1.00 x)" in made.out
    assert made.out.splitlines()[-1] == "no: no tower is both faster and true to itself in int8"
    assert not (tmp_path / "data" / "bundles" / "toy-int8").exists()
