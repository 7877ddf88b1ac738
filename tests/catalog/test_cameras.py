from __future__ import annotations

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catalog import cameras
from catalog.cameras import CameraRegistry, unknown_camera
from proto.errors import Broken, Invalid, Unknown
from proto.types import Camera

GATE = Camera("gate", "rtsp://user:secret@10.0.0.7/stream", speed=0.0, start_ms=1_767_225_600_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "cameras.json"


def test_a_registry_that_was_never_written_is_empty(file: Path) -> None:
    assert CameraRegistry(file).all() == []
    assert CameraRegistry(file).names() == frozenset()


def test_another_registry_sees_a_camera_as_it_was_added(file: Path) -> None:
    other = CameraRegistry(file)
    assert other.names() == frozenset()
    CameraRegistry(file).add(GATE)
    assert other.get("gate") == GATE
    CameraRegistry(file).add(Camera("dock", "dock.mp4", loop=True))
    assert [camera.name for camera in other.all()] == ["dock", "gate"]


def test_a_removed_camera_stays_known_and_can_come_back(file: Path) -> None:
    registry = CameraRegistry(file)
    registry.add(GATE)
    registry.remove("gate")
    assert registry.get("gate").watching is False
    assert registry.names() == {"gate"}
    registry.add(Camera("gate", "gate.mp4"))
    assert registry.get("gate") == Camera("gate", "gate.mp4")


def test_adding_the_same_camera_again_changes_nothing(file: Path) -> None:
    registry = CameraRegistry(file)
    registry.add(GATE)
    registry.add(GATE)
    assert registry.all() == [GATE]


def test_a_watched_name_is_not_given_to_another_source(file: Path) -> None:
    registry = CameraRegistry(file)
    registry.add(GATE)
    with pytest.raises(Invalid, match="watched already") as refused:
        registry.add(Camera("gate", "other.mp4"))
    assert "secret" not in str(refused.value)
    assert registry.get("gate") == GATE


def test_an_unknown_camera_is_an_error_that_names_the_near_ones(file: Path) -> None:
    registry = CameraRegistry(file)
    with pytest.raises(Unknown, match="register one first"):
        registry.get("gaet")
    for name in ("gate", "gate-2", "dock"):
        registry.add(Camera(name, "x.mp4"))
    with pytest.raises(Unknown, match=r"'gaet'.*gate"):
        registry.get("gaet")
    with pytest.raises(Unknown, match="known here"):
        registry.remove("zzz")


MANY = frozenset(f"site-0{n % 2 + 1}.floor-{n // 2 % 30}.camera-{n // 2:05d}-north" for n in range(10_000))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sote-01.floor-7.camera-00007-north", "site-01.floor-7.camera-00007-north"),
        ("site-01.floor-7.camera-0o007-north", "site-01.floor-7.camera-00007-north"),
        ("site-01.floor-7.camera-00007-nroth", "site-01.floor-7.camera-00007-north"),
        ("site-01.floor-7.camera-00007-north-", "site-01.floor-7.camera-00007-north"),
    ],
)
def test_among_ten_thousand_names_a_mistyped_one_is_recognised(typed: str, meant: str) -> None:
    assert meant in unknown_camera(typed, MANY).todo


def test_of_ten_thousand_names_few_are_compared_because_the_event_loop_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counting(word: str, possibilities: list[str], **more: float) -> list[str]:
        compared.append(len(word) * len(possibilities))
        return []

    monkeypatch.setattr(cameras, "get_close_matches", counting)
    unknown_camera("x" * 100_000, MANY)
    assert compared
    assert sum(compared) < 80 * 100


def test_a_name_that_no_camera_can_have_is_refused(file: Path) -> None:
    with pytest.raises(Invalid, match="camera's name"):
        CameraRegistry(file).add(Camera("two words", "x.mp4"))
    assert not file.exists()


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
def test_a_damaged_file_is_named_and_never_emptied(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    registry = CameraRegistry(file)
    with pytest.raises(Broken, match=r"cameras\.json is damaged"):
        registry.all()
    with pytest.raises(Broken, match=r"cameras\.json is damaged"):
        registry.add(GATE)
    assert file.read_text() == content


def test_a_file_that_was_mended_is_read_again(file: Path) -> None:
    CameraRegistry(file).add(GATE)
    good = file.read_text()
    registry = CameraRegistry(file)
    file.write_text(good[:20])
    with pytest.raises(Broken):
        registry.all()
    file.write_text(good)
    assert registry.all() == [GATE]


def test_only_its_owner_may_read_the_file_because_addresses_hold_passwords(file: Path) -> None:
    CameraRegistry(file).add(GATE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_path_that_cannot_be_written_is_broken_in_a_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(Broken, match=r"cannot (write|read) .*taken"):
        CameraRegistry(tmp_path / "taken" / "cameras.json").add(GATE)


def test_many_threads_and_processes_lose_no_camera(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from catalog.cameras import CameraRegistry; from proto.types import Camera\n"
        "for n in range(10): CameraRegistry(Path(sys.argv[1])).add(Camera(f'{sys.argv[2]}-{n}', 'x.mp4'))"
    )
    registry = CameraRegistry(file)
    others = [subprocess.Popen([sys.executable, "-c", program, str(file), name]) for name in ("a", "b")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: registry.add(Camera(f"t-{n}", "x.mp4")), range(20)))
    assert [other.wait(60) for other in others] == [0, 0]
    assert len(registry.names()) == 40
    assert len(json.loads(file.read_text())["cameras"]) == 40
