"""About how many moments an answer was chosen from: a count is kept, and not made for each question."""

from __future__ import annotations

import asyncio

import pytest

from index.counts import Counts, share_of
from index.places import Bucket
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from proto.errors import Transient
from tests.contracts.moments import HOUR, MINUTE, NOON, SPACE, moment, of, unit, until
from tests.index.shards import MemoryShard

DAY_OF_NOON = Bucket(24, NOON // (24 * HOUR))
MIDNIGHT = DAY_OF_NOON.start_ms


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Counted:
    """Counts that grow by one at each call."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.open.wait()
        return number


async def test_a_count_is_made_once_for_many_questions_at_the_same_time_and_soon_after() -> None:
    counts, counted = Counts(Clock()), Counted()
    assert await asyncio.gather(*(counts.about("gate", counted, 5.0) for _ in range(50))) == [1] * 50
    assert await counts.about("gate", counted, 5.0) == 1
    assert await counts.about("dock", counted, 5.0) == 2
    assert counted.calls == 2
    await counts.close()


async def test_an_old_count_is_given_while_it_is_made_again() -> None:
    clock, counted = Clock(), Counted()
    counts = Counts(clock)
    assert await counts.about("gate", counted, 5.0) == 1
    clock.now_s += 31
    counted.open.clear()
    assert await counts.about("gate", counted, 5.0) == 1
    await until(lambda: counted.calls == 2)
    counted.open.set()
    while await counts.about("gate", counted, 5.0) == 1:  # noqa: ASYNC110 - it is counted in a task of its own
        await asyncio.sleep(0)
    assert counted.calls == 2
    await counts.close()


async def test_a_count_of_long_ago_is_not_given_where_a_new_one_can_be_had() -> None:
    clock, counted = Clock(), Counted()
    counts = Counts(clock)
    await counts.about("gate", counted, 5.0)
    clock.now_s += 301
    assert await counts.about("gate", counted, 5.0) == 2
    await counts.close()


async def test_a_count_that_hangs_or_fails_holds_no_answer_up() -> None:
    async def fails() -> int:
        raise Transient("away", todo="wait")

    counts, hanging = Counts(), Counted()
    hanging.open.clear()
    assert await counts.about("gate", hanging, 0.01) is None
    assert await counts.about("gate", hanging, 0.0) is None
    assert await counts.about("dock", fails, 5.0) is None
    assert hanging.calls == 1
    await counts.close()


async def test_a_count_of_long_ago_is_given_where_no_other_can_be_had() -> None:
    clock, counted = Clock(), Counted()
    counts = Counts(clock)
    await counts.about("gate", counted, 5.0)
    clock.now_s += 3600
    counted.open.clear()
    assert await counts.about("gate", counted, 0.01) == 1
    await counts.close()


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "now_ms", "share"),
    [
        (None, None, 0, 1.0),
        (MIDNIGHT, MIDNIGHT + 6 * HOUR, 0, 0.25),
        (MIDNIGHT - HOUR, MIDNIGHT, 0, 0.0),
        (MIDNIGHT - HOUR, MIDNIGHT + 48 * HOUR, 0, 1.0),
        (MIDNIGHT + 30 * HOUR, None, 0, 0.0),
        (NOON - HOUR, None, NOON, 1 / 12),
        (NOON, NOON + HOUR, NOON, 0.0),
    ],
)
def test_a_time_takes_its_share_of_what_the_bucket_has_held_so_far(
    start_ms: int | None, end_ms: int | None, now_ms: int, share: float
) -> None:
    assert share_of(DAY_OF_NOON, start_ms, end_ms, now_ms) == pytest.approx(share)


async def test_a_question_that_is_asked_again_needs_no_count() -> None:
    shard = MemoryShard(SPACE)
    store = ShardedStore(SPACE, MilvusSettings(), {"http://a": shard})
    await store.upsert([moment("gate", MIDNIGHT + n * MINUTE) for n in range(1440)])
    for start_ms, searched in [(MIDNIGHT, 1440), (MIDNIGHT + 12 * HOUR, 720), (MIDNIGHT + 18 * HOUR, 360)]:
        answer = await store.search(Ask(unit(1), 5, of("gate"), start_ms, MIDNIGHT + 24 * HOUR))
        assert answer.moments_searched == searched
    assert [call for call, _ in shard.asked].count("about") == 1
    await store.close()


async def test_an_answer_with_fewer_hits_than_asked_for_needs_no_count() -> None:
    shard = MemoryShard(SPACE)
    store = ShardedStore(SPACE, MilvusSettings(), {"http://a": shard})
    await store.upsert([moment("gate", NOON + n) for n in range(7)])
    assert (await store.search(Ask(unit(1), 8))).moments_searched == 7
    assert [call for call, _ in shard.asked].count("about") == 0
    await store.close()


async def test_an_answer_whose_moments_cannot_be_counted_says_how_many_it_found() -> None:
    class Uncounted(MemoryShard):
        async def count(self, *_: object, exact: bool = True) -> int:
            raise Transient("too busy to count", todo="wait")

    store = ShardedStore(SPACE, MilvusSettings(), {"http://a": Uncounted(SPACE)})
    await store.upsert([moment("gate", NOON + n) for n in range(7)])
    answer = await store.search(Ask(unit(1), 5))
    assert (len(answer.hits), answer.moments_searched, answer.unsearched) == (5, 5, [])
    await store.close()
