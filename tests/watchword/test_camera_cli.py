"""`watchword camera`: masks and what changes while a camera is watched."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from catalog.cameras import CameraRegistry
from catalog.statuses import CameraStatus, Statuses
from proto.types import Camera, Recording, now_ms
from tests.watchword.terminal import Cli, refused
from watchword.camera_list import follow_cameras, listed
from watchword.catalogs import open_catalog, open_registry
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


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("camera", "mask", "add", "gate", "0,0 1,1"), "2 corners: give at least 3"),
    (("camera", "mask", "add", "gate", "0,0 2,0 1,1"), "lies outside the picture"),
    (("camera", "mask", "add", "gate", "0,0 1,1 1,0 0,1"), "crosses or touches itself"),
    (("camera", "mask", "add", "gate", *[TOP] * 33), "33 masks were given: give at most 32"),
    (("camera", "mask", "add", "gaet", TOP), "no camera is named 'gaet': known here: gate"),
    (("camera", "mask", "clear", "gaet"), "no camera is named 'gaet': known here: gate"),
    (("camera", "add", "dock", URL, "--unchecked", "--mask", "all"), "is not made of numbers"),
    (("camera", "add", "dock", URL, "--unchecked", "--site", "a b"), "'a b' cannot be a site's name"),
]


def test_a_wrong_request_is_one_line(cli: Cli, registry: CameraRegistry) -> None:
    for words, says in WRONG:
        said = refused(cli(*words))
        assert says in said
        assert "hush" not in said
        assert registry.all() == [Camera("gate", URL)]


def test_settings_change_and_the_camera_stays_the_same(cli: Cli, registry: CameraRegistry) -> None:
    said = cli("camera", "set", "gate", "--fps", "1", "--novelty", "0.1", "--group", "yard", "--mask", TOP)
    assert said.out == "gate is watched; it takes a second or two\n"
    found = registry.get("gate")
    assert (found.url, found.fps, found.novelty, found.groups, len(found.masks)) == (URL, 1, 0.1, ("yard",), 1)
    cli("camera", "set", "gate", "--group", "doors", "--group", "site-2", "--group", "doors", "--as-usual")
    assert registry.get("gate").groups == ("doors", "site-2")
    assert registry.get("gate").fps is None and len(registry.get("gate").masks) == 1
    assert cli("camera", "set", "gate", "--disable").out.startswith("gate is disabled")
    assert not registry.get("gate").wanted and registry.get("gate").watching
    cli("camera", "set", "gate", "--enable", "--no-groups", "--url", "rtsp://new:hush@127.0.0.1:9/", "--unchecked")
    assert registry.get("gate").wanted and registry.get("gate").url == "rtsp://new:hush@127.0.0.1:9/"
    cli("camera", "set", "gate", "--site", "north")
    assert registry.get("gate").site == "north"
    cli("camera", "set", "gate", "--site", "")
    assert registry.get("gate").site == ""
    cli("camera", "ignore", "add", "gate", TOP)
    assert cli("camera", "ignore", "list", "gate").out == f"{TOP}\n"
    assert "hush" not in cli("camera", "list").out + cli("camera", "list", "--json").out


WRONG_CHANGES: list[tuple[tuple[str, ...], str]] = [
    (("--fps", "0"), "0 pictures a second cannot be looked at"),
    (("--fps", "nan"), "nan pictures a second cannot be looked at"),
    (("--novelty", "2"), "cannot differ by 2: give 0 to 1"),
    (("--group", "two words"), "cannot be a group's name"),
    (tuple(word for n in range(9) for word in ("--group", f"g{n}")), "would be in 9 groups: give at most 8"),
    (("--ignore", "0,0 1,1"), "2 corners"),
    (("--url", "gopher://user:hush@host/x"), "gopher:// is not a kind of camera"),
    (("--url", "rtsp://user:hush@127.0.0.1:1/x"), "no camera answers at rtsp://127.0.0.1:1/x"),
    ((), "nothing is to be changed"),
]


def test_a_change_that_cannot_be_changes_nothing(cli: Cli, registry: CameraRegistry) -> None:
    for words, says in WRONG_CHANGES:
        said = refused(cli("camera", "set", "gate", *words))
        assert says in said and "hush" not in said
        assert registry.all() == [Camera("gate", URL)]


def test_a_removed_camera_is_not_changed(cli: Cli, registry: CameraRegistry) -> None:
    cli("camera", "remove", "gate")
    assert "gate was removed" in refused(cli("camera", "set", "gate", "--enable"))


def test_groups_narrow_the_list(cli: Cli, registry: CameraRegistry) -> None:
    cli("camera", "add", "dock", URL, "--unchecked", "--group", "yard")
    rows = json.loads(cli("camera", "list", "--json", "--group", "yard").out)
    assert [(row["name"], row["groups"]) for row in rows] == [("dock", ["yard"])]
    assert "no camera is in a group 'yrad': known here: yard" in refused(cli("camera", "list", "--group", "yrad"))


def told(tmp_path: Path, *statuses: CameraStatus) -> None:
    with open_catalog(Settings(data_dir=tmp_path / "data")) as catalog:
        Statuses(catalog).put_statuses(statuses)


def test_the_list_says_how_each_camera_is_doing(cli: Cli, registry: CameraRegistry, tmp_path: Path) -> None:
    for name in ("dock", "off", "old"):
        cli("camera", "add", name, URL, "--unchecked")
    cli("camera", "set", "off", "--disable")
    now = now_ms()
    told(
        tmp_path,
        CameraStatus(
            "gate",
            "live",
            now,
            now,
            "",
            2,
            1.9,
            0.3,
            1920,
            1080,
            "h264",
            25,
            4_100_000,
            250,
            advice=("do",),
            cost=0.021,
            watched_by="north/7",
        ),
        CameraStatus("dock", "failing", now - 60_000, now, "no camera answers at rtsp://127.0.0.1:9/live"),
        CameraStatus("off", "live", now, now),
        CameraStatus("old", "live", now - 90_000, now - 90_000, fps_got=2.0),
    )
    lines = {line.split()[0]: line for line in cli("camera", "list").out.splitlines()}
    assert "live" in lines["gate"] and "1.9 of 2, 0.3 kept" in lines["gate"]
    assert "h264 1920x1080 25/s 4.1 Mbit/s key frame each 250" in lines["gate"]
    assert "north/7 at 2.1% of a core" in lines["gate"]
    assert lines["gate:"] == "gate: do"
    assert "failing since 20" in lines["dock"] and "no camera answers" in lines["dock"]
    assert "disabled" in lines["off"]
    assert "unknown since 20" in lines["old"] and "no camera process tells of it any more" in lines["old"]
    rows = {row["name"]: row["status"] for row in json.loads(cli("camera", "list", "--json").out)}
    assert (rows["gate"]["gop_s"], rows["gate"]["state"], rows["old"]["fps_got"]) == (10.0, "live", 0.0)


def test_following_the_list_says_each_change(registry: CameraRegistry, tmp_path: Path) -> None:
    out, now = Console(file=io.StringIO(), width=1000), now_ms()
    later = iter(
        [
            CameraStatus("gate", "live", now, now),
            CameraStatus("gate", "live", now, now, fps_got=1.0),
            CameraStatus("gate", "failing", now, now, "no camera answers"),
        ]
    )

    def pause() -> bool:
        status = next(later, None)
        if status is not None:
            told(tmp_path, status)
        return status is not None

    with open_catalog(Settings(data_dir=tmp_path / "data")) as catalog:
        follow_cameras(lambda: listed(catalog), pause, out)
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert [line.split(" ", 2)[2] for line in lines[2:]] == [
        "gate: unknown -> live",
        "gate: live -> failing: no camera answers",
    ]
