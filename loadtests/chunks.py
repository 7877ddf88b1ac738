"""Chunked video search, for comparison: collect ten seconds of a camera, then embed and store them.

Implemented as well as possible: a chunk ends by the clock, not with the next frame; each camera has its own phase, so
that chunks do not all end together; chunks are embedded concurrently by the same encoder, and stored immediately.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from index.store import MomentStore
from loadtests.ledger import Place
from proto.errors import Poison
from proto.types import Moment, Vector, moment_id, now_ms
from proto.v1.events_pb2 import Frame
from workers.client import Encoder

CHUNK_MS = 10_000
_LOOK_S = 0.02
_AT_ONCE = 4


@dataclass(slots=True)
class Chunk:
    """Collected frames of one camera."""

    camera: str
    ends_ms: int
    frames: list[tuple[Frame, Place]] = field(default_factory=list)


def chunk_end(camera: str, at_ms: int) -> int:
    """The end of the chunk that contains this time. Chunks end every ten seconds, at the camera's own phase."""
    phase_ms = crc32(camera.encode()) % CHUNK_MS
    return (at_ms - phase_ms) // CHUNK_MS * CHUNK_MS + CHUNK_MS + phase_ms


class Chunks:
    """Takes frames, and stores one row per chunk."""

    def __init__(self, encoder: Encoder, store: MomentStore, log: str) -> None:
        """`log` is the id of the frames' topic."""
        self._encoder = encoder
        self._log = log
        self._store = store
        self._open: dict[tuple[str, int], Chunk] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def take(self, frame: Frame, place: Place) -> None:
        """Collect one frame."""
        ends_ms = chunk_end(frame.camera, frame.captured_ms)
        self._open.setdefault((frame.camera, ends_ms), Chunk(frame.camera, ends_ms)).frames.append((frame, place))

    async def run(self) -> None:
        """Embed and store chunks as soon as they end, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key, chunk in list(self._open.items()):
                    if chunk.ends_ms <= now_ms():
                        del self._open[key]
                        group.create_task(self._store_chunk(chunk))
                await asyncio.sleep(_LOOK_S)

    async def _store_chunk(self, chunk: Chunk) -> None:
        async with self._at_once:
            vectors = await self._encoder.embed_images([frame.jpeg for frame, _ in chunk.frames])
            await self._store.upsert([self._moment(chunk, [one for one in vectors if not isinstance(one, Poison)])])

    def _moment(self, chunk: Chunk, vectors: Sequence[Vector]) -> Moment:
        (first, (partition, first_offset)), (last, (_, last_offset)) = chunk.frames[0], chunk.frames[-1]
        total = np.sum(vectors, axis=0)
        return Moment(
            id=moment_id(chunk.camera, first.captured_ms, self._log, partition, first_offset),
            space=self._store.space.id,
            camera=chunk.camera,
            start_ms=first.captured_ms,
            peak_ms=first.captured_ms,
            end_ms=last.captured_ms,
            frames=len(chunk.frames),
            closed=True,
            log=self._log,
            partition=partition,
            first_offset=first_offset,
            last_offset=last_offset,
            vector=(total / np.linalg.norm(total)).astype(np.float32),
        )
