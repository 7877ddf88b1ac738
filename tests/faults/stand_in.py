"""A stand-in for the encoder worker: real gRPC, cheap vectors that tell the scenes of `loadtests.fleet` apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import numpy as np

from loadtests.fleet import SCENES, scene_of
from proto.rpc import MAX_MESSAGE_BYTES
from proto.types import Vector
from proto.v1 import encoder_pb2, encoder_pb2_grpc

DIMENSION = 16
MAX_ITEMS = 16
MAX_ITEM_BYTES = 256 * 1024
NUMERIC_NOISE = 1e-3
"""Two engines never agree to the last bit; neither do two calls of this one."""


class StandIn(encoder_pb2_grpc.EncoderServicer):
    """An encoder that can be told to fail."""

    def __init__(self, space: str) -> None:
        self._space = space
        self._random = np.random.default_rng()
        self.calls = 0
        self.pictures = 0
        self.raise_every = 0
        """Every so many calls one raises in its middle. 0: none."""
        self.picture_s = 0.0
        """How long each picture takes; one is worked on at a time."""
        self._engine = asyncio.Lock()

    async def EmbedImages(  # noqa: N802  # the name that gRPC gives
        self,
        request: encoder_pb2.EmbedImagesRequest,
        context: grpc.aio.ServicerContext[encoder_pb2.EmbedImagesRequest, encoder_pb2.EmbedReply],
    ) -> encoder_pb2.EmbedReply:
        if request.space and request.space != self._space:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"this is space {self._space}")
        self.calls += 1
        self.pictures += len(request.images)
        if self.picture_s:
            async with self._engine:
                await asyncio.sleep(self.picture_s * len(request.images))
        fails = self.raise_every and self.calls % self.raise_every == 0
        reply = encoder_pb2.EmbedReply(space=self._space)
        for number, image in enumerate(request.images):
            if fails and number == len(request.images) // 2:
                raise RuntimeError("the stand-in was told to raise in the middle of a batch")
            reply.items.append(self._embedded(image))
        return reply

    async def EmbedTexts(  # noqa: N802
        self,
        request: encoder_pb2.EmbedTextsRequest,
        context: grpc.aio.ServicerContext[encoder_pb2.EmbedTextsRequest, encoder_pb2.EmbedReply],
    ) -> encoder_pb2.EmbedReply:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the stand-in reads no texts")

    async def DetectObjects(  # noqa: N802
        self,
        request: encoder_pb2.DetectObjectsRequest,
        context: grpc.aio.ServicerContext[encoder_pb2.DetectObjectsRequest, encoder_pb2.DetectObjectsReply],
    ) -> encoder_pb2.DetectObjectsReply:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the stand-in has no detector")

    async def Describe(  # noqa: N802
        self,
        request: encoder_pb2.DescribeRequest,
        context: grpc.aio.ServicerContext[encoder_pb2.DescribeRequest, encoder_pb2.DescribeReply],
    ) -> encoder_pb2.DescribeReply:
        return encoder_pb2.DescribeReply(
            space=self._space,
            bundle="stand-in",
            licence="none",
            dimension=DIMENSION,
            image_side=36,
            engine="stand-in",
            buckets=[MAX_ITEMS],
            max_items=MAX_ITEMS,
            max_item_bytes=MAX_ITEM_BYTES,
            queue_capacity=256,
        )

    def _embedded(self, image: bytes) -> encoder_pb2.Embedding:
        if len(image) > MAX_ITEM_BYTES:
            return _refused("too_large", f"{len(image)} bytes")
        try:
            return encoder_pb2.Embedding(vector=self._vector(scene_of(image)).tobytes())
        except ValueError as error:
            return _refused("not_an_image", str(error))

    def _vector(self, scene: int) -> Vector:
        vector = np.full(DIMENSION, 0.05)
        vector[scene % SCENES] = 1.0
        vector += self._random.normal(0.0, NUMERIC_NOISE, DIMENSION)
        unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit


def _refused(reason: str, detail: str) -> encoder_pb2.Embedding:
    return encoder_pb2.Embedding(error=encoder_pb2.ItemError(reason=reason, detail=detail))


@asynccontextmanager
async def serving(encoder: StandIn) -> AsyncIterator[str]:
    """Serve while inside; gives HOST:PORT."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    encoder_pb2_grpc.add_EncoderServicer_to_server(encoder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0.5)
