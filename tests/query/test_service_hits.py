"""What hits say over real gRPC: where, what, how sure, joined or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from index.memory import MemoryStore
from index.store import Answer, Ask, Scored
from proto.errors import Invalid
from proto.types import Box, Moment
from proto.v1 import query_pb2
from query.client import QueryClient
from query.confidence import FEATURES
from query.judging import Judge
from query.reply import FEATURES_KEY
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import NOON, SPACE, moment
from tests.query.fakes import MOMENTS, searcher, vector_of

ANY = "127.0.0.1:0"


class Regions(MemoryStore):
    """Answers from one row of each moment that has a region: the region's. Notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.asked: list[Ask] = []

    async def search(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        answer = await super().search(ask)
        hits = []
        for hit in answer.hits:
            span = replace(hit.span, objects=(("person", 2),))
            box = Box(0.25, 0.5, 0.5, 0.75)
            vector = self._moments[span.id].vector
            hits.append(Scored(span, hit.score, span.start_ms + 500, box, "person", vector))
        return replace(answer, hits=hits, moments_searched=len(hits))


@asynccontextmanager
async def regions(
    folder: Path, moments: Sequence[Moment], *, explain: bool = False, sure: bool = False
) -> AsyncIterator[tuple[QueryClient, Regions]]:
    """A service over moments with regions. `sure`: its confidence is high for scores above a half."""
    store = Regions()
    await store.upsert(moments)
    weights = {"version": 1, "features": ["score"], "weights": [20.0], "bias": -10.0, "threshold": 0.6}
    judge = Judge(json.dumps(weights) if sure else "", None, None)
    settings = QuerySettings(explain=explain)
    answers = searcher(store, folder, judge=judge, kinds=["person", "car", "dog"], settings=settings)
    server = await serve_query(answers, settings, ANY)
    async with QueryClient(server.address, 10.0) as client:
        yield client, store
    await server.stop(0)


async def test_a_hit_says_where_in_the_picture_and_what_it_is_and_how_sure(tmp_path: Path) -> None:
    async with regions(tmp_path, MOMENTS, sure=True) as (client, _):
        reply = await client.search(text="dog")
    best, worst = reply.hits[0], reply.hits[-1]
    assert (best.moment_id, best.kind, best.at_ms) == (MOMENTS[1].id, "person", MOMENTS[1].start_ms + 500)
    assert (best.box.left, best.box.top, best.box.right, best.box.bottom) == (0.25, 0.5, 0.5, 0.75)
    assert [(one.kind, one.count) for one in best.objects] == [("person", 2)]
    assert best.moments == 1
    assert best.confidence > 0.99
    assert 0 < worst.confidence < 0.5
    assert reply.threshold == pytest.approx(0.6)
    assert not reply.no_confident_match


async def test_an_answer_without_a_sure_hit_says_so_and_still_has_the_nearest(tmp_path: Path) -> None:
    async with regions(tmp_path, MOMENTS, sure=True) as (client, _):
        nearest = await client.search(text="wombat")
        none = await client.search(text="wombat", min_confidence=0.9)
        sure = await client.search(text="dog", min_confidence=0.9)
    assert nearest.no_confident_match
    assert len(nearest.hits) == len(MOMENTS)
    assert (list(none.hits), none.no_confident_match) == ([], True)
    assert ([hit.moment_id for hit in sure.hits], sure.no_confident_match) == ([MOMENTS[1].id], False)


async def test_objects_are_filtered_in_the_index_under_the_names_of_the_bundle(tmp_path: Path) -> None:
    async with regions(tmp_path, MOMENTS) as (client, store):
        await client.search(text="dog", objects=["Person ", "car"])
        assert store.asked[-1].objects == {"person", "car"}
        with pytest.raises(Invalid, match=r"'persn'.*did you mean person.*watchword kinds"):
            await client.search(text="dog", objects=["persn"])
        with pytest.raises(Invalid, match=r"'zzz'.*known are car, dog, person"):
            await client.search(text="dog", objects=["zzz"])
        assert await client.kinds() == ["car", "dog", "person"]


async def test_neighbours_are_one_hit_unless_all_moments_are_asked_for(tmp_path: Path) -> None:
    run = [moment("gate", NOON + n * 3000, vector=vector_of("dog")) for n in range(4)]
    async with regions(tmp_path, run) as (client, _):
        (hit,) = (await client.search(text="dog")).hits
        assert (hit.moments, hit.frames, hit.start_ms, hit.end_ms) == (4, 12, run[0].start_ms, run[-1].end_ms)
        assert len((await client.search(text="dog", all_moments=True)).hits) == 4


async def test_hits_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    async with regions(tmp_path, MOMENTS) as (client, _):
        best = (await client.search(text="bicycle night")).hits
        early = (await client.search(text="bicycle night", by_time=True)).hits
    assert best[0].moment_id == early[-1].moment_id == MOMENTS[3].id
    assert [hit.start_ms for hit in early] == sorted(hit.start_ms for hit in best)


async def features(client: QueryClient, limit: int) -> Any:
    call = client._stub.Search(query_pb2.SearchRequest(text="dog", limit=limit, all_moments=True), timeout=10)
    hits = (await call).hits
    told = [value for key, value in await call.trailing_metadata() if key == FEATURES_KEY]
    assert len(hits) > 1
    return [json.loads(unquote(value)) for value in told], hits


async def test_what_confidences_were_computed_from_is_told_only_where_it_is_asked_for(tmp_path: Path) -> None:
    many = [moment("gate", NOON + n * 3000, vector=vector_of("dog")) for n in range(1000)]
    async with regions(tmp_path, many, explain=True) as (client, _):
        (told,), hits = await features(client, 1000)
    assert len(told) == len(hits) == 1000
    assert all(tuple(one) == FEATURES for one in told)
    assert told[0]["score"] == pytest.approx(hits[0].score, abs=1e-4)
    async with regions(tmp_path, MOMENTS) as (client, _):
        assert (await features(client, 4))[0] == []


async def test_a_calibration_that_cannot_be_read_is_told_in_the_log_and_hits_are_judged_cautiously(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Judge('{"version": 9}', None, None)
    assert "evals.calibrate" in caplog.text
    assert "judged cautiously" in caplog.text
