from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from catalog.known import KnownCameras
from proto.errors import Transient, WatchwordError
from proto.types import Camera
from tests.catalog.shared import opened

GATE, DOCK = Camera("gate", "x.mp4"), Camera("dock", "y.mp4")


@dataclass
class Registry:
    """A registry that can be away, and counts how often it is asked."""

    cameras: list[Camera] = field(default_factory=lambda: [GATE])
    trouble: WatchwordError | None = None
    asked: int = 0

    def all(self) -> list[Camera]:
        self.asked += 1
        if self.trouble:
            raise self.trouble
        return list(self.cameras)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def known(registry: Registry, clock: Clock) -> KnownCameras:
    return KnownCameras(registry, every_s=1.0, clock=clock)  # type: ignore[arg-type]


def test_the_catalog_is_asked_once_a_second() -> None:
    registry, clock = Registry(), Clock()
    cameras = known(registry, clock)
    for _ in range(5):
        assert cameras.all() == [GATE]
    registry.cameras.append(DOCK)
    assert (cameras.names(), registry.asked) == (frozenset({"gate"}), 1)
    clock.now_s = 1.0
    assert (cameras.names(), registry.asked) == (frozenset({"gate", "dock"}), 2)


def test_a_name_that_is_not_known_is_asked_for_at_once() -> None:
    registry, clock = Registry(), Clock()
    cameras = known(registry, clock)
    assert cameras.names({"gate"}) == {"gate"}
    registry.cameras.append(DOCK)
    assert cameras.names({"dock"}) == {"gate", "dock"}


def test_what_is_known_is_used_while_the_catalog_is_away_and_until_it_is_back() -> None:
    registry, clock = Registry(), Clock()
    cameras = known(registry, clock)
    cameras.all()
    registry.trouble, clock.now_s = Transient("away"), 5.0
    assert cameras.all() == [GATE]
    asked = registry.asked
    assert (cameras.names({"gate"}), registry.asked) == (frozenset({"gate"}), asked)
    with pytest.raises(Transient, match="away"):
        cameras.names({"dock"})
    registry.trouble, registry.cameras, clock.now_s = None, [DOCK], 6.0
    assert cameras.all() == [DOCK]


def test_where_nothing_is_known_yet_the_error_is_told() -> None:
    with pytest.raises(Transient, match="away"):
        known(Registry(trouble=Transient("away")), Clock()).all()


def test_a_catalog_that_hangs_holds_up_one_caller_only() -> None:
    asked, let_go = threading.Event(), threading.Event()

    class Hanging(Registry):
        def all(self) -> list[Camera]:
            if self.asked:
                asked.set()
                assert let_go.wait(60)
            return super().all()

    clock = Clock()
    cameras = known(Hanging(), clock)
    cameras.all()
    clock.now_s = 2.0
    one = threading.Thread(target=cameras.all)
    one.start()
    assert asked.wait(60)
    assert cameras.names({"gate"}) == {"gate"}
    let_go.set()
    one.join(60)


def test_it_reads_a_real_registry(tmp_path: Path) -> None:
    registry = CameraRegistry(opened(tmp_path))
    registry.add(GATE)
    assert KnownCameras(registry).all() == [GATE]
