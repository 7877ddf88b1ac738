"""However moments lie over shards, buckets and rows: the answers are those of one flat list."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.memory import MemoryStore
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask, Scored
from proto.types import MOST_REGIONS, WHOLE, Moment, Region
from tests.contracts.moments import DAY, HOUR, NOON, SPACE, moment, region, unit
from tests.index.shards import MemoryShard

pytestmark = pytest.mark.long

NAMES = ["gate", "dock", "yard", "hall", "roof"]
CAMERAS = st.sampled_from(NAMES)
STARTS = st.one_of(
    st.integers(NOON - 2 * DAY, NOON + 2 * DAY), st.integers(-4, 4).map(lambda n: NOON + 12 * HOUR + n * HOUR // 2)
)


KINDS = ["car", "dog", "person", "traffic light"]
REGIONS = st.lists(st.tuples(st.integers(0, HOUR), st.sampled_from(["", *KINDS])), max_size=MOST_REGIONS)
OBJECTS = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 3), max_size=3)


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    """No two rows alike: their order would be chance. Told again, a moment may have other regions, more or fewer."""
    camera, start_ms = draw(CAMERAS), draw(STARTS)
    length_ms = draw(st.sampled_from([0, 1, 2000, HOUR]))
    seed, telling = start_ms * len(NAMES) + NAMES.index(camera), draw(st.integers(0, 9))
    regions = [
        region((seed * 10 + telling) * 10 + n, at_ms=start_ms + at_ms % (length_ms + 1), kind=kind)
        for n, (at_ms, kind) in enumerate(draw(REGIONS))
    ]
    return moment(
        camera,
        start_ms,
        vector=unit(seed),
        length_ms=length_ms,
        regions=regions,
        objects=tuple(sorted(draw(OBJECTS).items())),
        frames=draw(st.integers(1, 9)),
        closed=draw(st.booleans()),
    )


@dataclass
class Window:
    cameras: frozenset[str]
    start_ms: int
    end_ms: int
    objects: frozenset[str]
    limit: int


WINDOWS = st.builds(
    lambda cameras, start_ms, length_ms, *others: Window(cameras, start_ms, start_ms + length_ms, *others),
    st.frozensets(CAMERAS),
    STARTS,
    st.sampled_from([0, 1, HOUR, DAY, 4 * DAY]),
    st.frozensets(st.sampled_from(KINDS), max_size=2),
    st.integers(1, 9),
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.lists(moments(), max_size=25), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 6, 7, 10, 24, 36]), min_size=3, max_size=3),
    st.integers(6, 12),
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
    told = [m for batch in batches for m in batch]
    for window in windows:
        where = (window.cameras, window.start_ms, window.end_ms)
        assert seen(await store.between(*where)) == seen(await flat.between(*where))
        assert await store.count(*where) == await flat.count(*where)
        ask = Ask(unit(1), window.limit, *where, objects=window.objects, with_vectors=True)
        answer, expected = await store.search(ask), await flat.search(ask)
        assert rows(answer.hits) == rows(expected.hits) == rows(by_hand(told, ask))
        assert len(answer.hits) <= answer.moments_searched <= await flat.count()
    assert seen(await store.fetch([m.id for m in told])) == seen(await flat.fetch([m.id for m in told]))


def by_hand(told: list[Moment], ask: Ask) -> list[Scored]:
    """The hits, by comparing with each row of the last telling of each moment."""
    found = []
    for one in {m.id: m for m in told}.values():
        if not (ask.cameras and one.camera in ask.cameras and ask.objects <= {kind for kind, _ in one.objects}):
            continue
        if one.end_ms < (ask.start_ms or 0) or one.start_ms >= (ask.end_ms or 0):
            continue
        every = [Region(one.peak_ms, WHOLE, one.vector), *one.regions]
        row = max(every, key=lambda row: float(row.vector @ ask.vector))
        found.append(Scored(one, float(row.vector @ ask.vector), row.at_ms, row.box, row.kind, row.vector))
    return sorted(found, key=lambda hit: (-hit.score, hit.span.id))[: ask.limit]


def rows(hits: list[Scored]) -> list[tuple[object, ...]]:
    return [
        (h.span.id, h.at_ms, h.box, h.kind, tuple(h.vector), round(h.score, 5)) for h in hits if h.vector is not None
    ]


def seen(moments: list[Moment]) -> list[tuple[object, ...]]:
    return [(m.id, m.frames, m.objects, tuple(m.regions)) for m in moments]
