"""What the features of hits say, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.store import Scored
from proto.types import Vector, Vectors
from query.calibration import BY_CHANCE, DEFAULT
from query.confidence import FEATURES, Known, Numbers, Sample, Words, features_of
from tests.contracts.moments import NOON
from tests.query.test_joining import span

SIZE = 64
QUESTION: Vector = np.eye(SIZE, dtype=np.float32)[0]


def scoring(scores: Numbers, seed: int = 0) -> Vectors:
    """Unit vectors with these cosines to the question, otherwise random."""
    rest = np.random.default_rng(seed).normal(size=(len(scores), SIZE - 1))
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    rows = np.column_stack([scores, rest * np.sqrt(1 - scores**2)[:, None]])
    return rows.astype(np.float32)


def sample(scores: Numbers, seed: int = 0) -> Sample:
    found = Sample.of([row[None] for row in scoring(scores, seed)])
    assert found is not None
    return found


def hit(score: float, camera: str = "gate", *, kind: str = "", seed: int = 9) -> Scored:
    return Scored(span(camera, NOON), score, kind=kind, vector=scoring(np.array([score]), seed)[0])


def unrelated(count: int, seed: int = 0, *, location: float = 0.2, scale: float = 0.03) -> Numbers:
    return np.clip(np.random.default_rng(seed).gumbel(location, scale, count), -0.9, 0.9)


KNOWN = Known(
    pool=sample(unrelated(800)),
    cameras={"gate": sample(unrelated(32, 1)), "dock": sample(unrelated(32, 2, location=0.4))},
    words=Words(
        scoring(np.random.default_rng(3).normal(0.2, 0.05, 100), 4),
        {"person": QUESTION, "car": scoring(np.array([0.1]))[0]},
    ),
)


def values(
    hits: list[Scored], searched: int = 1000, known: Known = KNOWN, *, by_words: bool = True
) -> dict[str, Numbers]:
    return features_of(hits, QUESTION, searched, known, by_words=by_words).values


def test_every_feature_has_one_number_a_hit() -> None:
    found = values([hit(0.3), hit(0.5, "dock", kind="person")])
    assert tuple(found) == FEATURES
    assert all(len(numbers) == 2 and np.isfinite(numbers).all() for numbers in found.values())


@given(st.lists(st.floats(-0.99, 0.99), min_size=2, max_size=10), st.sampled_from(["gate", "dock", "new"]))
def test_a_better_score_is_never_less_sure(scores: list[float], camera: str) -> None:
    hits = [hit(score, camera) for score in sorted(scores)]
    found = values(hits)
    for name in ("z_camera", "z_pool", "score"):
        assert (np.diff(found[name]) >= 0).all()
    assert (np.diff(found["log10_e"]) <= 0).all()
    assert (np.diff(BY_CHANCE.confidence(found)) >= 0).all()


@given(st.floats(-1, 1), st.integers(1, 10**9), st.integers(1, 10**9))
def test_the_more_was_searched_the_less_sure_is_the_same_hit(score: float, some: int, more: int) -> None:
    few, many = values([hit(score)], min(some, more)), values([hit(score)], max(some, more))
    assert many["log10_e"] - few["log10_e"] == pytest.approx(np.log10(max(some, more) / min(some, more)), abs=1e-9)
    assert DEFAULT.texts.confidence(many) <= DEFAULT.texts.confidence(few)


@given(st.permutations(range(8)))
def test_the_order_of_the_hits_changes_nothing(order: list[int]) -> None:
    hits = [hit(0.1 * n, ("gate", "dock", "new")[n % 3], kind="person" if n % 2 else "", seed=n) for n in range(8)]
    straight, shuffled = values(hits), values([hits[n] for n in order])
    for name in FEATURES:
        assert shuffled[name] == pytest.approx(straight[name][order], abs=1e-5)


def test_a_hit_is_judged_the_same_whatever_hits_are_beside_it() -> None:
    beside = values([hit(0.5), hit(0.9, "dock"), hit(0.1, "new")])
    alone = values([hit(0.5)])
    assert all(alone[name][0] == pytest.approx(beside[name][0], abs=1e-5) for name in FEATURES)


def test_chance_gives_as_many_hits_as_the_e_value_says() -> None:
    """Scores as unrelated moments have them: a share of p of them lies below a probability of p."""
    rates = []
    for seed in range(40):
        known = Known(pool=sample(unrelated(800)), cameras={"gate": sample(unrelated(32, 100 + seed))})
        found = values([hit(score) for score in unrelated(500, 500 + seed)], 1, known)
        rates.append([(found["log10_e"] <= np.log10(p)).mean() for p in (0.1, 0.01)])
    often, seldom = np.mean(rates, axis=0)
    assert 0.07 < often < 0.13
    assert 0.005 < seldom < 0.02


def test_a_background_that_often_holds_what_is_meant_still_judges_it_unusual() -> None:
    """A third of a street's moments show a person: a person is nevertheless not by chance."""
    clean, meant = unrelated(32, 1), np.full(10, 0.6)
    mixed = np.concatenate([clean[:22], meant])
    usual = values([hit(0.6)], known=Known(pool=KNOWN.pool, cameras={"gate": sample(clean)}))["z_camera"][0]
    common = values([hit(0.6)], known=Known(pool=KNOWN.pool, cameras={"gate": sample(mixed)}))["z_camera"][0]
    assert common > 0.5 * usual


def test_the_same_score_counts_less_at_a_camera_that_always_scores_high() -> None:
    gate, dock = values([hit(0.42, "gate"), hit(0.42, "dock")])["z_camera"]
    assert gate > 4
    assert dock < 2


def test_a_camera_with_few_samples_is_judged_by_all_cameras_and_a_new_one_only_by_them() -> None:
    one = Known(pool=KNOWN.pool, cameras={"gate": sample(np.array([0.6]))})
    new = values([hit(0.5, "new")], known=one)
    assert new["z_camera"] == new["z_pool"]
    assert values([hit(0.5)], known=one)["z_camera"][0] == pytest.approx(new["z_pool"][0], rel=0.25)


def test_a_camera_that_always_shows_the_same_makes_no_noise_unusual() -> None:
    still = Known(pool=KNOWN.pool, cameras={"gate": sample(np.full(32, 0.3))})
    assert values([hit(0.31)], known=still)["z_camera"][0] < 2.5


def test_where_nothing_is_known_chance_may_explain_every_hit() -> None:
    found = values([hit(0.99)], 1000, Known())
    assert found["log10_e"][0] == pytest.approx(3)
    assert found["z_camera"][0] == found["z_pool"][0] == found["z_words"][0] == 0
    assert DEFAULT.texts.confidence(found)[0] < 0.001


def test_without_backgrounds_texts_are_the_measure() -> None:
    words = Known(words=KNOWN.words)
    low, high = values([hit(0.2), hit(0.7)], 10, words)["log10_e"]
    assert low > 0 > high


def test_texts_that_mean_the_question_are_not_what_it_is_compared_with() -> None:
    assert KNOWN.words is not None
    twins = np.concatenate([KNOWN.words.bank, scoring(np.full(4, 0.999), 7)])
    alone, among = (
        values([hit(0.6)], known=Known(words=Words(bank)))["z_words"][0] for bank in (KNOWN.words.bank, twins)
    )
    assert among == pytest.approx(alone, rel=0.2)


def test_the_kind_of_an_object_counts_when_it_fits_the_question() -> None:
    person, car, nothing = values([hit(0.5, kind="person"), hit(0.5, kind="car"), hit(0.5)])["agrees"]
    assert person > 0 == nothing > car


def test_a_question_by_a_picture_leaves_texts_out() -> None:
    found = values([hit(0.5, kind="person")], by_words=False)
    assert found["z_words"][0] == found["agrees"][0] == 0
    assert found["z_camera"][0] > 3


def test_hits_without_vectors_are_judged_without_texts() -> None:
    bare = Scored(span("gate", NOON), 0.5)
    found = values([bare])
    assert found["z_words"][0] == 0
    assert found["z_camera"][0] > 3


def test_extreme_scores_give_numbers() -> None:
    for known in (KNOWN, Known(), Known(pool=sample(np.zeros(1))), Known(words=Words(scoring(np.zeros(1))))):
        found = values([hit(-1.0), hit(1.0)], 10**12, known)
        assert all(np.isfinite(numbers).all() for numbers in found.values())
    assert values([]) and all(len(numbers) == 0 for numbers in values([]).values())


def test_a_moments_score_is_that_of_its_best_row() -> None:
    rows = scoring(np.array([0.1, 0.7, 0.3, 0.2]))
    both = Sample.of([rows[:2], rows[:0], rows[2:]])
    assert both is not None
    assert both.scores(QUESTION) == pytest.approx([0.7, 0.3], abs=1e-5)
    assert Sample.of([rows[:0]]) is None
