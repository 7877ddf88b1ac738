from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event, text

from catalog import cameras
from catalog.cameras import CameraRegistry, unknown_camera
from proto.errors import Broken, Invalid, Unknown
from proto.types import Camera, Recording
from tests.catalog.shared import opened, run_together

GATE = Camera("gate", "rtsp://user:secret@10.0.0.7/stream", speed=0.0, start_ms=1_767_225_600_000)


def registry_of(url: str) -> CameraRegistry:
    return CameraRegistry(opened(url))


def test_a_registry_that_was_never_written_is_empty(url: str) -> None:
    assert registry_of(url).all() == []
    assert registry_of(url).names() == frozenset()


def test_another_registry_sees_a_camera_as_it_was_added(url: str) -> None:
    other = registry_of(url)
    assert other.names() == frozenset()
    registry_of(url).add(GATE)
    assert other.get("gate") == GATE
    registry_of(url).add(Camera("dock", "dock.mp4", loop=True))
    assert [camera.name for camera in other.all()] == ["dock", "gate"]


def test_what_was_recorded_of_a_camera_that_comes_back_keeps_its_limits(url: str) -> None:
    registry = registry_of(url)
    registry.add(replace(GATE, record=Recording(7, 10**9)))
    with pytest.raises(Invalid):
        registry.add(GATE)
    registry.remove("gate")
    for _ in range(2):
        registry.add(GATE)
        assert registry.get("gate") == replace(GATE, record=Recording(7, 10**9, on=False))
    registry.remove("gate")
    registry.add(replace(GATE, record=Recording(1, 10**8)))
    assert registry.get("gate").record == Recording(1, 10**8)


def test_a_removed_camera_stays_known_and_can_come_back(url: str) -> None:
    registry = registry_of(url)
    registry.add(GATE)
    registry.remove("gate")
    assert registry.get("gate").watching is False
    assert registry.names() == {"gate"}
    registry.add(Camera("gate", "gate.mp4"))
    assert registry.get("gate") == Camera("gate", "gate.mp4")


def test_adding_the_same_camera_again_changes_nothing(url: str) -> None:
    registry = registry_of(url)
    registry.add(GATE)
    registry.add(GATE)
    assert registry.all() == [GATE]


def test_a_watched_name_is_not_given_to_another_source(url: str) -> None:
    registry = registry_of(url)
    registry.add(GATE)
    with pytest.raises(Invalid, match="watched already") as refused:
        registry.add(Camera("gate", "other.mp4"))
    assert "secret" not in str(refused.value)
    assert registry.get("gate") == GATE


def test_an_unknown_camera_is_an_error_that_names_the_near_ones(url: str) -> None:
    registry = registry_of(url)
    with pytest.raises(Unknown, match="register one first"):
        registry.get("gaet")
    for name in ("gate", "gate-2", "dock"):
        registry.add(Camera(name, "x.mp4"))
    with pytest.raises(Unknown, match=r"'gaet'.*gate"):
        registry.get("gaet")
    with pytest.raises(Unknown, match="known here"):
        registry.remove("zzz")
    assert len(registry.all()) == 3


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


def test_a_name_that_no_camera_can_have_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="camera's name"):
        registry_of(url).add(Camera("two words", "x.mp4"))
    assert registry_of(url).all() == []


def test_reading_again_what_did_not_change_asks_for_one_number(url: str) -> None:
    catalog = opened(url)
    registry = CameraRegistry(catalog)
    registry.add(GATE)
    assert registry.all() == [GATE]
    asked: list[str] = []
    event.listen(catalog._engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
    assert registry.all() == [GATE]
    assert [statement for statement in asked if "FROM" in statement] == [
        statement for statement in asked if "FROM meta" in statement
    ]
    assert len([statement for statement in asked if "FROM meta" in statement]) == 1


def test_of_many_cameras_only_those_that_changed_are_read(url: str) -> None:
    catalog = opened(url)
    registry, other = CameraRegistry(catalog), registry_of(url)
    assert registry.add_missing(Camera(f"cam-{number}", "x.mp4") for number in range(50)) == 50
    assert len(registry.all()) == 50
    with catalog.writing() as connection:
        connection.execute(text("UPDATE cameras SET settings = '{}' WHERE name <> 'cam-7'"))
    other.add(Camera("cam-51", "y.mp4"))
    assert len(registry.all()) == 51


def test_a_catalog_that_was_restored_is_read_anew(url: str) -> None:
    catalog = opened(url)
    registry = CameraRegistry(catalog)
    registry.add(GATE)
    registry.add(Camera("dock", "x.mp4"))
    assert len(registry.all()) == 2
    with catalog.writing() as connection:
        connection.execute(text("DELETE FROM cameras WHERE name = 'dock'"))
        connection.execute(text("UPDATE meta SET value = 1 WHERE name = 'cameras'"))
    assert registry.all() == [GATE]


def test_settings_that_a_later_watchword_gave_a_camera_outlive_its_removal(url: str) -> None:
    catalog = opened(url)
    registry = CameraRegistry(catalog)
    registry.add(Camera("gate", "x.mp4"))
    later = """{"name": "gate", "url": "x.mp4", "holograms": true}"""
    with catalog.writing() as connection:
        connection.execute(text(f"UPDATE cameras SET settings = '{later}'".replace(":", r"\:")))
    registry.remove("gate")
    assert registry_of(url).get("gate") == Camera("gate", "x.mp4", watching=False)
    with catalog.reading() as connection:
        assert "holograms" in str(connection.execute(text("SELECT settings FROM cameras")).scalar())


@pytest.mark.parametrize("settings", ["{}", "[]", "7", '{"name": "gate", "url": "secret", "speed": "fast"}'])
def test_settings_that_cannot_be_read_are_told_with_the_cameras_name(url: str, settings: str) -> None:
    catalog = opened(url)
    registry = CameraRegistry(catalog)
    registry.add(GATE)
    with catalog.writing() as connection:
        connection.execute(text(f"UPDATE cameras SET settings = '{settings}'".replace(":", r"\:")))
    with pytest.raises(Broken, match="camera gate cannot be read") as caught:
        registry_of(url).all()
    assert "secret" not in str(caught.value)
    assert caught.value.todo


def test_a_change_that_is_refused_counts_for_nothing(url: str) -> None:
    registry = registry_of(url)
    registry.add(GATE)
    with pytest.raises(Invalid):
        registry.add(replace(GATE, loop=True))
    with pytest.raises(Unknown):
        registry.remove("dock")
    assert (registry.all(), registry._change) == ([GATE], 1)


_ADDS = """
import sys
from catalog.cameras import CameraRegistry
from catalog.store import Catalog
from proto.types import Camera
catalog = Catalog(sys.argv[1], 60)
catalog.open()
input()
for n in range(10):
    CameraRegistry(catalog).add(Camera(f'{sys.argv[2]}-{n}', 'x.mp4'))
catalog.close()
"""


def test_processes_that_register_at_once_lose_no_camera_and_followers_see_each(url: str) -> None:
    registry = registry_of(url)
    assert registry.all() == []
    run_together(_ADDS, [(url, name) for name in "abc"])
    assert len(registry.names()) == 30
