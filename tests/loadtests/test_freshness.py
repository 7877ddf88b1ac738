from __future__ import annotations

import asyncio

import numpy as np

from index.memory import MemoryStore
from loadtests.chunks import CHUNK_MS, Chunks, chunk_end
from loadtests.freshness import Watching
from proto.types import SpaceInfo, Vector, moment_id, now_ms
from proto.v1.events_pb2 import Frame
from workers.client import EncoderInfo

SPACE = SpaceInfo("0123456789abcdef", 2)


class Turning:
    """An encoder that answers east, north, east, north."""

    async def describe(self) -> EncoderInfo:
        raise AssertionError("nobody asks for this here")

    async def embed_texts(self, texts: object) -> list[Vector]:  # type: ignore[override]
        raise AssertionError("nobody asks for this here")

    async def embed_images(self, images: object) -> list[Vector]:  # type: ignore[override]
        return [np.eye(2, dtype=np.float32)[number % 2] for number, _ in enumerate(images)]  # type: ignore[arg-type]


def frame(at_ms: int, *, novelty: float = 0.0, camera: str = "gate") -> Frame:
    return Frame(camera=camera, captured_ms=at_ms, novelty=novelty, jpeg=b"jpeg")


def test_a_sample_is_the_time_from_a_scenes_first_picture_to_the_first_reply_that_holds_it() -> None:
    watching = Watching(counts=True)
    for at_ms, novelty in ((1000, 1.0), (1500, 0.1), (4000, 0.9)):
        watching.sees(frame(at_ms, novelty=novelty))
    watching.found("gate", 1000, 1000, at_ms=1400)
    watching.found("gate", 1000, 1500, at_ms=2000)
    watching.found("yard", 4000, 4000, at_ms=4100)
    assert (watching.begun, watching.frames, watching.samples) == (2, 3, [0.4])
    assert watching.waiting["gate"] == [4000]


def test_a_scene_inside_an_earlier_moment_is_found_and_told_apart() -> None:
    watching = Watching(counts=True)
    watching.sees(frame(1000, novelty=1.0))
    watching.found("gate", 0, 1500, at_ms=4000)
    assert (watching.samples, watching.begins) == ([3.0], [])


def test_the_first_picture_after_a_gap_begins_a_scene() -> None:
    watching = Watching(counts=True)
    watching.sees(Frame(camera="gate", captured_ms=7, after_gap=True))
    assert watching.begun == 1


def test_nothing_counts_while_it_runs_in() -> None:
    watching = Watching()
    watching.sees(frame(1000, novelty=1.0))
    assert watching.frames == watching.begun == 0


def test_chunks_are_ten_seconds_long_at_the_cameras_own_phase() -> None:
    ends = {chunk_end("gate", at_ms) for at_ms in range(100_000, 140_000, 500)}
    assert all(later - earlier == CHUNK_MS for earlier, later in zip(sorted(ends), sorted(ends)[1:], strict=False))
    assert all(0 < chunk_end("gate", at_ms) - at_ms <= CHUNK_MS for at_ms in range(100_000, 140_000, 500))
    assert chunk_end("gate", 100_000) != chunk_end("yard", 100_000)


async def test_a_chunk_that_ended_becomes_one_row_of_all_its_frames() -> None:
    store = MemoryStore(SPACE)
    chunks = Chunks(Turning(), store)  # type: ignore[arg-type]
    first_ms = chunk_end("gate", now_ms()) - 3 * CHUNK_MS
    for at_ms in (first_ms, first_ms + 1000, first_ms + 2000, first_ms + 3000):
        chunks.take(frame(at_ms))
    chunks.take(frame(now_ms() + CHUNK_MS))
    work = asyncio.create_task(chunks.run())
    async with asyncio.timeout(10):
        while not (found := await store.fetch([moment_id(SPACE.id, "gate", first_ms)])):  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    (row,) = found
    assert (row.start_ms, row.end_ms, row.frames, row.closed) == (first_ms, first_ms + 3000, 4, True)
    np.testing.assert_allclose(row.vector, [0.7071, 0.7071], atol=1e-3)
    assert await store.count() == 1
