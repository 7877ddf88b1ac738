"""Two workers on a real Apache Kafka, and what their group does when one is killed."""

from __future__ import annotations

import pytest

from loadtests.fleet import Plan
from tests.faults.house import House, a_drill, times_given, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


async def test_a_static_member_that_is_killed_and_comes_back_moves_no_partitions(house: House) -> None:
    async with a_drill(house, "static", Plan(cameras=20, rate=10)) as drill:
        # The group waits for so long for the one that dies: even on a slow machine it is back before.
        stays, dies = drill.worker(), drill.worker(WATCHWORD_KAFKA__SESSION_S="60")
        async with drill.fleet.publishing():
            await stays.start()
            await dies.start()
            await until(lambda: times_given(stays) == 2, what="both share the partitions")
            await drill.until_stored(20)
            for kills in (1, 2):
                given = times_given(dies)
                await dies.kill()
                await dies.start()
                await until(lambda given=given: times_given(dies) > given, what=f"back after kill {kills}")  # type: ignore[misc]
            assert times_given(stays) == 2
        outcome = await drill.outcome()
        assert outcome.good, f"\n{outcome}"


async def test_the_partitions_of_a_member_that_is_killed_and_stays_away_go_to_the_other(house: House) -> None:
    async with a_drill(house, "away", Plan(cameras=20, rate=10)) as drill:
        stays, dies = drill.worker(), drill.worker()
        async with drill.fleet.publishing():
            await stays.start()
            await dies.start()
            await until(lambda: times_given(stays) == 2, what="both share the partitions")
            await drill.until_stored(20)
            await dies.kill()
            await until(lambda: times_given(stays) == 3, what="the other takes over")
        outcome = await drill.outcome()
        assert outcome.good, f"\n{outcome}"
