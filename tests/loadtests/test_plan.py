"""A profile that is learned from a load plans that load."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.plan import Used, compared, learned

RESTING = {"broker": 0.05, "stream": 0.02, "worker": 0.01, "milvus": 0.1}
HOUSE: Any = SimpleNamespace(info=SimpleNamespace(space=SimpleNamespace(dimension=512)))


def used(cameras: int, *, shed: float = 0.0) -> Used:
    """Every frame costs the same, and so does every moment."""
    seconds, frames = 60.0, round(cameras * 0.6 * 60)
    looked = round(frames * (1 - shed))
    return Used(
        cameras=cameras,
        seconds=seconds,
        sent=frames,
        sent_bytes=frames * 10_000,
        looked=looked,
        pictures=looked * 1.5,
        begun=looked * 0.3,
        writes=looked * 0.6,
        pictures_bytes=looked * 3_000,
        whole_s=90.0,
        resting=RESTING,
        cpu_s={
            "broker": RESTING["broker"] * 90 + frames * 0.001,
            "stream": RESTING["stream"] * 90 + looked * 0.01,
            "worker": RESTING["worker"] * 90 + looked * 1.5 * 0.02,
            "milvus": RESTING["milvus"] * 90 + looked * 0.6 * 2 * 0.005,
        },
    )


@pytest.mark.parametrize(("cameras", "shed"), [(10, 0.0), (50, 0.0), (200, 0.4)])
def test_what_is_learned_from_two_loads_plans_the_others(cameras: int, shed: float) -> None:
    profile = learned([used(5), used(20)], HOUSE)
    for name, planned, real in compared(profile, used(cameras, shed=shed)):
        assert planned == pytest.approx(real, rel=0.01), name


def test_one_load_plans_itself() -> None:
    profile = learned([used(10)], HOUSE)
    for name, planned, real in compared(profile, used(10)):
        assert planned == pytest.approx(real, rel=0.01), name
