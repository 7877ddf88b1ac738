"""The space of the bundle before, searched beside the present one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from index.store import Answer, Ask, Scored
from proto.access import Scope
from proto.errors import Poison, Transient, Unknown
from proto.life import NOTHING, Gone
from proto.types import Moment, SpaceInfo, Vector
from query.asking import Question
from query.cache import VectorCache
from query.finding import Finding
from query.joining import Judged, alone
from query.judging import Judge
from query.search import Found, Searcher
from query.settings import QuerySettings, RedisSettings
from query.space import FormerSpace, InSpace, SearchedSpace, merged
from tests.contracts.moments import MINUTE, NOON, SPACE, moment
from tests.query.fakes import WordEncoder, searcher, vector_of

FORMER = SpaceInfo("0f0f0f0f", SPACE.dimension)


def turned(vector: Vector) -> Vector:
    """The same in the former space: vectors of the two say nothing to each other."""
    return np.ascontiguousarray(vector[::-1])


class FormerEncoder(WordEncoder):
    """The same words in the former space."""

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        return [one if isinstance(one, Poison) else turned(one) for one in await super().embed_texts(texts)]

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        return [one if isinstance(one, Poison) else turned(one) for one in await super().embed_images(images)]


class Knowing(MemoryStore):
    """A store that says, as a Milvus does, that there are moments of the other space."""

    other = FORMER.id

    async def search(self, ask: Ask) -> Answer:
        answer = await super().search(ask)
        answer.spaces.append(self.other)
        return answer


def before(camera: str, start_ms: int, words: str) -> Moment:
    return moment(camera, start_ms, space=FORMER, vector=turned(vector_of(words)))


NEW = moment("gate", NOON, vector=vector_of("red truck gate"))
OLD = before("dock", NOON - 10 * MINUTE, "red truck")
BOTH = before("gate", NOON, "red truck gate")
"""NEW, as it was before it was embedded again."""


class House:
    """A searcher over both spaces."""

    def __init__(self, folder: Path) -> None:
        self.present, self.former = Knowing(SPACE), MemoryStore(FORMER)
        self.encoder = FormerEncoder()
        self.thumbnails = Thumbnails(FolderObjects(folder / "thumbnails"))
        self.asker: Searcher = searcher(self.present, folder)
        cache = VectorCache(RedisSettings())
        judge = Judge("", None, None)
        self.asker.also_search(
            SearchedSpace(self.encoder, self.former, cache, judge, self.thumbnails, QuerySettings(), newer=self.present)
        )

    async def ask(self, question: Question) -> Found:
        return await self.asker.search(question, timeout_s=5)


@pytest.fixture
async def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    await house.present.upsert([NEW])
    await house.former.upsert([OLD, BOTH])
    return house


def ids(found: Found) -> set[str]:
    return {hit.best.scored.span.id for hit in found.hits}


async def test_each_moment_is_answered_once_by_the_newest_space_that_has_it(house: House) -> None:
    found = await house.ask(Question(text="red truck"))
    assert ids(found) == {NEW.id, OLD.id}
    assert NEW.id == BOTH.id
    (newer,) = [hit for hit in found.hits if hit.best.scored.span.id == NEW.id]
    assert newer.best.scored.span.camera == "gate"
    assert not found.answer.spaces
    assert not found.partial
    assert found.space == SPACE.id


async def test_a_former_worker_that_is_away_costs_its_own_part_and_is_told(house: House) -> None:
    async def away() -> None:
        raise Transient("away")

    house.encoder.before = away
    found = await house.ask(Question(text="red truck"))
    assert ids(found) == {NEW.id}
    assert found.answer.spaces == [FORMER.id]
    assert found.partial


async def test_while_it_is_away_one_question_in_some_seconds_waits_for_it(house: House) -> None:
    now_s, asked = 100.0, 0

    class Away(SearchedSpace):
        async def find(self, question: Question, like: Moment | None, timeout_s: float, gone: Gone) -> InSpace:
            nonlocal asked
            asked += 1
            if now_s < 109:
                raise Transient("away")
            return await super().find(question, like, timeout_s, gone)

    thumbnails, cache, judge = house.thumbnails, VectorCache(RedisSettings()), Judge("", None, None)
    away = Away(house.encoder, house.former, cache, judge, thumbnails, QuerySettings())
    former = FormerSpace(away, clock=lambda: now_s)
    answers = []
    for at_s in (100, 100, 104, 106, 106, 110, 116, 116):
        now_s = at_s
        answers.append(await former.find(Question(text="dog"), None, 5, NOTHING) is not None)
    assert answers == [False] * 6 + [True] * 2
    assert asked == 4


async def test_more_like_a_moment_of_the_former_space_goes_by_its_picture(house: House) -> None:
    like = Question(moment_id=OLD.id)
    # Without a picture the present space cannot be asked.
    with pytest.raises(Unknown, match="picture"):
        await house.ask(like)
    house.thumbnails.put(OLD.id, b"jpeg:red truck")
    assert ids(await house.ask(like)) == {NEW.id}
    assert (await house.asker.moment(OLD.id, Question().scope)).camera == "dock"


async def test_a_question_that_cannot_be_asked_there_keeps_nobody_else_from_asking(house: House) -> None:
    # Of NEW there is no picture, by which the former space could be asked.
    assert (await house.ask(Question(moment_id=NEW.id))).answer.spaces == [FORMER.id]
    assert ids(await house.ask(Question(text="red truck"))) == {NEW.id, OLD.id}


async def test_more_like_a_new_moment_finds_old_ones(house: House) -> None:
    house.thumbnails.put(NEW.id, b"jpeg:red truck gate")
    assert ids(await house.ask(Question(moment_id=NEW.id))) == {OLD.id}


async def test_a_camera_that_may_not_be_seen_is_not_seen_in_the_former_space_either(house: House) -> None:
    scope = Scope(frozenset({"gate"}))
    house.thumbnails.put(OLD.id, b"jpeg:red truck")
    assert ids(await house.ask(Question(text="red truck", scope=scope))) == {NEW.id}
    with pytest.raises(Unknown):
        await house.ask(Question(moment_id=OLD.id, scope=scope))


async def test_as_many_hits_as_are_there_though_most_were_embedded_again(house: House) -> None:
    again = [before("gate", NOON + number * 30 * MINUTE, "red truck") for number in range(1, 60)]
    await house.former.upsert(again)
    await house.present.upsert([moment("gate", one.start_ms, vector=vector_of("snow")) for one in again[:-3]])
    found = await house.ask(Question(text="red truck", limit=70, all_moments=True))
    assert ids(found) == {one.id for one in again} | {NEW.id, OLD.id}
    assert len(found.hits) == len(again) + 2


def finding(*sure: tuple[Moment, float]) -> Finding:
    return Finding([alone(Judged(Scored(one, 0.1), confidence)) for one, confidence in sure], Answer([]), 0.5)


def test_lists_are_merged_by_confidence_or_time() -> None:
    moments = [moment("gate", NOON + number * MINUTE) for number in range(4)]
    present = finding((moments[0], 0.4), (moments[1], 0.9))  # the order within a space stays
    former = finding((moments[3], 0.6), (moments[2], 0.1))
    both = merged(Question(text="x", limit=3), present, former, [])
    assert [hit.best.scored.span.id for hit in both.hits] == [moments[n].id for n in (3, 0, 1)]
    by_time = merged(Question(text="x", limit=3, by_time=True), present, former, [])
    assert [hit.best.scored.span.id for hit in by_time.hits] == [moments[n].id for n in (0, 1, 3)]
