from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from catalog.takeover import take_over_cameras
from proto.errors import Broken
from proto.types import Camera
from tests.catalog.shared import opened, run_together

GATE = Camera("gate", "rtsp://user:secret@10.0.0.7/stream", speed=0.0, start_ms=1_767_225_600_000)
GONE = Camera("gone", "gone.mp4", loop=True, watching=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cameras.json"


def written(file: Path, *cameras: Camera) -> str:
    file.write_text(json.dumps({"version": 1, "cameras": [asdict(camera) for camera in cameras]}))
    return file.read_text()


def test_the_cameras_of_the_file_are_registered_and_the_file_is_kept_under_another_name(url: str, file: Path) -> None:
    registry = CameraRegistry(opened(url))
    text = written(file, GATE, GONE)
    take_over_cameras(file, registry)
    assert registry.all() == [GATE, GONE]
    assert not file.exists()
    assert file.with_name("cameras.json.taken-over").read_text() == text
    take_over_cameras(file, registry)
    assert registry.all() == [GATE, GONE]


def test_being_killed_before_the_file_was_renamed_does_no_harm(url: str, file: Path) -> None:
    registry = CameraRegistry(opened(url))
    text = written(file, GATE, GONE)
    take_over_cameras(file, registry)
    registry.remove("gate")
    file.write_text(text)
    take_over_cameras(file, registry)
    assert [camera.watching for camera in registry.all()] == [False, False]


def test_where_there_is_no_file_nothing_is_done(url: str, file: Path) -> None:
    take_over_cameras(file, CameraRegistry(opened(url)))
    assert list(file.parent.glob("cameras.json*")) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 2, "cameras": []}',
        '{"version": 1, "cameras": [{"name": "gate"}]}',
        '{"version": 1, "cameras": [{"name": "../x", "url": "y"}]}',
        '{"version": 1, "cameras": [{"name": "gate", "url": "y", "speed": "fast"}]}',
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, file: Path, content: str) -> None:
    file.write_text(content)
    registry = CameraRegistry(opened(tmp_path))
    with pytest.raises(Broken, match=r"cameras\.json is damaged") as caught:
        take_over_cameras(file, registry)
    assert "repair it" in caught.value.todo
    assert (file.read_text(), registry.all()) == (content, [])


_TAKES_OVER = """
import sys
from pathlib import Path
from catalog.cameras import CameraRegistry
from catalog.store import Catalog
from catalog.takeover import take_over_cameras
catalog = Catalog(sys.argv[1])
catalog.open()
input()
take_over_cameras(Path(sys.argv[2]), CameraRegistry(catalog))
catalog.close()
"""


def test_processes_that_start_at_once_take_it_over_once(url: str, file: Path) -> None:
    opened(url)
    written(file, GATE, GONE)
    run_together(_TAKES_OVER, [(url, str(file))] * 2)
    assert CameraRegistry(opened(url)).all() == [GATE, GONE]
