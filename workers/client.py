"""The encoder's port, and its gRPC client."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from proto.calling import Client, answer_of
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.retry import Backoff
from proto.rpc import MAX_MESSAGE_BYTES
from proto.tls import ClientTls
from proto.types import KIND, Box, SpaceInfo, Vector
from proto.v1 import encoder_pb2
from workers.pool import Budget, Pool, Resolve, Worker, choose, resolve

_PAUSES = Backoff(0.05, 1.0)
log = logging.getLogger("watchword.workers")

_DESCRIBE_WITHIN_S = 2.0
_PARTS_A_WORKER = 2
"""Requests of one call in flight per worker: while one is embedded, the next is on the wire."""
_MESSAGE_BYTES = MAX_MESSAGE_BYTES // 2
"""Most bytes of pictures per request, well below gRPC's limit."""

Item = TypeVar("Item", bytes, str)
Reply = TypeVar("Reply")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What a worker runs."""

    space: SpaceInfo
    bundle: str
    licence: str
    image_side: int
    """Pixels of the model's input, on the short side."""
    engine: str
    max_items: int
    max_item_bytes: int
    kinds: tuple[str, ...] = ()
    """The kinds of objects that its detector knows; empty when it has none."""
    detect_cost: float = 0.0
    """What one detection costs, in pictures embedded."""
    calibration: str = ""
    """How scores become confidence, as JSON; empty when the bundle was not calibrated."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """An object in a picture."""

    kind: str
    score: float
    """How sure the detector is, 0 to 1."""
    box: Box
    vector: Vector


class Encoder(Protocol):
    """Turns pictures and texts into vectors of one space."""

    async def describe(self) -> EncoderInfo:
        """What the workers run."""

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        """One vector per picture, in order, or the reason why this picture can never have one."""

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        """One vector per text, in order, or the reason why this text can never have one."""

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        """The objects in each picture, the surest first, or the reason why this picture can never be looked at.

        Only where `EncoderInfo.kinds` is not empty; Invalid elsewhere.
        """


class EncoderClient(Client):
    """An Encoder behind gRPC: one worker, or several that share the load.

    Each call ends within `timeout_s`, with its answer or with Transient, Overloaded, Late, Mismatch or Invalid. A call
    goes to the worker with the fewest items in flight from this client. If that worker is full or down, another is
    tried, or the same again after a pause, while time and the retry budget last. After `describe`, or with `space`,
    every call names the space it expects. Workers of another space are avoided; if there are no others, Mismatch.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        space: str = "",
        resolve: Resolve = resolve,
        resolve_every_s: float = 5.0,
        tls: ClientTls | None = None,
    ) -> None:
        """`address` is HOST:PORT, or several separated by commas. A name may resolve to several machines.

        Names are resolved again while in use, so workers may come and go.
        """
        self._timeout_s = timeout_s
        self._space = space
        self._info: EncoderInfo | None = None
        self._budget = Budget()
        self._pool = Pool(address, resolve, grace_s=timeout_s, every_s=resolve_every_s, tls=tls)

    async def close(self) -> None:
        await self._pool.close()

    async def describe(self) -> EncoderInfo:
        """What holds for every worker of our space. Mismatch when no space was chosen yet and workers disagree."""
        return await self._describe(self._deadline())

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        def ask(worker: Worker, part: list[bytes], within_s: float) -> Awaitable[encoder_pb2.EmbedReply]:
            request = encoder_pb2.EmbedImagesRequest(images=part, space=self._space)
            return worker.stub.EmbedImages(request, timeout=within_s)  # type: ignore[no-any-return]

        return await self._embed(images, ask)

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        def ask(worker: Worker, part: list[str], within_s: float) -> Awaitable[encoder_pb2.EmbedReply]:
            request = encoder_pb2.EmbedTextsRequest(texts=part, space=self._space)
            return worker.stub.EmbedTexts(request, timeout=within_s)  # type: ignore[no-any-return]

        return await self._embed(texts, ask)

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        def ask(worker: Worker, part: list[bytes], within_s: float) -> Awaitable[encoder_pb2.DetectObjectsReply]:
            request = encoder_pb2.DetectObjectsRequest(images=part, space=self._space)
            return worker.stub.DetectObjects(request, timeout=within_s)  # type: ignore[no-any-return]

        info = self._info or await self._describe(self._deadline())
        if not info.kinds:
            raise Invalid(f"the bundle {info.bundle} has no detector", todo="use a bundle with one, such as builtin")
        return await self._spread(images, ask, _objects)

    async def _embed(
        self, items: Sequence[Item], ask: Callable[[Worker, list[Item], float], Awaitable[encoder_pb2.EmbedReply]]
    ) -> list[Vector | Poison]:
        return await self._spread(items, ask, _vectors)

    async def _spread(
        self,
        items: Sequence[Item],
        ask: Callable[[Worker, list[Item], float], Awaitable[Reply]],
        read: Callable[[Reply, int, SpaceInfo], list[Answer]],
    ) -> list[Answer]:
        """Ask the workers, part by part, and read their replies."""
        deadline = self._deadline()
        info = self._info or await self._describe(deadline)
        gate = asyncio.Semaphore(_PARTS_A_WORKER * len(await self._pool.workers()))

        async def embed(part: list[Item]) -> list[Answer]:
            async def at(worker: Worker) -> list[Answer]:
                if worker.space is None:
                    worker.space = (await _described(worker, _left(deadline))).space
                if worker.space != info.space.id:
                    raise _mismatch(info.space.id, worker.space)
                reply = await _answer(worker, ask(worker, part, _left(deadline)))
                return read(reply, len(part), info.space)

            async with gate:
                return await self._repeat(partial(self._somewhere, at, len(part)), deadline)

        tasks = [asyncio.create_task(embed(part)) for part in _parts(items, info.max_items)]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [answer for part in found for answer in part]

    async def _somewhere(self, at: Callable[[Worker], Awaitable[Reply]], items: int) -> Reply:
        """One worker's answer. Each worker is tried at most once, and a resting one only if there is no other."""
        loop = asyncio.get_running_loop()
        left = await self._pool.workers()
        met: WatchwordError | None = None
        while (worker := choose(left, loop.time())) and (met is None or not worker.rests(loop.time())):
            left.remove(worker)
            if isinstance(met, Transient | Overloaded) and not self._budget.take(loop.time()):
                break
            worker.chosen(loop.time(), items)
            try:
                reply = await at(worker)
            except (Transient, Overloaded) as error:
                worker.failed(error, loop.time())
                met = error
            except Mismatch as error:
                log.error("the encoder at %s is left alone: %s", worker.address, error)  # noqa: TRY400 - no trace
                worker.failed(error, loop.time())
                met = met or error
            except Late as error:
                worker.failed(error, loop.time())
                raise
            else:
                worker.answered()
                return reply
            finally:
                worker.items -= items
        assert met is not None
        if isinstance(met, Mismatch) and not all(worker.strange for worker in left):
            raise Transient("every encoder of our space rests after a failure", todo="try again") from met
        raise met

    async def _repeat(self, attempt: Callable[[], Awaitable[Reply]], deadline: float) -> Reply:
        """Retry until there is an answer, an error that is not transient, or no time or budget left."""
        loop = asyncio.get_running_loop()
        self._budget.earn()
        met: WatchwordError | None = None
        rounds = 0
        while True:
            try:
                return await attempt()
            except Late:
                if met:
                    raise met from None  # the earlier error says more than that time ran out
                raise
            except (Transient, Overloaded) as error:
                met = error
                pause = _PAUSES.pause_s(rounds + 1, random.random())  # noqa: S311 - jitter, not a secret
                if loop.time() + pause >= deadline or not self._budget.take(loop.time()):
                    raise
            await asyncio.sleep(pause)
            rounds += 1

    async def _describe(self, deadline: float) -> EncoderInfo:
        self._info = await self._repeat(partial(self._ask_all, deadline), deadline)
        self._space = self._info.space.id
        return self._info

    async def _ask_all(self, deadline: float) -> EncoderInfo:
        """Describe every worker, so that one with another space is found at the start and not by a later query."""
        workers = await self._pool.workers()
        within_s = _left(deadline) if len(workers) == 1 else min(_left(deadline), _DESCRIBE_WITHIN_S)
        asked = await asyncio.gather(*(_described(worker, within_s) for worker in workers), return_exceptions=True)
        replies = [reply for reply in asked if isinstance(reply, encoder_pb2.DescribeReply)]
        if not replies:
            raise next(error for error in asked if isinstance(error, BaseException))
        if not self._space and len({reply.space for reply in replies}) > 1:
            raise Mismatch("the workers give vectors of different spaces", todo="start all of them with one bundle")
        ours = [reply for reply in replies if reply.space == (self._space or reply.space)]
        if not ours:
            raise _mismatch(self._space, replies[0].space)
        for worker, reply in zip(workers, asked, strict=True):
            worker.space = reply.space if isinstance(reply, encoder_pb2.DescribeReply) else None
        return EncoderInfo(
            space=SpaceInfo(ours[0].space, ours[0].dimension),
            bundle=ours[0].bundle,
            licence=ours[0].licence,
            image_side=ours[0].image_side,
            engine=ours[0].engine,
            max_items=min(reply.max_items for reply in ours),
            max_item_bytes=min(reply.max_item_bytes for reply in ours),
            kinds=tuple(ours[0].kinds),
            detect_cost=ours[0].detect_cost,
            calibration=ours[0].calibration,
        )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


async def _described(worker: Worker, within_s: float) -> encoder_pb2.DescribeReply:
    return await _answer(worker, worker.stub.Describe(encoder_pb2.DescribeRequest(), timeout=within_s))


async def _answer(worker: Worker, call: Awaitable[Reply]) -> Reply:
    return await answer_of(call, f"the encoder at {worker.address}")


def _left(deadline: float) -> float:
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise Late("the encoder did not answer in time", todo="try again, or raise encoder.timeout_s")
    return left


def _mismatch(expected: str, found: str) -> Mismatch:
    return Mismatch(
        f"the encoder gives vectors of space {found}, not {expected}",
        todo="start the encoder with the bundle that the index was made with, or index again",
    )


def _parts(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """The items in order, in parts that each fit one request."""
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


def _check(reply_space: str, answers: int, count: int, space: SpaceInfo) -> None:
    if reply_space != space.id:
        raise _mismatch(space.id, reply_space)
    if answers != count:
        raise Broken(f"the encoder answered {answers} of {count} items", todo="report this")


def _objects(reply: encoder_pb2.DetectObjectsReply, count: int, space: SpaceInfo) -> list[list[Seen] | Poison]:
    _check(reply.space, len(reply.items), count, space)
    return [
        _poison(item.error) if item.HasField("error") else [_seen(one, space.dimension) for one in item.objects]
        for item in reply.items
    ]


def _seen(one: encoder_pb2.Object, dimension: int) -> Seen:
    box = Box(one.left, one.top, one.right, one.bottom)
    if not box.is_sound():
        raise Broken(f"the encoder sent an object outside its picture ({box})", todo="report this")
    if not (KIND.fullmatch(one.kind) and 0 <= one.score <= 1):
        raise Broken(f"the encoder sent a {one.kind[:40]!r} of score {one.score}", todo="report this")
    return Seen(one.kind, one.score, box, _vector(one.vector, dimension))


def _vectors(reply: encoder_pb2.EmbedReply, count: int, space: SpaceInfo) -> list[Vector | Poison]:
    _check(reply.space, len(reply.items), count, space)
    return [_from_the_wire(item, space.dimension) for item in reply.items]


def _from_the_wire(item: encoder_pb2.Embedding, dimension: int) -> Vector | Poison:
    if item.WhichOneof("result") == "error":
        return _poison(item.error)
    return _vector(item.vector, dimension)


def _poison(error: encoder_pb2.ItemError) -> Poison:
    return Poison(error.reason, error.detail, todo=error.todo)


def _vector(content: bytes, dimension: int) -> Vector:
    vector = np.frombuffer(content, "<f4").astype(np.float32)
    if len(vector) != dimension:
        raise Broken(f"the encoder sent a vector of {len(vector)} numbers instead of {dimension}", todo="report this")
    return vector
