"""Any history of frames, clocks, deaths and loads: every frame counts once, and nothing told is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.histories import HISTORIES
from tests.stream.lives import Chapter, History, Look, Wavering, a_log, histories, lives, tried
from tests.stream.rig import span
from tests.stream.sights import Sighted, close_up

pytestmark = pytest.mark.long


many = settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_rest_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=False), tmp_path, Wavering(seed, noise), "all"), lives)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_never_rest_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=True), tmp_path, Wavering(seed, noise), "all"), lives)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_are_late_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=False), tmp_path, Wavering(seed, noise), "fresh"), lives)


@given(histories, lives, lives)
@many
def test_with_the_same_vectors_deaths_change_nothing_at_all(
    tmp_path: Path, history: list[Look], lives: list[Chapter], others: list[Chapter]
) -> None:
    def moments(chapters: list[Chapter]) -> list[tuple[object, ...]]:
        one = History(a_log(history, busy=False), tmp_path, Sighted(), "all")
        tried(one, [Chapter([(size, 0) for size, _ in each.batches], each.stored, each.commits) for each in chapters])
        return [(moment.id, *span(moment), *close_up(moment)) for moment in one.moments]

    assert moments(lives) == moments(others) == moments([])
