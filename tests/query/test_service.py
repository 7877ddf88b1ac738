"""The query service as a client meets it, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from catalog.coverage import Gap, Reason
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Transient, Unknown, WatchwordError
from proto.v1 import query_pb2, query_pb2_grpc
from query.client import QueryClient
from query.service import QueryServer, serve_query
from query.settings import QuerySettings
from tests.contracts.moments import NOON, SPACE, until
from tests.query.fakes import MOMENTS, WordEncoder, coverage_in, searcher

ANY = "127.0.0.1:0"


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
async def server(tmp_path: Path, encoder: WordEncoder) -> AsyncIterator[QueryServer]:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    server = await serve_query(searcher(store, tmp_path, encoder=encoder), QuerySettings(), ANY)
    yield server
    await server.stop(0)


@pytest.fixture
async def client(server: QueryServer) -> AsyncIterator[QueryClient]:
    async with QueryClient(server.address, 10.0) as client:
        yield client


@pytest.fixture
async def stub(server: QueryServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield query_pb2_grpc.QueryStub(channel)


async def test_words_find_the_moment_they_tell_of(client: QueryClient) -> None:
    reply = await client.search(text="red truck at the gate", limit=2)
    best, second = reply.hits
    expected = MOMENTS[0]
    assert (best.moment_id, best.camera, best.frames, best.closed) == (expected.id, "gate", 3, True)
    assert (best.start_ms, best.peak_ms, best.end_ms) == (expected.start_ms, expected.peak_ms, expected.end_ms)
    assert (second.camera, second.closed) == ("dock", False)
    assert 1 >= best.score > second.score
    assert reply.space == SPACE.id
    assert (reply.coverage.partial, list(reply.coverage.shards_missing)) == (False, [])
    assert (reply.coverage.shards_searched, reply.coverage.buckets_searched) == (1, 1)
    timing = reply.timing
    assert timing.total_ms == pytest.approx(timing.embed_ms + timing.index_ms, rel=1e-4)
    assert min(timing.embed_ms, timing.index_ms) > 0


async def test_a_picture_finds_what_looks_like_it(client: QueryClient) -> None:
    reply = await client.search(image=b"jpeg:bicycle night", limit=1)
    assert [hit.moment_id for hit in reply.hits] == [MOMENTS[3].id]


async def test_a_moment_finds_others_like_it_and_not_itself(client: QueryClient) -> None:
    reply = await client.search(moment_id=MOMENTS[0].id, limit=3)
    assert len(reply.hits) == 3
    assert reply.hits[0].moment_id == MOMENTS[2].id
    assert MOMENTS[0].id not in [hit.moment_id for hit in reply.hits]


async def test_cameras_and_times_narrow_the_search(client: QueryClient) -> None:
    dock = await client.search(text="dog", cameras=["dock"])
    assert {hit.camera for hit in dock.hits} == {"dock"}
    early = await client.search(text="dog", start_ms=NOON, end_ms=NOON + 1)
    assert {hit.start_ms for hit in early.hits} == {NOON}


async def test_ten_hits_are_given_when_nothing_is_said(stub: Any, server: QueryServer) -> None:
    reply = await stub.Search(query_pb2.SearchRequest(text="dog"), timeout=5)
    assert len(reply.hits) == len(MOMENTS)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (query_pb2.SearchRequest(), "exactly one of text, image and moment_id"),
        (query_pb2.SearchRequest(text=""), "the question is empty"),
        (query_pb2.SearchRequest(text=" \t\n "), "the question is empty"),
        (query_pb2.SearchRequest(text="x" * 10_000), "at most 2000"),
        (query_pb2.SearchRequest(text="poison"), "it holds a bad word"),
        (query_pb2.SearchRequest(text="dog", limit=0), "1 to 1000"),
        (query_pb2.SearchRequest(text="dog", limit=10**9), "1 to 1000"),
        (query_pb2.SearchRequest(text="dog", start_ms=-1), "milliseconds since 1970"),
        (query_pb2.SearchRequest(text="dog", end_ms=2**62), "milliseconds since 1970"),
        (query_pb2.SearchRequest(text="dog", start_ms=NOON, end_ms=NOON), "not after its start"),
        (query_pb2.SearchRequest(text="dog", start_ms=NOON, end_ms=NOON - 1), "not after its start"),
        (query_pb2.SearchRequest(image=b""), "0 bytes"),
        (query_pb2.SearchRequest(image=b"GIF89a"), "it is not a picture"),
        (query_pb2.SearchRequest(image=b"x" * (8 * 1024 * 1024 + 1)), "8388608 bytes"),
        (query_pb2.SearchRequest(moment_id=""), "32 hex digits"),
        (query_pb2.SearchRequest(moment_id="../../etc"), "32 hex digits"),
        (query_pb2.SearchRequest(text="dog", min_confidence=2), "from 0 to 1"),
        (query_pb2.SearchRequest(text="dog", min_confidence=-0.1), "from 0 to 1"),
        (query_pb2.SearchRequest(text="dog", min_confidence=float("nan")), "from 0 to 1"),
        (query_pb2.SearchRequest(text="dog", objects=["person"]), "knows no kinds of objects"),
        (query_pb2.SearchRequest(text="dog", order=7), "ORDER_TIME"),  # type: ignore[arg-type]
    ],
    ids=lambda value: str(value)[:30].strip() if isinstance(value, str) else "",
)
async def test_a_question_that_cannot_be_asked_is_an_invalid_argument_that_says_why(
    stub: Any, request_: query_pb2.SearchRequest, says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Search(request_, timeout=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in (refused.value.details() or "")


async def test_an_unknown_camera_is_an_error_that_names_near_ones(client: QueryClient) -> None:
    with pytest.raises(Unknown, match=r"'gaet'.*gate"):
        await client.search(text="dog", cameras=["gate", "gaet"])
    with pytest.raises(Unknown, match="known here"):
        await client.search(text="dog", cameras=['" or 1 == 1'])


async def test_an_unknown_moment_is_an_error(client: QueryClient) -> None:
    with pytest.raises(Unknown, match="no moment"):
        await client.search(moment_id="0" * 32)
    with pytest.raises(Unknown, match="no picture"):
        await client.thumbnail("0" * 32)
    with pytest.raises(Invalid, match="32 hex digits"):
        await client.thumbnail("nonsense")


async def test_a_client_asks_exactly_one_thing(client: QueryClient) -> None:
    with pytest.raises(Invalid, match="exactly one"):
        await client.search(text="dog", moment_id="0" * 32)


async def test_a_picture_says_whether_it_is_of_the_time_that_was_asked_for(client: QueryClient, tmp_path: Path) -> None:
    thumbnails = Thumbnails(FolderObjects(tmp_path / "thumbnails"))
    thumbnails.put(MOMENTS[0].id, b"its own")
    thumbnails.put_instants(MOMENTS[0].id, [(7, b"then")])
    replies = [await client.thumbnail(MOMENTS[0].id, at_ms) for at_ms in (0, 7, 8)]
    assert [(one.jpeg, one.at_ms) for one in replies] == [(b"its own", 0), (b"then", 7), (b"its own", 0)]


async def test_thumbnails_and_cameras_are_served(client: QueryClient, tmp_path: Path) -> None:
    Thumbnails(FolderObjects(tmp_path / "thumbnails")).put(MOMENTS[0].id, b"a picture")
    assert (await client.thumbnail(MOMENTS[0].id)).jpeg == b"a picture"
    assert [(camera.name, camera.watching) for camera in await client.cameras()] == [
        ("dock", True),
        ("gate", True),
        ("gate-2", True),
    ]


async def test_an_encoder_that_is_away_is_told_as_such(client: QueryClient, encoder: WordEncoder) -> None:
    async def away() -> None:
        raise Transient("the encoder does not answer", todo="start it")

    encoder.before = away
    with pytest.raises(Transient, match="the encoder does not answer"):
        await client.search(text="dog")


async def test_the_servers_own_deadline_ends_a_search(tmp_path: Path) -> None:
    encoder = WordEncoder()
    encoder.before = lambda: asyncio.Event().wait()  # type: ignore[assignment,return-value]
    settings = QuerySettings(timeout_s=0.05)
    server = await serve_query(searcher(MemoryStore(SPACE), tmp_path, encoder=encoder), settings, ANY)
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await query_pb2_grpc.QueryStub(channel).Search(query_pb2.SearchRequest(text="dog"))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.05 s" in (late.value.details() or "")
    await server.stop(0)


async def test_the_clients_deadline_counts_when_it_is_nearer(server: QueryServer, encoder: WordEncoder) -> None:
    encoder.before = lambda: asyncio.Event().wait()  # type: ignore[assignment,return-value]
    async with QueryClient(server.address, 0.05) as client:
        with pytest.raises(Late):
            await client.search(text="dog")


async def test_searches_beyond_the_bound_are_refused_at_once(tmp_path: Path) -> None:
    encoder = WordEncoder()
    go = asyncio.Event()
    encoder.before = go.wait  # type: ignore[assignment]
    store = MemoryStore(SPACE)
    server = await serve_query(searcher(store, tmp_path, encoder=encoder), QuerySettings(max_concurrent=2), ANY)
    async with QueryClient(server.address, 10.0) as client:
        inside = [asyncio.create_task(client.search(text=f"dog {n}")) for n in range(2)]
        await until(lambda: len(encoder.asked) == 2)
        with pytest.raises(Overloaded):
            await client.search(text="one more")
        assert await health(server) == health_pb2.HealthCheckResponse.SERVING
        go.set()
        await asyncio.gather(*inside)
    await server.stop(0)


async def test_a_dead_milvus_is_named_with_what_to_do(tmp_path: Path) -> None:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=("http://127.0.0.1:1",)))
    server = await serve_query(searcher(store, tmp_path), QuerySettings(), ANY)
    async with QueryClient(server.address, 10.0) as client:
        with pytest.raises(Transient, match=r"Milvus at http://127\.0\.0\.1:1 .*is it running"):
            await client.search(text="dog")
    await server.stop(0)
    await store.close()


async def test_a_client_that_spreads_asks_every_service_in_turn(tmp_path: Path) -> None:
    encoders = [WordEncoder(), WordEncoder()]
    servers = [
        await serve_query(searcher(MemoryStore(SPACE), tmp_path, encoder=encoder), QuerySettings(), ANY)
        for encoder in encoders
    ]
    both = "ipv4:" + ",".join(server.address for server in servers)
    async with QueryClient(both, 10.0, spread=True) as client:
        await asyncio.gather(*(client.search(text=f"dog {n}") for n in range(4)))
        # A connection that is not there yet is passed over.
        numbers = iter(range(4, 1000))
        while not all(encoder.asked for encoder in encoders):
            await client.search(text=f"dog {next(numbers)}")
        await servers[0].stop(0)
        for n in range(1000, 1004):
            await client.search(text=f"dog {n}")
    await servers[1].stop(0)


async def test_a_service_that_is_not_there_is_told_as_such() -> None:
    async with QueryClient("127.0.0.1:1", 2.0) as client:
        with pytest.raises(WatchwordError, match="the query service at"):
            await client.search(text="dog")


async def test_a_taken_port_is_broken_in_a_clear_sentence(server: QueryServer, tmp_path: Path) -> None:
    with pytest.raises(Broken, match="cannot listen"):
        await serve_query(searcher(MemoryStore(SPACE), tmp_path), QuerySettings(), server.address)


async def health(server: QueryServer, service: str = "") -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        status: int = reply.status
        return status


@pytest.mark.parametrize("service", ["", "watchword.v1.Query"])
async def test_health_is_served(server: QueryServer, service: str) -> None:
    assert await health(server, service) == health_pb2.HealthCheckResponse.SERVING


async def test_an_encoder_of_another_space_ends_the_service_and_its_caller_hears_to_try_again(
    server: QueryServer, client: QueryClient, encoder: WordEncoder
) -> None:
    async def changed() -> None:
        raise Mismatch("the encoder gives vectors of space b, not a", todo="start the encoder with the old bundle")

    encoder.before = changed
    running = asyncio.create_task(server.run())
    with pytest.raises(Mismatch, match="space b, not a") as told:
        await client.search(text="dog")
    assert told.value.todo == "try again in some seconds: the query service starts anew on the new bundle"
    with pytest.raises(Mismatch, match="space b, not a"):
        await asyncio.wait_for(running, 10)
    assert await health(server) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_service_runs_until_it_is_told_to_end(server: QueryServer, client: QueryClient) -> None:
    running = asyncio.create_task(server.run())
    await client.search(text="dog")
    assert not running.done()
    server.end()
    await asyncio.wait_for(running, 10)


async def test_a_fault_of_our_own_is_broken_for_the_caller(client: QueryClient, encoder: WordEncoder) -> None:
    async def fault() -> None:
        raise KeyError("red")

    encoder.before = fault
    with pytest.raises(Broken, match=r"the query service failed \(KeyError\)"):
        await client.search(text="dog")


async def test_searches_are_counted_by_their_outcome(client: QueryClient) -> None:
    def counted(outcome: str) -> float:
        return REGISTRY.get_sample_value("watchword_query_searches_total", {"outcome": outcome}) or 0.0

    before = counted("ok"), counted("unknown")
    await client.search(text="dog")
    with pytest.raises(Unknown):
        await client.search(text="dog", cameras=["nobody"])
    assert (counted("ok"), counted("unknown")) == (before[0] + 1, before[1] + 1)


async def test_an_answer_tells_which_frames_were_never_looked_at(client: QueryClient, tmp_path: Path) -> None:
    assert not (await client.search(text="dog")).coverage.partial
    coverage_in(tmp_path).declare([Gap("gate", Reason.SHED, NOON, NOON + 29_000, 30)])
    coverage = (await client.search(text="dog")).coverage
    assert (coverage.partial, coverage.gaps_in_all, coverage.frames_not_looked_at) == (True, 1, 30)
    assert [(one.camera, one.start_ms, one.end_ms, one.frames, one.reason) for one in coverage.gaps] == [
        ("gate", NOON, NOON + 29_000, 30, "shed")
    ]
    elsewhere = await client.search(text="dog", cameras=["dock"])
    earlier = await client.search(text="dog", end_ms=NOON)
    assert not elsewhere.coverage.partial
    assert not earlier.coverage.partial
