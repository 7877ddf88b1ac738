"""The encoder worker's gRPC service."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import numpy as np

from models.bundle import Bundle
from models.engines.buckets import buckets
from models.engines.canary import canary_pictures, canary_texts, tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.preprocess import Preprocessor
from proto.errors import Invalid, Late, Mismatch, Poison
from proto.serving import Door, GrpcServer, answers
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from workers.batcher import Batcher
from workers.queued import Detected, Embedded
from workers.settings import EncoderSettings

log = logging.getLogger("watchword.workers")

_MOST_ITEMS = 64
_MOST_CALLS = 1024
"""Concurrent calls: one-item callers for both default queues, and room for Describe."""

Context = grpc.aio.ServicerContext[Any, Any]
OpenBundle = Callable[[Bundle], Engine]
Item = TypeVar("Item", bytes, str)
Answer = TypeVar("Answer")


class EncoderServer:
    """A running encoder worker."""

    def __init__(self, server: GrpcServer, batcher: Batcher) -> None:
        self._server = server
        self._batcher = batcher

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on."""
        return self._server.address

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait at most `grace_s` for running ones, then cancel the rest."""
        self._batcher.close_door()
        await self._server.stop(grace_s)
        await self._batcher.stop()


async def serve_encoder(
    bundle: Bundle, settings: EncoderSettings, address: str, *, engine: OpenBundle | None = None
) -> EncoderServer:
    """Serve `bundle` at `address` (HOST:PORT; port 0 takes a free one).

    Returns when every engine passed its canary and is warm. Until then callers get UNAVAILABLE and health reports
    NOT_SERVING. `engine` overrides the engines of the settings.
    """
    server = GrpcServer("the encoder", "watchword.v1.Encoder", most_calls=_MOST_CALLS)
    openers = [engine] * len(settings.devices) if engine else [*_openers(settings)]
    batcher = Batcher(
        [partial(_ready, opener, bundle, settings.max_batch) for opener in openers],
        Preprocessor(bundle.preprocess, max_bytes=settings.max_item_bytes, max_pixels=settings.max_pixels),
        tokenizer_of(bundle),
        settings,
        detector=bundle.detector,
        on_ready=server.set_ready,
    )
    service = _EncoderService(bundle, settings, batcher, server.door)
    encoder_pb2_grpc.add_EncoderServicer_to_server(service, server.methods)
    await server.start(address, settings)
    try:
        await batcher.start()
    except BaseException:
        await server.stop(None)
        await batcher.stop()
        raise
    log.info(
        "encoder serves %s (space %s) on %s with %d x %s",
        bundle.name,
        bundle.space.id,
        server.address,
        batcher.engines,
        batcher.engine_name,
    )
    return EncoderServer(server, batcher)


def _openers(settings: EncoderSettings) -> Iterator[OpenBundle]:
    """One opener per device. Several engines divide the cores; a single one gets `threads` as set."""
    several = len(settings.devices)
    cores = settings.threads or len(os.sched_getaffinity(0))
    for place, device in enumerate(settings.devices):
        share = max(1, cores // several + (place < cores % several))
        yield partial(_open, settings, device, share if several > 1 else settings.threads)


def _open(settings: EncoderSettings, device: int, threads: int, bundle: Bundle) -> Engine:
    return open_engine(
        bundle,
        engine=settings.engine,
        provider=settings.provider,
        precision=settings.precision,
        threads=threads,
        max_batch=settings.max_batch,
        cache=Path(settings.engine_cache).expanduser() if settings.engine_cache else None,
        device=device,
        compiled=settings.compile,
    )


def _ready(opener: OpenBundle, bundle: Bundle, max_batch: int) -> Engine:
    """An engine that ran every batch size once, so that no caller waits for a first run."""
    engine = opener(bundle)
    picture = canary_pictures(bundle.preprocess, engine.abilities.numbers)[:1]
    for size in buckets(min(max_batch, engine.best_batch)):
        engine.embed_images(np.repeat(picture, size, axis=0))
    engine.embed_texts(*canary_texts(tokenizer_of(bundle), ["warm"]))
    return engine


class _EncoderService(encoder_pb2_grpc.EncoderServicer):
    def __init__(self, bundle: Bundle, settings: EncoderSettings, batcher: Batcher, door: Door) -> None:
        self.door = door
        self._bundle = bundle
        self._settings = settings
        self._batcher = batcher
        self._max_items = min(_MOST_ITEMS, settings.queue_images, settings.queue_texts, settings.queue_objects)

    @answers
    async def EmbedImages(  # noqa: N802
        self, request: encoder_pb2.EmbedImagesRequest, context: Context
    ) -> encoder_pb2.EmbedReply:
        self._check(request.space, len(request.images))
        return await self._reply(self._batcher.embed_images, request.images, context)

    @answers
    async def EmbedTexts(  # noqa: N802
        self, request: encoder_pb2.EmbedTextsRequest, context: Context
    ) -> encoder_pb2.EmbedReply:
        self._check(request.space, len(request.texts))
        return await self._reply(self._batcher.embed_texts, request.texts, context)

    @answers
    async def DetectObjects(  # noqa: N802
        self, request: encoder_pb2.DetectObjectsRequest, context: Context
    ) -> encoder_pb2.DetectObjectsReply:
        self._check(request.space, len(request.images))
        if self._bundle.detector is None:
            raise Mismatch(
                f"the bundle {self._bundle.name} has no detector",
                todo="use a bundle that has one, such as builtin; `watchword models show NAME` says so",
            )
        found = await self._within(self._batcher.detect_objects, request.images, context)
        return encoder_pb2.DetectObjectsReply(
            space=self._bundle.space.id, items=[_detection_on_the_wire(item) for item in found]
        )

    @answers
    async def Describe(  # noqa: N802
        self,
        request: encoder_pb2.DescribeRequest,  # noqa: ARG002 - gRPC hands over both
        context: Context,  # noqa: ARG002
    ) -> encoder_pb2.DescribeReply:
        detector = self._bundle.detector
        return encoder_pb2.DescribeReply(
            space=self._bundle.space.id,
            bundle=self._bundle.name,
            licence=self._bundle.licence,
            dimension=self._bundle.dimension,
            image_side=self._bundle.image_side,
            engine=self._batcher.engine_name,
            buckets=sorted({size for most in self._batcher.most_images for size in buckets(most)}),
            max_items=self._max_items,
            max_item_bytes=self._settings.max_item_bytes,
            queued_images=self._batcher.queued("image"),
            queue_capacity=self._settings.queue_images,
            engines=self._batcher.engines,
            kinds=detector.config.kinds if detector else (),
            detect_cost=detector.config.cost if detector else 0.0,
            calibration=self._bundle.calibration,
        )

    def _check(self, space: str, count: int) -> None:
        if space and space != self._bundle.space.id:
            raise Mismatch(
                f"the caller expects space {space[:32]!r}, this worker gives {self._bundle.space.id}",
                todo="ask a worker of that space, or build the index again with this one",
            )
        if count > self._max_items:
            raise Invalid(f"{count} items in one request", todo=f"send {self._max_items} at most")

    async def _reply(
        self,
        embed: Callable[[Sequence[Item]], Awaitable[list[Embedded | Poison]]],
        items: Sequence[Item],
        context: Context,
    ) -> encoder_pb2.EmbedReply:
        found = await self._within(embed, items, context)
        return encoder_pb2.EmbedReply(space=self._bundle.space.id, items=[_on_the_wire(item) for item in found])

    async def _within(
        self, work: Callable[[Sequence[Item]], Awaitable[list[Answer]]], items: Sequence[Item], context: Context
    ) -> list[Answer]:
        """The answers, or Late when the caller's deadline passes first."""
        remaining = context.time_remaining()
        limit = self._settings.timeout_s if remaining is None else remaining
        try:
            async with asyncio.timeout(limit):
                return await work(items)
        except TimeoutError as error:
            raise Late("the encoder did not finish before the deadline", todo="send less at once") from error


def _on_the_wire(item: Embedded | Poison) -> encoder_pb2.Embedding:
    if isinstance(item, Poison):
        return encoder_pb2.Embedding(error=_error_on_the_wire(item))
    return encoder_pb2.Embedding(vector=item.vector.astype("<f4").tobytes(), truncated=item.truncated)


def _detection_on_the_wire(item: Detected | Poison) -> encoder_pb2.Detection:
    if isinstance(item, Poison):
        return encoder_pb2.Detection(error=_error_on_the_wire(item))
    return encoder_pb2.Detection(
        objects=[
            encoder_pb2.Object(
                kind=found.kind,
                score=found.score,
                left=found.box.left,
                top=found.box.top,
                right=found.box.right,
                bottom=found.box.bottom,
                vector=vector.astype("<f4").tobytes(),
            )
            for found, vector in item.objects
        ]
    )


def _error_on_the_wire(item: Poison) -> encoder_pb2.ItemError:
    return encoder_pb2.ItemError(reason=item.reason, detail=item.message, todo=item.todo)
