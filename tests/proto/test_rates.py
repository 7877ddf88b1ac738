from __future__ import annotations

import pytest

from proto.rates import Rates


def test_a_key_may_spend_its_burst_and_then_what_it_gets_back() -> None:
    rates = Rates(per_s=2.0, burst=3.0)
    for _ in range(3):
        assert rates.wait_s("kim", 0.0) == 0
        rates.spend("kim", 0.0)
    assert rates.wait_s("kim", 0.0) == pytest.approx(0.5)
    assert rates.wait_s("lee", 0.0) == 0
    assert rates.wait_s("kim", 0.5) == 0
    rates.spend("kim", 0.5)
    assert rates.wait_s("kim", 0.5) == pytest.approx(0.5)
    assert rates.wait_s("kim", 1000.0) == 0
    for _ in range(3):
        rates.spend("kim", 1000.0)
    assert rates.wait_s("kim", 1000.0) > 0


def test_whoever_goes_on_waits_longer_but_not_for_ever_and_clocks_that_go_back_give_nothing() -> None:
    rates = Rates(per_s=1.0, burst=5.0)
    for _ in range(1000):
        rates.spend("kim", 0.0)
    assert rates.wait_s("kim", 0.0) == pytest.approx(6.0)
    assert rates.wait_s("kim", -100.0) == pytest.approx(6.0)


def test_memory_is_bounded() -> None:
    rates = Rates(per_s=1.0, burst=1.0, most_keys=10)
    for n in range(100):
        rates.spend(str(n), 0.0)
    assert len(rates) == 10
    assert rates.wait_s("99", 0.0) > 0
