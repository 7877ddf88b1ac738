"""The encoder as its callers see it, and the gRPC client that reaches a worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc.aio
import numpy as np

from proto.errors import Broken, Late, Mismatch, Overloaded, Poison, Transient
from proto.rpc import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, error_of
from proto.types import SpaceInfo, Vector
from proto.v1 import encoder_pb2, encoder_pb2_grpc

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_MESSAGE_BYTES = MAX_MESSAGE_BYTES // 2
"""Pictures in one request stay well below what gRPC takes."""

Item = TypeVar("Item", bytes, str)
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What a worker runs."""

    space: SpaceInfo
    bundle: str
    licence: str
    image_side: int
    """Pixels of the short side that the model looks at."""
    engine: str
    max_items: int
    max_item_bytes: int


class Encoder(Protocol):
    """Turns pictures and texts into vectors of one space."""

    async def describe(self) -> EncoderInfo:
        """What runs at the other end."""

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        """One vector per picture, in order, or the reason why that one can never have one."""

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        """One vector per text, in order, or the reason why that one can never have one."""


class EncoderClient:
    """An Encoder behind gRPC.

    Each call ends within `timeout_s`: with its answer, or with Transient, Overloaded, Late, Mismatch or Invalid.
    Calls that met a full or absent worker are repeated within that time. Once described, or given `space`, every
    call names the space it expects.
    """

    def __init__(self, address: str, *, timeout_s: float, space: str = "") -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._space = space
        self._info: EncoderInfo | None = None
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub: Any = encoder_pb2_grpc.EncoderStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def describe(self) -> EncoderInfo:
        return await self._describe(self._deadline())

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        def ask(part: list[bytes], timeout: float) -> Awaitable[encoder_pb2.EmbedReply]:
            request = encoder_pb2.EmbedImagesRequest(images=part, space=self._space)
            return self._stub.EmbedImages(request, timeout=timeout, wait_for_ready=False)  # type: ignore[no-any-return]

        return await self._embed(images, ask)

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        def ask(part: list[str], timeout: float) -> Awaitable[encoder_pb2.EmbedReply]:
            request = encoder_pb2.EmbedTextsRequest(texts=part, space=self._space)
            return self._stub.EmbedTexts(request, timeout=timeout, wait_for_ready=False)  # type: ignore[no-any-return]

        return await self._embed(texts, ask)

    async def _describe(self, deadline: float) -> EncoderInfo:
        def ask(timeout: float) -> Awaitable[encoder_pb2.DescribeReply]:
            request = encoder_pb2.DescribeRequest()
            return self._stub.Describe(request, timeout=timeout, wait_for_ready=False)  # type: ignore[no-any-return]

        reply = await _repeat(ask, deadline)
        if self._space and reply.space != self._space:
            raise _mismatch(self._space, reply.space)
        self._space = reply.space
        self._info = EncoderInfo(
            space=SpaceInfo(reply.space, reply.dimension),
            bundle=reply.bundle,
            licence=reply.licence,
            image_side=reply.image_side,
            engine=reply.engine,
            max_items=reply.max_items,
            max_item_bytes=reply.max_item_bytes,
        )
        return self._info

    async def _embed(
        self, items: Sequence[Item], ask: Callable[[list[Item], float], Awaitable[encoder_pb2.EmbedReply]]
    ) -> list[Vector | Poison]:
        deadline = self._deadline()
        info = self._info or await self._describe(deadline)
        found: list[Vector | Poison] = []
        for part in _parts(items, info.max_items):
            reply = await _repeat(partial(ask, part), deadline)
            if reply.space != info.space.id:
                raise _mismatch(info.space.id, reply.space)
            if len(reply.items) != len(part):
                raise Broken(f"the encoder answered {len(reply.items)} of {len(part)} items", todo="report this")
            found.extend(_from_the_wire(item, info.space.dimension) for item in reply.items)
        return found

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


def _mismatch(expected: str, found: str) -> Mismatch:
    return Mismatch(
        f"the encoder gives vectors of space {found}, not {expected}",
        todo="start the encoder with the bundle that the index was made with, or index again",
    )


def _parts(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """The items in order, in parts that a worker takes whole."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and (len(part) == most or size + len(item) > _MESSAGE_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item)
    if part:
        yield part


def pause_s(attempt: int, chance: float) -> float:
    """How long to wait before attempt number `attempt` + 1; `chance` is 0 to 1."""
    longest: float = min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S)
    return longest * (0.5 + 0.5 * chance)


async def _repeat(ask: Callable[[float], Awaitable[Reply]], deadline: float) -> Reply:
    """Ask until there is an answer, an error that repeating cannot mend, or no time for another try."""
    loop = asyncio.get_running_loop()
    attempt = 0
    while True:
        left = deadline - loop.time()
        if left <= 0:
            raise Late("the encoder did not answer in time", todo="try again, or raise encoder.timeout_s")
        try:
            return await ask(left)
        except grpc.aio.AioRpcError as error:
            met = error_of(error, "the encoder")
        pause = pause_s(attempt, random.random())  # noqa: S311 - jitter, not a secret
        if not isinstance(met, Transient | Overloaded) or loop.time() + pause >= deadline:
            raise met
        await asyncio.sleep(pause)
        attempt += 1


def _from_the_wire(item: encoder_pb2.Embedding, dimension: int) -> Vector | Poison:
    if item.WhichOneof("result") == "error":
        return Poison(item.error.reason, item.error.detail)
    vector = np.frombuffer(item.vector, "<f4").astype(np.float32)
    if len(vector) != dimension:
        raise Broken(f"the encoder sent a vector of {len(vector)} numbers instead of {dimension}", todo="report this")
    return vector
