"""From candidates to hits: how often the index is asked, and what is promised of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from index.memory import MemoryStore
from index.store import Answer, Ask, Scored
from proto.errors import Late
from proto.types import Moment, Vector
from query.asking import Question
from query.calibration import Calibration, Weights
from query.finding import Finder
from query.judging import Judge
from query.settings import QuerySettings
from tests.contracts.moments import MINUTE, NOON, SPACE, moment

TOWARDS: Vector = np.eye(SPACE.dimension, dtype=np.float32)[0]
ASKED = Question(text="dog")


def at(score: float, side: int = 1) -> Vector:
    """A unit vector with this cosine to the question. Those of other sides do not look alike."""
    vector = np.zeros(SPACE.dimension, np.float32)
    vector[0], vector[side] = score, np.sqrt(1 - score**2)
    return vector


class Rows(MemoryStore):
    """Gives vectors with its hits, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.asked: list[Ask] = []
        self.fails_after = 99

    async def search(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        if len(self.asked) > self.fails_after:
            raise Late("the index is late")
        answer = await super().search(ask)
        hits = [replace(hit, vector=self._moments[hit.span.id].vector) for hit in answer.hits]
        return replace(answer, hits=hits)


class ByScore(Judge):
    """Its confidence is the score."""

    def __init__(self) -> None:
        super().__init__("", None, None)
        sure = Weights(("score",), (8.0,), -4.0)
        self._calibration = Calibration(sure, sure, 0.5)


async def finder(moments: Sequence[Moment], **settings: object) -> tuple[Finder, Rows]:
    store = Rows()
    await store.upsert(moments)
    return Finder(store, ByScore(), QuerySettings.model_validate(settings)), store


def apart(count: int, camera: str = "gate", score: float = 0.9) -> list[Moment]:
    """Moments ten minutes apart that all look different, each a little farther from the question."""
    return [
        moment(f"{camera}-{n % 40}", NOON + n * 10 * MINUTE, vector=at(score - n * 0.0005, 1 + n % 15))
        for n in range(count)
    ]


async def test_most_questions_ask_the_index_once() -> None:
    at_work, store = await finder(apart(200))
    found = await at_work.find(ASKED, TOWARDS, 5.0)
    assert len(found.hits) == 10
    assert [ask.limit for ask in store.asked] == [40]


async def test_hits_come_best_first_and_are_those_of_the_index() -> None:
    moments = apart(50)
    at_work, _ = await finder(moments)
    found = await at_work.find(ASKED, TOWARDS, 5.0)
    assert [hit.best.scored.span.id for hit in found.hits] == [one.id for one in moments[:10]]


async def test_where_joining_leaves_too_few_more_is_asked_for() -> None:
    run = [moment("gate", NOON + n * 3000, vector=at(0.95)) for n in range(60)]
    at_work, store = await finder(run + apart(100, "dock", 0.5))
    found = await at_work.find(ASKED, TOWARDS, 5.0)
    assert [ask.limit for ask in store.asked] == [40, 160]
    assert len(found.hits) == 10
    assert [hit.moments for hit in found.hits[:2]] == [60, 1]


async def test_as_many_more_are_asked_for_as_the_hits_so_far_suggest() -> None:
    run = [moment("gate", NOON + n * 3000, vector=at(0.95)) for n in range(36)]
    at_work, store = await finder(run + apart(100, "dock", 0.5))
    found = await at_work.find(ASKED, TOWARDS, 5.0)  # 40 candidates made 5 hits
    assert [ask.limit for ask in store.asked] == [40, 120]
    assert len(found.hits) == 10


async def test_an_index_that_has_no_more_is_not_asked_again() -> None:
    at_work, store = await finder(apart(7))
    assert len((await at_work.find(ASKED, TOWARDS, 5.0)).hits) == 7
    assert len(store.asked) == 1


async def test_the_index_is_asked_at_most_three_times() -> None:
    same = [moment("gate", NOON + n * MINUTE, vector=at(0.4)) for n in range(3000)]
    at_work, store = await finder(same)
    found = await at_work.find(ASKED, TOWARDS, 60.0)
    assert [ask.limit for ask in store.asked] == [40, 160, 640]
    assert len(found.hits) == 3


async def test_all_moments_are_given_when_they_are_asked_for_with_one_request_of_just_that_many() -> None:
    same = [moment("gate", NOON + n * 3000, vector=at(0.95)) for n in range(30)]
    at_work, store = await finder(same)
    found = await at_work.find(replace(ASKED, all_moments=True), TOWARDS, 5.0)
    assert [hit.moments for hit in found.hits] == [1] * 10
    assert [ask.limit for ask in store.asked] == [10]


async def test_a_later_request_that_fails_does_not_take_what_was_found() -> None:
    run = [moment("gate", NOON + n * 3000, vector=at(0.95)) for n in range(60)]
    at_work, store = await finder(run)
    store.fails_after = 1
    found = await at_work.find(ASKED, TOWARDS, 5.0)
    assert [hit.moments for hit in found.hits] == [40]
    store.fails_after = 0
    with pytest.raises(Late):
        await at_work.find(ASKED, TOWARDS, 5.0)


async def test_a_later_answer_that_misses_a_shard_does_not_replace_a_whole_one() -> None:
    class Losing(Rows):
        async def search(self, ask: Ask) -> Answer:
            answer = await super().search(ask)
            return answer if len(self.asked) == 1 else Answer(answer.hits[:1], shards_missing=["m2"])

    store = Losing()
    await store.upsert([moment("gate", NOON + n * 3000, vector=at(0.95)) for n in range(60)])
    found = await Finder(store, ByScore(), QuerySettings()).find(ASKED, TOWARDS, 5.0)
    assert (found.hits[0].moments, found.answer.shards_missing) == (40, [])


async def test_as_many_sure_hits_are_given_as_there_are_among_the_candidates() -> None:
    moments = apart(300)  # scores 0.9 to 0.75, confidence 0.96 to 0.88
    at_work, _ = await finder(moments)
    for sure, limit in ((0.955, 5), (0.94, 30), (0.9, 100)):
        found = await at_work.find(replace(ASKED, min_confidence=sure, limit=limit), TOWARDS, 5.0)
        there = sum(1 / (1 + np.exp(4 - 8 * float(one.vector @ TOWARDS))) >= sure for one in moments)
        assert len(found.hits) == min(limit, there)
        assert all(hit.best.confidence >= sure for hit in found.hits)


async def test_where_nothing_is_sure_the_index_is_asked_once() -> None:
    at_work, store = await finder(apart(300, score=0.3))
    assert (await at_work.find(replace(ASKED, min_confidence=0.9), TOWARDS, 5.0)).hits == []
    assert len(store.asked) == 1


async def test_the_asked_moment_is_left_out_and_the_limit_still_filled() -> None:
    moments = apart(30)
    at_work, _ = await finder(moments)
    like = Question(moment_id=moments[0].id)
    for all_moments in (False, True):
        found = await at_work.find(replace(like, all_moments=all_moments), TOWARDS, 5.0)
        ids = [hit.best.scored.span.id for hit in found.hits]
        assert len(ids) == 10
        assert moments[0].id not in ids


async def test_the_order_by_time_has_the_same_hits() -> None:
    moments = apart(50)[::-1]
    at_work, _ = await finder(moments)
    best = await at_work.find(ASKED, TOWARDS, 5.0)
    by_time = await at_work.find(replace(ASKED, by_time=True), TOWARDS, 5.0)
    assert {id_of(hit.best.scored) for hit in by_time.hits} == {id_of(hit.best.scored) for hit in best.hits}
    starts = [hit.start_ms for hit in by_time.hits]
    assert starts == sorted(starts)


def id_of(scored: Scored) -> str:
    return scored.span.id


class Contrary(ByScore):
    """The nearest are the least sure."""

    def __init__(self) -> None:
        super().__init__()
        sure = Weights(("score",), (-8.0,), 4.0)
        self._calibration = Calibration(sure, sure, 0.5)


@pytest.mark.parametrize(("relevance", "nearest_first"), [("confidence", False), ("score", True)])
async def test_what_best_first_means_is_a_setting(relevance: str, nearest_first: bool) -> None:
    store = Rows()
    moments = apart(10)
    await store.upsert(moments)
    found = await Finder(store, Contrary(), QuerySettings.model_validate({"relevance": relevance})).find(
        ASKED, TOWARDS, 5.0
    )
    ids = [id_of(hit.best.scored) for hit in found.hits]
    assert ids == [one.id for one in (moments if nearest_first else moments[::-1])]


async def test_without_a_calibration_the_nearest_come_first() -> None:
    store = Rows()
    moments = apart(10)
    await store.upsert(moments)
    found = await Finder(store, Judge("", None, None), QuerySettings()).find(ASKED, TOWARDS, 5.0)
    assert [id_of(hit.best.scored) for hit in found.hits] == [one.id for one in moments]
