from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.watchword.terminal import Cli, Ended, refused

pytestmark = pytest.mark.long

CACHE = Path.home() / ".cache" / "watchword"


@pytest.fixture
def models(cli: Cli) -> Cli:
    """`watchword models …` with the built-in bundle at hand, in the cache that all tests share."""

    def run(*arguments: str) -> Ended:
        return cli("--set", f"cache_dir={CACHE}", "models", *arguments)

    assert cli("--set", f"cache_dir={CACHE}", "models", "build").code == 0
    return run


def test_the_built_in_bundle_is_listed_shown_and_found_sound(models: Cli) -> None:
    assert "builtin-" in models("list").out
    shown = models("show", "builtin")
    assert (shown.code, "Apache-2.0" in shown.out) == (0, True)
    assert "sound" in models("verify", "builtin").out


def test_what_the_built_in_bundle_knows_and_how_fast_it_finds_it_is_shown(models: Cli) -> None:
    shown = models("show", "builtin").out
    assert "traffic light" in shown
    assert "as much work as 1.3 pictures" in shown
    (pace, *_) = [line.split() for line in models("bench", "builtin").out.splitlines() if line.startswith("objects")]
    assert float(pace[2]) > 0


def test_a_bundle_that_is_not_here_is_refused_with_those_that_are(models: Cli) -> None:
    assert "builtin-" in refused(models("verify", "nope"))


def test_a_bundle_whose_file_was_changed_is_found_out(models: Cli, tmp_path: Path) -> None:
    sound = next((CACHE / "bundles").glob("builtin-*"))
    copy = tmp_path / "copy"
    shutil.copytree(sound, copy)
    (copy / "textual" / "tokenizer.json").write_bytes(b"{}")
    verified = models("verify", str(copy))
    assert verified.code != 0
    assert "tokenizer.json" in verified.out + verified.err


def test_a_model_is_not_exported_from_a_pickle(models: Cli, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"\x80\x02.")
    assert "safetensors" in refused(models("export", "ViT-B-32", "--weights", str(tmp_path / "weights.pt")))
