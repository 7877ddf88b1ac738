"""What a sweeper does with limits in bytes, on stores in memory."""

from __future__ import annotations

import pytest

from life.measuring import ROW_BYTES
from life.status import status_of
from proto.life import DEFAULT, LEAST_BYTES, Stretch
from proto.types import Moment
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, moment
from tests.life.twins import House

PICTURE = 1_000_000


async def filled(house: House, camera: str, hours: int) -> list[Moment]:
    """A moment each hour, the newest first, with a megabyte of pictures and a row each."""
    made = [moment(camera, NOON - n * HOUR + MINUTE, length_ms=MINUTE) for n in range(1, hours + 1)]
    for one in made:
        await house.write(one)
        for name in [name for name in house.objects.held if one.id in name]:
            house.objects.put(name, b"x" * ((PICTURE - ROW_BYTES) // 2))
    return made


@pytest.fixture
def house() -> House:
    return House()


async def test_the_oldest_goes_until_the_camera_fits_and_others_stay(house: House) -> None:
    gate, dock = await filled(house, "gate", 40), await filled(house, "dock", 40)
    house.life.change(bytes={"gate": 15 * PICTURE})
    await house.sweeper().round()
    left = {one.id for one in (*gate[:15], *dock)}
    assert await house.shown() == house.stored() == house.pictured() == left
    assert house.life.now.floors == {"gate": NOON - 15 * HOUR}


async def test_a_limit_for_all_is_that_of_each_and_one_of_its_own_wins(house: House) -> None:
    await filled(house, "gate", 40)
    await filled(house, "dock", 40)
    house.life.change(bytes={DEFAULT: 10 * PICTURE, "dock": 20 * PICTURE})
    await house.sweeper().round()
    assert house.life.now.floors == {"gate": NOON - 10 * HOUR, "dock": NOON - 20 * HOUR}


async def test_what_is_held_stays_and_is_told(house: House) -> None:
    gate = await filled(house, "gate", 40)
    house.life.hold(Stretch("gate", NOON - 30 * HOUR, NOON - 28 * HOUR))
    house.life.change(bytes={"gate": 15 * PICTURE})
    await house.sweeper().round()
    assert await house.shown() == house.stored() == {one.id for one in (*gate[:15], *gate[28:30])}
    (told,) = (await status_of(house.rows, house.pictures, house.life.now, ["gate"], NOON))["cameras"]
    assert told["held_below"] == 2


async def test_the_latest_hour_stays_whatever_it_takes(house: House) -> None:
    made = [moment("gate", NOON - n * MINUTE, length_ms=MINUTE // 2) for n in (1, 20, 50, 100, 200)]
    for one in made:
        await house.write(one)
        house.objects.put(f"{one.id[-2:]}/{one.id}.jpg", b"x" * 2 * LEAST_BYTES)
    house.life.change(bytes={"gate": LEAST_BYTES})
    await house.sweeper().round()
    assert house.stored() == {one.id for one in made[:3]}


async def test_a_floor_stays_when_the_limit_is_raised_or_ends(house: House) -> None:
    await filled(house, "gate", 40)
    house.life.change(bytes={"gate": 15 * PICTURE})
    sweeper = house.sweeper()
    await sweeper.round()
    for limits in ({"gate": 30 * PICTURE}, {}):
        house.life.change(bytes=limits)
        await sweeper.round()
        assert house.life.now.floors == {"gate": NOON - 15 * HOUR}
        assert not await house.write(moment("gate", NOON - 20 * HOUR, length_ms=MINUTE))


async def test_a_clock_in_doubt_removes_nothing_for_its_bytes(house: House) -> None:
    gate = await filled(house, "gate", 40)
    house.life.change(bytes={"gate": 15 * PICTURE})
    house.now_ms += 30 * DAY
    await house.sweeper().round()
    assert house.life.now.floors == {}
    assert house.stored() == {one.id for one in gate}


async def test_the_status_says_how_many_days_the_bytes_hold(house: House) -> None:
    await filled(house, "gate", 40)
    house.life.change(bytes={"gate": 240 * PICTURE})
    cameras = (await status_of(house.rows, house.pictures, house.life.now, ["dock", "gate"], NOON))["cameras"]
    assert [(one["bytes"], one["floor_ms"], one["held_below"]) for one in cameras] == [
        (None, None, 0),
        (240 * PICTURE, None, 0),
    ]
    assert cameras[1]["bytes_a_day"] == pytest.approx(24 * PICTURE, rel=1e-3)
    assert cameras[1]["bytes_days"] == pytest.approx(10, rel=1e-3)
