from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from catalog.backgrounds import MOST_SAMPLES, Background, Backgrounds
from proto.errors import Broken, Invalid
from proto.types import Vectors
from tests.catalog.shared import opened

SPACE, OTHER = "0123456789abcdef", "fedcba9876543210"


def rows(seed: int, count: int = 2, dimension: int = 8) -> Vectors:
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    vectors: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def a_background(camera: str = "gate", view: int = 0, samples: int = 2) -> Background:
    return Background(
        camera, view, tuple(rows(number) for number in range(samples)), tuple(f"{n:032x}" for n in range(samples))
    )


@pytest.fixture
def two(url: str) -> tuple[Backgrounds, Backgrounds]:
    """Those of two processes."""
    return Backgrounds(opened(url)), Backgrounds(opened(url))


@given(counts=st.lists(st.integers(1, 5), max_size=MOST_SAMPLES), dimension=st.sampled_from([1, 8, 384]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_background_comes_back_as_it_was_put(
    two: tuple[Backgrounds, Backgrounds], counts: list[int], dimension: int
) -> None:
    put = Background("gate", 2**32 - 1, tuple(rows(seed, count, dimension) for seed, count in enumerate(counts)))
    two[0].put(SPACE, put)
    [got] = two[1].get(SPACE)
    assert (got.camera, got.view, got.moments) == ("gate", 2**32 - 1, ())
    assert [sample.shape for sample in got.samples] == [sample.shape for sample in put.samples]
    for there, back in zip(put.samples, got.samples, strict=True):
        assert back.dtype == np.float32
        np.testing.assert_allclose(np.sum(there * back, axis=1), 1.0, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1.0, atol=1e-6)


def test_the_moments_of_a_background_come_back_in_order(url: str) -> None:
    backgrounds = Backgrounds(opened(url))
    backgrounds.put(SPACE, a_background(samples=3))
    [got] = backgrounds.get(SPACE)
    assert got.moments == a_background(samples=3).moments


def test_the_last_background_put_counts(url: str) -> None:
    backgrounds = Backgrounds(opened(url))
    backgrounds.put(SPACE, a_background(view=1, samples=4))
    backgrounds.put(SPACE, a_background(view=2, samples=1))
    [got] = backgrounds.get(SPACE)
    assert (got.view, len(got.samples)) == (2, 1)


def test_spaces_have_backgrounds_of_their_own(url: str) -> None:
    backgrounds = Backgrounds(opened(url))
    backgrounds.put(SPACE, a_background(view=1))
    backgrounds.put(OTHER, a_background(view=2))
    assert [one.view for one in backgrounds.get(SPACE)] == [1]
    assert [one.view for one in backgrounds.get(OTHER)] == [2]


def test_the_cameras_asked_for_come_and_unknown_ones_do_not(url: str) -> None:
    backgrounds = Backgrounds(opened(url))
    for camera in ("gate", "dock", "yard"):
        backgrounds.put(SPACE, a_background(camera))
    found = backgrounds.get(SPACE, frozenset({"yard", "dock", "roof"}))
    assert [one.camera for one in found] == ["dock", "yard"]
    assert backgrounds.get(SPACE, frozenset()) == []


def test_the_pool_is_chosen_evenly_among_all_cameras(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.backgrounds.POOL_CAMERAS", 6)
    backgrounds = Backgrounds(opened(url))
    for number in range(12):
        backgrounds.put(SPACE, a_background(f"cam-{number:02}", samples=0))
    pool = [int(one.camera.removeprefix("cam-")) for one in backgrounds.get(SPACE)]
    assert pool == list(range(0, 12, 2))


def test_more_cameras_than_one_statement_can_name_are_answered(url: str) -> None:
    backgrounds = Backgrounds(opened(url))
    backgrounds.put(SPACE, a_background("a"))
    backgrounds.put(SPACE, a_background("z"))
    many = frozenset({"a", "z", *(f"cam-{number}" for number in range(1200))})
    assert [one.camera for one in backgrounds.get(SPACE, many)] == ["a", "z"]


@pytest.mark.parametrize(("space", "left"), [(SPACE, [OTHER]), (None, [])])
def test_what_is_forgotten_is_gone_in_that_space_or_in_all(url: str, space: str | None, left: list[str]) -> None:
    backgrounds = Backgrounds(opened(url))
    for each in (SPACE, OTHER):
        backgrounds.put(each, a_background("gate"))
        backgrounds.put(each, a_background("dock"))
    backgrounds.forget(space, "gate")
    gate = frozenset({"gate"})
    assert [each for each in (SPACE, OTHER) if backgrounds.get(each, gate)] == left
    assert all(backgrounds.get(each, frozenset({"dock"})) for each in (SPACE, OTHER))


@pytest.mark.parametrize(
    "wrong",
    [
        a_background(samples=MOST_SAMPLES + 1),
        Background("gate", 0, (rows(1),), ("a", "b")),
        Background("gate", 0, (rows(1, dimension=8), rows(1, dimension=9))),
        Background("gate", 0, (rows(1)[0],)),
    ],
)
def test_what_cannot_be_a_background_is_refused(url: str, wrong: Background) -> None:
    with pytest.raises(Invalid, match="gate") as caught:
        Backgrounds(opened(url)).put(SPACE, wrong)
    assert caught.value.todo


@pytest.mark.parametrize(
    "damage", ["lengths = '[1]'", "lengths = 'x'", "lengths = '7'", "vectors = x'00'", "moments = '?'"]
)
def test_a_damaged_background_is_told_with_what_to_do(url: str, damage: str) -> None:
    catalog = opened(url)
    Backgrounds(catalog).put(SPACE, a_background())
    with catalog.writing() as connection:
        connection.execute(text(f"UPDATE backgrounds SET {damage}"))
    with pytest.raises(Broken, match="gate") as caught:
        Backgrounds(catalog).get(SPACE)
    assert "sampled anew" in caught.value.todo
