"""Gaps, samples and pictures of what is gone."""

from __future__ import annotations

import numpy as np

from catalog.backgrounds import Background, Backgrounds
from catalog.coverage import Coverage, Gap, Reason
from catalog.media import Thumbnails
from catalog.objects import Objects
from proto.life import Erased, Gone, Stretch
from proto.types import moment_id
from tests.catalog.shared import opened

NOW = 1_767_268_800_000
HOUR = 3_600_000
LOG = "a" * 32
GONE = Gone(
    NOW - 10 * HOUR,
    ((NOW - 30 * HOUR, frozenset({"dock"})),),
    (Erased(Stretch("yard", NOW - 5 * HOUR, NOW), (Stretch("yard", NOW - 2 * HOUR, NOW - HOUR),)),),
    (Stretch("gate", NOW - 21 * HOUR, NOW - 20 * HOUR),),
)


def gap(camera: str, first: float, last: float, reason: Reason = Reason.AWAY) -> Gap:
    return Gap(camera, reason, NOW - round(first * HOUR), NOW - round(last * HOUR))


def test_gaps_that_are_wholly_gone_are_removed(url: str) -> None:
    coverage = Coverage(opened(url))
    going = [gap("gate", 12, 11), gap("dock", 40, 31), gap("yard", 4, 3), gap("", 50, 40, Reason.EXPIRED)]
    staying = [
        gap("gate", 11, 9),
        gap("gate", 22, 20.5),
        gap("dock", 12, 11),
        gap("yard", 6, 4.5),
        gap("yard", 3, 1.5),
        gap("", 29, 20, Reason.EXPIRED),
    ]
    shed = Gap("gate", Reason.SHED, NOW - 15 * HOUR, NOW - 14 * HOUR, 3, LOG, 0, 5, 8)
    coverage.declare([*going, *staying, shed])
    assert coverage.forget_gone(GONE, count_only=True) == 5
    assert coverage.forget_gone(GONE) == 5
    assert coverage.forget_gone(GONE) == 0
    left = {(one.camera, one.start_ms) for one in coverage.gaps(None, None, None)}
    assert left == {(one.camera, one.start_ms) for one in staying}
    assert coverage.declared(LOG, 0, 0) == []


def test_the_newest_sign_of_the_broker_is_known(url: str) -> None:
    coverage = Coverage(opened(url))
    assert coverage.newest_ms() == 0
    coverage.looked([], {(LOG, 0): (5, 70), (LOG, 1): (5, 90)})
    assert coverage.newest_ms() == 90


def test_samples_of_what_is_gone_leave_the_background(url: str) -> None:
    backgrounds = Backgrounds(opened(url))

    def put(camera: str, *hours: int) -> list[str]:
        names = [moment_id(camera, NOW - one * HOUR, LOG, 0, one) for one in hours]
        rows = tuple(np.eye(4, dtype=np.float32)[:1] for _ in names)
        backgrounds.put("s", Background(camera, 1, rows, tuple(names)))
        return names

    gate, dock = put("gate", 1, 12), put("dock", 12)
    put("yard", 3)
    assert backgrounds.forget_gone(GONE, count_only=True) == 2
    assert backgrounds.forget_gone(GONE) == 2
    assert {one.camera: one.moments for one in backgrounds.get("s")} == {"gate": (gate[0],), "dock": (dock[0],)}
    unknown = Background("yard", 1, (np.eye(4, dtype=np.float32)[:1],))
    backgrounds.put("s", unknown)
    assert backgrounds.forget_gone(GONE) == 1
    assert [one.camera for one in backgrounds.get("s")] == ["dock", "gate"]


def test_pictures_are_found_by_the_time_of_their_moments_and_removed(objects: Objects) -> None:
    pictures = Thumbnails(objects)
    names = [moment_id("gate", NOW + n * HOUR, LOG, 0, n) for n in range(4)]
    for n, name in enumerate(names[:3]):
        pictures.put(name, b"own")
        if n:
            pictures.put_instants(name, [(NOW + n, b"one"), (NOW + n + 1, b"two")])
    pictures.put_instants(names[3], [(NOW, b"left alone")])
    found = dict(pictures.moments(NOW + HOUR, NOW + 3 * HOUR))
    assert found.keys() == set(names[1:])
    assert all(written > NOW for written in found.values())
    assert pictures.remove([names[1], names[3], names[0]]) == 5
    assert pictures.remove([names[1]]) == 0
    assert [name for name, _ in pictures.moments(0, 2**50)] == [names[2]]
    assert pictures.get(names[2]) == b"own"


def test_thousands_of_erasures_are_carried_out_too(url: str) -> None:
    coverage = Coverage(opened(url))
    coverage.declare([gap("yard", 4, 3), gap("gate", 4, 3)])
    many = tuple(Erased(Stretch("gate", NOW + n * HOUR, NOW + n * HOUR + 1)) for n in range(1500))
    assert coverage.forget_gone(Gone(erased=(*many, *GONE.erased)), count_only=True) == 1
    assert coverage.forget_gone(Gone(erased=(*many, *GONE.erased))) == 1
    assert [one.camera for one in coverage.gaps(None, None, None)] == ["gate"]
