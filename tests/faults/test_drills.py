from __future__ import annotations

import pytest

from tests.faults.drills import SCENARIOS
from tests.faults.house import House
from tests.faults.records import calm

LONG = {
    *("calm", "encoder_raises", "broker_stopped", "milvus_stopped_at_start", "worker_frozen", "worker_clock_steps"),
    *("rolling_restart", "expired", "overloaded"),
}
"""Left to `python -m tests.faults.drills`: for each of these another one, or `loadtests.overload`, takes the same
way, and goes further."""

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - LONG))
async def test_the_ledger_balances_on_apache_kafka(house: House, name: str) -> None:
    scenario = SCENARIOS[name]
    outcome = await scenario.run(house, **scenario.short)
    assert outcome.good, f"\n{outcome}"


async def test_the_ledger_balances_on_the_embedded_broker(small_house: House) -> None:
    outcome = await calm(small_house, frames=40)
    assert outcome.good, f"\n{outcome}"
