"""Questions asked over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from evals.answers import FEATURES_KEY
from evals.dataset import Dataset, Relevant, Video
from evals.report import report_of
from index.memory import MemoryStore
from proto.errors import Unknown
from proto.v1 import query_pb2, query_pb2_grpc
from query.client import QueryClient
from query.service import QueryServer, serve_query
from query.settings import QuerySettings
from tests.contracts.moments import NOON, SPACE
from tests.evals.small import question
from tests.query.fakes import MOMENTS, searcher
from watchword.eval_stack import Wanted, run_there
from watchword.settings import Settings

SAID: list[str] = []


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[QueryServer]:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    server = await serve_query(searcher(store, tmp_path), QuerySettings(), "127.0.0.1:0")
    yield server
    await server.stop(0)


def dataset(*names: str) -> Dataset:
    """The moments of tests/query/fakes as a dataset: a red truck at the gate, a bicycle at the dock."""
    videos = {name: Video(name, None, NOON) for name in names}
    truck = question("1", Relevant("gate", 0, 10), query="red truck gate", group="1")
    bicycle = question("2", Relevant("dock", 120, 130), query="bicycle night", group="2")
    return Dataset(Path("small"), "small", videos, (truck, bicycle, question("3", query="snow")))


async def test_a_service_that_has_the_cameras_is_only_asked(server: QueryServer) -> None:
    run = await run_there(Settings(), Wanted(dataset("gate", "dock"), None, 5, "abc", SAID.append), server.address)
    assert (run.about["space"], run.about["address"], run.about["commit"]) == (SPACE.id, server.address, "abc")
    report = report_of(run, "test", times=10)
    assert report.rows[0].figures["R@1"].value == 1
    assert report.rows[0].figures["AUC by score"].value == 1


async def test_a_service_without_the_cameras_is_refused_before_it_is_asked(server: QueryServer) -> None:
    wanted = Wanted(dataset("gate", "dock", "attic"), None, 5, "", SAID.append)
    with pytest.raises(Unknown, match="attic"):
        await run_there(Settings(), wanted, server.address)


class _Explains(query_pb2_grpc.QueryServicer):
    """Sends a value in the trailing metadata, beside a binary one that is none of ours."""

    async def Search(self, request: Any, context: Any) -> query_pb2.SearchReply:  # noqa: N802
        context.set_trailing_metadata(((FEATURES_KEY, "[]"), ("other-bin", b"\x00")))
        return query_pb2.SearchReply(space=request.text)

    async def Thumbnail(self, request: Any, context: Any) -> query_pb2.ThumbnailReply:  # noqa: N802
        return query_pb2.ThumbnailReply()

    async def Clip(self, request: Any, context: Any) -> AsyncIterator[query_pb2.ClipPart]:  # noqa: N802
        yield query_pb2.ClipPart()

    async def Cameras(self, request: Any, context: Any) -> query_pb2.CamerasReply:  # noqa: N802
        return query_pb2.CamerasReply()


async def test_trailing_metadata_comes_with_the_reply() -> None:
    server = grpc.aio.server()
    query_pb2_grpc.add_QueryServicer_to_server(_Explains(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with QueryClient(f"127.0.0.1:{port}", 10.0) as client:
            reply, trailing = await client.ask(query_pb2.SearchRequest(text="words"))
    finally:
        await server.stop(0)
    assert reply.space == "words"
    assert trailing == {FEATURES_KEY: "[]"}
