"""`watchword camera`: masks and what changes while a camera is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from proto.types import Camera, Recording
from tests.watchword.terminal import Cli, refused
from watchword.catalogs import open_registry
from watchword.settings import Settings

TOP = "0,0 1,0 1,0.25 0,0.25"
URL = "rtsp://user:hush@127.0.0.1:9/live"


@pytest.fixture
def registry(tmp_path: Path, cli: Cli) -> Iterator[CameraRegistry]:
    cli("camera", "add", "gate", URL, "--unchecked")
    with open_registry(Settings(data_dir=tmp_path / "data")) as registry:
        yield registry


def test_masks_are_added_listed_and_cleared(cli: Cli, registry: CameraRegistry) -> None:
    assert cli("camera", "mask", "add", "gate", TOP, "640x480: 0,0 64,0 64,48").out.startswith("gate has 2 masks")
    assert cli("camera", "mask", "list", "gate").out == f"{TOP}\n0,0 0.1,0 0.1,0.1\n"
    assert len(registry.get("gate").masks) == 2
    assert cli("camera", "mask", "clear", "gate").code == 0
    assert registry.get("gate") == Camera("gate", URL)
    assert cli("camera", "mask", "list", "gate").out == "gate has no masks\n"


def test_a_camera_that_is_added_again_keeps_its_masks(cli: Cli, registry: CameraRegistry) -> None:
    cli("camera", "add", "dock", URL, "--unchecked", "--mask", TOP)
    cli("camera", "remove", "dock")
    assert "keeps the masks that it had: 1" in cli("camera", "add", "dock", URL, "--unchecked").out
    assert len(registry.get("dock").masks) == 1


def test_recording_and_masks_exclude_each_other_unless_it_is_said(cli: Cli, registry: CameraRegistry) -> None:
    cli("recording", "set", "gate", "--days", "2")
    said = refused(cli("camera", "mask", "add", "gate", TOP))
    assert "cannot have masks and be recorded" in said and "recording off gate" in said
    cli("recording", "off", "gate")
    assert cli("camera", "mask", "add", "gate", TOP).code == 0
    assert "cannot have masks and be recorded" in refused(cli("recording", "set", "gate"))
    assert not registry.get("gate").records
    added = ("camera", "add", "dock", URL, "--unchecked", "--mask", TOP, "--record-days", "1")
    assert "--recordings-stay-unmasked" in refused(cli(*added))
    assert cli(*added, "--recordings-stay-unmasked").code == 0
    assert registry.get("dock").records
    assert registry.get("dock").record == Recording(1, 50 * 10**9)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("camera", "mask", "add", "gate", "0,0 1,1"), "2 corners: give at least 3"),
        (("camera", "mask", "add", "gate", "0,0 2,0 1,1"), "lies outside the picture"),
        (("camera", "mask", "add", "gate", "0,0 1,1 1,0 0,1"), "crosses or touches itself"),
        (("camera", "mask", "add", "gate", *[TOP] * 33), "33 masks were given: give at most 32"),
        (("camera", "mask", "add", "gaet", TOP), "no camera is named 'gaet': known here: gate"),
        (("camera", "mask", "clear", "gaet"), "no camera is named 'gaet': known here: gate"),
        (("camera", "add", "dock", URL, "--unchecked", "--mask", "all"), "is not made of numbers"),
    ],
)
def test_a_wrong_request_is_one_line(cli: Cli, registry: CameraRegistry, words: tuple[str, ...], says: str) -> None:
    said = refused(cli(*words))
    assert says in said
    assert "hush" not in said
    assert registry.all() == [Camera("gate", URL)]
