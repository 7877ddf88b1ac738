from __future__ import annotations

from life.status import status_of
from proto.errors import Transient
from proto.life import DAY_MS, DEFAULT, Stretch
from tests.contracts.moments import DAY, HOUR, NOON, moment
from tests.life.twins import ENDPOINTS, House


async def test_the_status_tells_what_there_is_and_what_retention_will_remove() -> None:
    house = House()
    for days in range(4):
        await house.write(moment("gate", NOON - days * DAY))
    await house.write(moment("dock", NOON - 3 * DAY))
    house.life.change(days={DEFAULT: 2.5, "dock": 36_500.0})
    house.life.erase(Stretch("gate", NOON, NOON + HOUR), NOON)
    told = await status_of(house.rows, house.pictures, house.life.now, ["dock", "gate", "yard"], NOON)
    assert told["moments"] == 5
    assert (told["gone"], told["gone_tomorrow"]) == (2, 1)
    assert [(one["moments"], one["gone"]) for one in told["buckets"]] == [(2, 1), (1, 0), (1, 0), (1, 1)]
    assert told["buckets"][0]["expires_ms"] == NOON - 3 * DAY + DAY_MS // 2 + 36_500 * DAY_MS
    assert [(one["camera"], one["oldest_ms"], one["days"]) for one in told["cameras"]] == [
        ("dock", NOON - 3 * DAY, 36_500.0),
        ("gate", NOON - 2 * DAY, 2.5),
        ("yard", None, 2.5),
    ]
    assert told["missing"] == {}


async def test_a_shard_that_is_away_is_named() -> None:
    house = House()
    await house.write(moment("gate", NOON))
    shard = house.rows._shard(ENDPOINTS[0], "0" * 16)
    shard.away = True  # type: ignore[attr-defined]
    told = await status_of(house.rows, house.pictures, house.life.now, [], NOON)
    assert told["missing"] == {ENDPOINTS[0]: str(Transient("this shard is away", todo="start it"))}
    assert told["buckets"] == [] or told["buckets"][0]["expires_ms"] is None
