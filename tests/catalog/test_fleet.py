from __future__ import annotations

import pytest

from catalog.cameras import CameraRegistry
from catalog.fleet import Crash, Fleet, Member, lease_of
from catalog.leases import Leases
from catalog.statuses import CameraStatus, Statuses
from catalog.store import Catalog
from proto.types import Camera
from tests.catalog.shared import opened

NOW = 1_767_268_800_000
ONE, TWO = Member("one", "north/1"), Member("two", "south/2", "south")


@pytest.fixture
def catalog(url: str) -> Catalog:
    return opened(url)


def test_a_process_lives_until_its_time_runs_out(catalog: Catalog) -> None:
    fleet = Fleet(catalog)
    fleet.tell(ONE, NOW, 1000)
    fleet.tell(TWO, NOW + 500, 1000)
    assert fleet.seen(NOW + 999).members == (ONE, TWO)
    assert fleet.seen(NOW + 1000).members == (TWO,)
    fleet.tell(ONE, NOW + 1400, 1000)
    assert fleet.seen(NOW + 1600).members == (ONE,)


def test_who_leaves_holds_no_camera_any_more_and_keeps_other_leases(catalog: Catalog) -> None:
    fleet, leases = Fleet(catalog), Leases(catalog)
    for member in (ONE, TWO):
        fleet.tell(member, NOW, 1000)
    for name, holder in ((lease_of("gate"), "one"), (lease_of("dock"), "two"), ("sweep", "one")):
        leases.take(name, holder, NOW, 1000)
    assert fleet.seen(NOW).held == {"gate": "one", "dock": "two"}
    fleet.leave("one")
    assert fleet.seen(NOW).members == (TWO,)
    assert fleet.seen(NOW).held == {"dock": "two"}
    assert leases.holder("sweep", NOW) == "one"


def test_a_lease_is_handed_to_another_holder_and_runs_from_then(catalog: Catalog) -> None:
    fleet, leases = Fleet(catalog), Leases(catalog)
    leases.take(lease_of("gate"), "one", NOW, 1000)
    leases.hand_over(lease_of("gate"), "two", "three", NOW, 1000)
    assert fleet.seen(NOW).held == {"gate": "one"}
    leases.hand_over(lease_of("gate"), "one", "two", NOW + 900, 1000)
    assert fleet.seen(NOW + 1800).held == {"gate": "two"}
    assert not leases.take(lease_of("gate"), "one", NOW + 1800, 1000)


def test_what_cameras_cost_is_seen_where_it_was_measured(catalog: Catalog) -> None:
    Statuses(catalog).put_statuses(
        [CameraStatus("gate", "live", NOW, NOW, cost=0.125), CameraStatus("dock", "live", NOW, NOW)]
    )
    assert Fleet(catalog).seen(NOW).costs == {"gate": 0.125}


def test_crashes_are_counted_once_each_until_one_comes_late_or_the_camera_changes(catalog: Catalog) -> None:
    fleet, registry = Fleet(catalog), CameraRegistry(catalog)
    registry.add(Camera("gate", "rtsp://host/gate"))
    for at_ms, mark, count in ((0, "a", 1), (500, "b", 2), (500, "b", 2), (1400, "c", 3), (2400, "d", 1)):
        fleet.crashed("gate", NOW + at_ms, mark, 1000)
        assert fleet.seen(NOW).crashes == {"gate": Crash(count, NOW + at_ms)}
    registry.change("gate", lambda camera: camera)
    assert fleet.seen(NOW).crashes == {}
