"""What is gone is in no answer from the next call on: search, pictures, clips, similar moments, coverage."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.coverage import Gap, Reason
from catalog.known_life import KnownLife
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.access import EVERYTHING
from proto.errors import Unknown
from proto.life import DEFAULT, Stretch
from query.asking import Question
from query.coverage import AskedTime, CoverageTold, without
from query.search import Searcher
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, SPACE
from tests.query.fakes import MOMENTS, catalog_in, coverage_in, searcher

GATE, DOG, TRUCK, BICYCLE = MOMENTS


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    return store


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(catalog_in(tmp_path))


def asking(store: MemoryStore, folder: Path, life: Life, now_ms: int = NOON + HOUR) -> Searcher:
    return searcher(store, folder, life=KnownLife(life, 0.0, now=lambda: now_ms), coverage=coverage_in(folder))


async def found(asker: Searcher, **more: object) -> set[str]:
    answer = await asker.search(Question(text="truck", all_moments=True, **more), timeout_s=5)  # type: ignore[arg-type]
    return {hit.best.scored.span.id for hit in answer.hits}


async def test_an_erasure_takes_effect_with_the_next_question(store: MemoryStore, tmp_path: Path, life: Life) -> None:
    asker = asking(store, tmp_path, life)
    assert await found(asker) == {one.id for one in MOMENTS}
    erasure = life.erase(Stretch("gate", NOON, NOON + 1000), NOON)
    assert await found(asker) == {DOG.id, TRUCK.id, BICYCLE.id}
    assert await found(asker, limit=3) == {DOG.id, TRUCK.id, BICYCLE.id}
    assert await found(asker, cameras=("gate",)) == {DOG.id}
    life.hold(Stretch("gate", 0, NOON + DAY), NOON, "too late")
    assert GATE.id not in await found(asker)
    assert erasure.number == 1


async def test_what_is_too_old_is_hidden_and_a_hold_shows_it(store: MemoryStore, tmp_path: Path, life: Life) -> None:
    asker = asking(store, tmp_path, life, NOON + DAY + MINUTE)
    life.keep(DEFAULT, 1.0)
    life.keep("dock", 2.0)
    assert await found(asker) == {DOG.id, TRUCK.id, BICYCLE.id}
    life.hold(Stretch("gate", NOON, NOON + 1), NOON, "case")
    assert await found(asker) == {one.id for one in MOMENTS}


async def test_pictures_and_similar_moments_of_what_is_gone_are_unknown(
    store: MemoryStore, tmp_path: Path, life: Life
) -> None:
    pictures = Thumbnails(FolderObjects(tmp_path / "thumbnails"))
    for one in MOMENTS:
        pictures.put(one.id, b"jpeg")
        pictures.put_instants(one.id, [(one.start_ms, b"instant")])
    asker = asking(store, tmp_path, life)
    assert await asker.thumbnail(GATE.id, None, EVERYTHING) == (b"jpeg", None)
    life.erase(Stretch("gate", NOON, NOON + 1000), NOON)
    for at_ms in (None, GATE.start_ms):
        with pytest.raises(Unknown, match="no moment"):
            await asker.thumbnail(GATE.id, at_ms, EVERYTHING)
    with pytest.raises(Unknown, match="no moment"):
        await asker.moment(GATE.id, EVERYTHING)
    with pytest.raises(Unknown, match="no moment"):
        await asker.search(Question(moment_id=GATE.id), timeout_s=5)
    assert await asker.thumbnail(TRUCK.id, None, EVERYTHING) == (b"jpeg", None)
    assert GATE.id not in await found(asker)


def test_gaps_are_cut_down_to_what_may_be_shown(tmp_path: Path, life: Life) -> None:
    life.keep("gate", 1.0)
    life.erase(Stretch("dock", NOON - HOUR, NOON), NOON)
    gone = life.rules().gone(NOON)
    told = CoverageTold(
        [
            Gap("gate", Reason.AWAY, NOON - 3 * DAY, NOON - 2 * DAY),
            Gap("gate", Reason.AWAY, NOON - 2 * DAY, NOON - HOUR),
            Gap("dock", Reason.AWAY, NOON - 2 * HOUR, NOON + HOUR),
            Gap("dock", Reason.SHED, NOON - HOUR, NOON - 1),
            Gap("", Reason.EXPIRED, NOON - 3 * DAY, NOON - 2 * DAY),
        ]
    )
    assert [(gap.camera, gap.start_ms - NOON, gap.end_ms - NOON) for gap in without(told, gone).gaps] == [
        ("", -3 * DAY, -2 * DAY),
        ("gate", -DAY, -HOUR),
        ("dock", -2 * HOUR, -HOUR - 1),
        ("dock", 0, HOUR),
    ]
    assert AskedTime(None, None, NOON).until_ms == NOON


async def test_coverage_of_an_answer_tells_no_gap_that_is_gone(store: MemoryStore, tmp_path: Path, life: Life) -> None:
    coverage_in(tmp_path).declare([Gap("gate", Reason.AWAY, NOON, NOON + MINUTE)])
    asker = asking(store, tmp_path, life)
    question = Question(text="dog", cameras=("gate",), start_ms=NOON, end_ms=NOON + HOUR)
    assert (await asker.search(question, timeout_s=5)).coverage.gaps
    life.erase(Stretch("gate", NOON, NOON + 2 * MINUTE), NOON)
    assert not (await asker.search(question, timeout_s=5)).coverage.gaps
