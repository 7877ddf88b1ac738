"""However moments lie over shards, buckets and rows: the answers are those of one flat list."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from index.memory import MemoryStore
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from proto.types import Moment
from tests.contracts.moments import DAY, HOUR, NOON, SPACE, ids, moment, unit
from tests.index.shards import MemoryShard

NAMES = ["gate", "dock", "yard", "hall", "roof"]
CAMERAS = st.sampled_from(NAMES)
STARTS = st.one_of(
    st.integers(NOON - 2 * DAY, NOON + 2 * DAY), st.integers(-4, 4).map(lambda n: NOON + 12 * HOUR + n * HOUR // 2)
)


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    camera, start_ms = draw(CAMERAS), draw(STARTS)
    return moment(
        camera,
        start_ms,
        vector=unit(start_ms * len(NAMES) + NAMES.index(camera)),  # No two alike: their order would be chance.
        length_ms=draw(st.sampled_from([0, 1, 2000, HOUR])),
        frames=draw(st.integers(1, 9)),
        closed=draw(st.booleans()),
    )


@dataclass
class Window:
    cameras: frozenset[str]
    start_ms: int
    end_ms: int


WINDOWS = st.builds(
    lambda cameras, start_ms, length_ms: Window(cameras, start_ms, start_ms + length_ms),
    st.frozensets(CAMERAS),
    STARTS,
    st.sampled_from([0, 1, HOUR, DAY, 4 * DAY]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(moments(), max_size=25), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 6, 7, 10, 24, 36]), min_size=3, max_size=3),
    st.integers(2, 5),
    st.lists(WINDOWS, min_size=1, max_size=4),
)
def test_shards_answer_as_one_list(
    batches: list[list[Moment]], widths: list[int], most_rows: int, windows: list[Window]
) -> None:
    """The width of buckets changes between batches, as it may between starts."""
    asyncio.run(_compare(batches, widths, most_rows, windows))


async def _compare(batches: list[list[Moment]], widths: list[int], most_rows: int, windows: list[Window]) -> None:
    flat = MemoryStore(SPACE)
    shards = {name: MemoryShard(SPACE) for name in ("http://a", "http://b", "http://c")}
    for batch, hours in zip(batches, widths, strict=False):
        store = ShardedStore(SPACE, MilvusSettings(bucket_hours=hours), shards, most_rows)
        assert await store.upsert(batch) == await flat.upsert(batch) == {}
        await store.close()
    for window in windows:
        where = (window.cameras, window.start_ms, window.end_ms)
        assert await store.between(*where) == await flat.between(*where)
        assert await store.count(*where) == await flat.count(*where)
        ask = Ask(unit(1), 7, *where)
        assert ids((await store.search(ask)).hits) == ids((await flat.search(ask)).hits)
    everything = [m.id for batch in batches for m in batch]
    assert await store.fetch(everything) == await flat.fetch(everything)
