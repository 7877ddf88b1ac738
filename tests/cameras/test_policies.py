from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameras.gate import SIDE, Difference, NoveltyGate, difference
from cameras.sampling import RecordingSampler, Sampler


def flat(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE), level, dtype=np.uint8)


@pytest.mark.parametrize(
    ("source_fps", "fps", "wanted"), [(25, 2, 20), (29.97, 2, 20), (1, 2, 10), (2, 2, 20), (60, 60, 600)]
)
def test_a_source_is_sampled_at_the_asked_pace(source_fps: float, fps: float, wanted: int) -> None:
    sampler = Sampler(fps)
    taken = sum(sampler.wants(number / source_fps) for number in range(int(10 * source_fps)))
    assert abs(taken - wanted) <= 1


@given(times=st.lists(st.floats(0, 1000), max_size=200), fps=st.floats(0.1, 60))
def test_pictures_are_never_taken_faster_than_asked(times: list[float], fps: float) -> None:
    sampler = Sampler(fps)
    times.sort()
    taken = [time for time in times if sampler.wants(time)]
    for first, later in zip(taken, taken[2:], strict=False):
        assert later - first > 1 / fps - 0.001


def test_sampling_goes_on_at_once_after_time_jumped_back() -> None:
    sampler = Sampler(2)
    assert sampler.wants(1000.0)
    assert sampler.wants(10.0)


@given(
    source_fps=st.floats(0.2, 120), fps=st.floats(0.1, 60), jitter_s=st.floats(0, 0.002), stopped=st.integers(0, 399)
)
def test_a_recording_is_sampled_alike_from_wherever_it_is_read(
    source_fps: float, fps: float, jitter_s: float, stopped: int
) -> None:
    times = [n / source_fps + jitter_s * (n % 3) for n in range(400)]
    whole = RecordingSampler(fps)
    taken = [time_s for time_s in times if whole.wants(time_s)]
    begin_s = taken[min(stopped, len(taken) - 1)]
    rest = RecordingSampler(fps)
    assert [t for t in times if t >= begin_s and rest.wants(t)] == [t for t in taken if t >= begin_s]


@pytest.mark.parametrize(("source_fps", "fps", "wanted"), [(25, 2, 20), (29.97, 2, 20), (1, 2, 10), (2, 2, 20)])
def test_a_recording_is_sampled_at_the_asked_pace(source_fps: float, fps: float, wanted: int) -> None:
    sampler = RecordingSampler(fps)
    taken = sum(sampler.wants(number / source_fps + 0.005 * (number % 3)) for number in range(int(10 * source_fps)))
    assert abs(taken - wanted) <= 1


def test_the_same_picture_is_kept_once_per_heartbeat() -> None:
    gate = NoveltyGate(0.02, heartbeat_s=10)
    kept = [second for second in range(31) if gate.judge(flat(90), float(second), after_gap=False).keep]
    assert kept == [0, 10, 20, 30]


def test_something_small_in_a_corner_is_new() -> None:
    gate = NoveltyGate(0.02, heartbeat_s=10)
    gate.judge(flat(90), 0.0, after_gap=False)
    corner = flat(90)
    corner[-4:, -4:] = 160
    judgement = gate.judge(corner, 0.5, after_gap=False)
    assert judgement.keep
    assert judgement.novelty == pytest.approx(1 / 64)


def test_sensor_noise_is_not_new() -> None:
    noise = np.random.default_rng(1)
    gate = NoveltyGate(0.02, heartbeat_s=10)
    pictures = [(flat(90) + noise.integers(-4, 5, (SIDE, SIDE))).astype(np.uint8) for _ in range(19)]
    kept = [gate.judge(picture, 0.5 * at, after_gap=False).keep for at, picture in enumerate(pictures)]
    assert kept == [True] + [False] * 18


def test_the_first_picture_after_a_gap_is_kept_whatever_it_shows() -> None:
    gate = NoveltyGate(0.5, heartbeat_s=100)
    gate.judge(flat(90), 0.0, after_gap=True)
    assert not gate.judge(flat(90), 1.0, after_gap=False).keep
    assert gate.judge(flat(90), 2.0, after_gap=True).keep


def test_threshold_zero_keeps_everything() -> None:
    gate = NoveltyGate(0.0, heartbeat_s=100)
    assert all(gate.judge(flat(90), float(second), after_gap=False).keep for second in range(5))


def test_a_slow_drift_is_noticed_because_the_last_kept_picture_is_compared() -> None:
    gate = NoveltyGate(0.05, heartbeat_s=1000)
    assert sum(gate.judge(flat(60 + step), float(step), after_gap=False).keep for step in range(100)) > 5


def test_a_difference_runs_from_same_to_nothing_in_common() -> None:
    assert difference(flat(0), flat(0)) == Difference(largest=0.0, share=0.0)
    assert difference(flat(0), flat(255)) == Difference(largest=1.0, share=1.0)


def test_novelty_is_the_share_of_the_picture_that_differs() -> None:
    half = flat(90)
    half[:16] = 160
    assert difference(flat(90), half).share == 0.5


def test_what_is_usual_follows_a_camera_that_moves_and_not_a_single_cut() -> None:
    gate = NoveltyGate(0.02, heartbeat_s=10)
    usual = []
    for second, level in enumerate([0, 0, 0, 0, 255, 255, 255, 0, 255, 0, 255]):
        usual.append(gate.judge(flat(level), float(second), after_gap=second == 0).usual)
    assert usual == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
