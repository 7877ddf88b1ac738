"""The query service as it is run, while the encoders change their bundle."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from index.milvus import MilvusStore
from index.settings import MilvusSettings
from proto.errors import Mismatch, WatchwordError
from proto.serving import Door, GrpcServer, answers
from proto.types import SpaceInfo, now_ms
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from query.client import QueryClient
from tests.contracts.moments import HOUR, MINUTE, moment
from watchword.stack import ready
from watchword.stack.ports import Port

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = "a" * 16, "b" * 16
Context = grpc.aio.ServicerContext[Any, Any]

pytestmark = pytest.mark.stack


class Encoder(encoder_pb2_grpc.EncoderServicer):
    """Gives the same vector for every text, of a space that can be changed."""

    space = OLD

    def __init__(self, door: Door) -> None:
        self.door = door

    @answers
    async def Describe(  # noqa: N802 - the name that gRPC gives
        self, request: encoder_pb2.DescribeRequest, context: Context
    ) -> encoder_pb2.DescribeReply:
        return encoder_pb2.DescribeReply(space=self.space, dimension=4, max_items=8, max_item_bytes=1000)

    @answers
    async def EmbedTexts(  # noqa: N802
        self, request: encoder_pb2.EmbedTextsRequest, context: Context
    ) -> encoder_pb2.EmbedReply:
        if request.space and request.space != self.space:
            raise Mismatch(f"this worker gives {self.space}", todo="ask another")
        vector = np.array([1, 0, 0, 0], "<f4").tobytes()
        return encoder_pb2.EmbedReply(
            space=self.space, items=[encoder_pb2.Embedding(vector=vector) for _ in request.texts]
        )

    async def EmbedImages(  # noqa: N802
        self, request: encoder_pb2.EmbedImagesRequest, context: Context
    ) -> encoder_pb2.EmbedReply:
        raise AssertionError("nobody asks for this here")

    async def DetectObjects(  # noqa: N802
        self, request: encoder_pb2.DetectObjectsRequest, context: Context
    ) -> encoder_pb2.DetectObjectsReply:
        raise AssertionError("nobody asks for this here")


@asynccontextmanager
async def encoding(space: str = OLD, listen: str = "127.0.0.1:0") -> AsyncIterator[tuple[Encoder, str]]:
    """The encoder and its address."""
    server = GrpcServer("the encoder", "watchword.v1.Encoder", most_calls=8)
    encoder = Encoder(server.door)
    encoder.space = space
    encoder_pb2_grpc.add_EncoderServicer_to_server(encoder, server.methods)
    await server.start(listen)
    try:
        yield encoder, server.address
    finally:
        await server.stop(0)


@asynccontextmanager
async def querying(
    folder: Path, address: str, encoder: str, milvus: str, former: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`watchword run query`, ready to serve at `address`."""
    settings = {
        "WATCHWORD_DATA_DIR": str(folder),
        "WATCHWORD_QUERY__LISTEN": address,
        "WATCHWORD_ENCODER__ADDRESS": encoder,
        "WATCHWORD_ENCODER__FORMER_ADDRESS": former,
        "WATCHWORD_MILVUS__ENDPOINTS": f'["{milvus}"]',
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "watchword", "run", "query"),
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            while not await _serves(address):
                assert child.returncode is None
                await asyncio.sleep(0.1)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def _serves(address: str) -> bool:
    try:
        await ready.health(address)
    except WatchwordError:
        return False
    return True


async def test_a_query_process_ends_when_the_encoders_change_their_bundle_and_another_serves_the_new_one(
    tmp_path: Path, milvus: str
) -> None:
    port = Port()
    port.settle()
    async with encoding() as (encoder, at), QueryClient(port.address, 20) as client:
        async with querying(tmp_path, port.address, at, milvus) as process:
            assert (await client.search(text="a dog")).space == OLD
            encoder.space = NEW
            with pytest.raises(Mismatch, match=f"{NEW}.*try again in some seconds"):
                await client.search(text="a cat")
            _, told = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == Mismatch.exit_code
            assert told.decode().splitlines()[-1].startswith("watchword: ")
        async with querying(tmp_path, port.address, at, milvus):
            assert (await client.search(text="a cat")).space == NEW


async def test_the_former_bundle_is_searched_too_from_when_its_worker_answers(tmp_path: Path, milvus: str) -> None:
    old, new = SpaceInfo(secrets.token_hex(8), 4), SpaceInfo(secrets.token_hex(8), 4)
    began = now_ms() - HOUR
    near = np.array([1, 0, 0, 0], np.float32)
    again = [moment("gate", began + number * MINUTE, space=old, vector=near) for number in range(2)]
    for space, moments in ((old, again), (new, [replace(again[0], space=new.id)])):
        store = MilvusStore(space, MilvusSettings(endpoints=(milvus,)))
        assert not await store.upsert(moments)
        await store.close()
    former, port = Port(), Port()
    former.settle()
    port.settle()
    async with (
        encoding(new.id) as (_, at),
        QueryClient(port.address, 20) as client,
        querying(tmp_path, port.address, at, milvus, former.address),
    ):

        async def until(answered: set[str], *, searched: bool) -> None:
            """Others' spaces on this Milvus are told too, so only ours is looked for."""
            async with asyncio.timeout(60):
                while True:
                    reply = await client.search(text="a dog", all_moments=True)
                    found = [hit.moment_id for hit in reply.hits]
                    assert len(found) == len(set(found))
                    if set(found) == answered and (old.id not in reply.coverage.spaces_unsearched) == searched:
                        assert reply.space == new.id
                        return
                    await asyncio.sleep(0.1)

        await until({again[0].id}, searched=False)
        async with encoding(old.id, former.address):
            await until({one.id for one in again}, searched=True)
        await until({again[0].id}, searched=False)
