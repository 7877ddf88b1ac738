from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from index.memory import MemoryStore
from loadtests.chunks import CHUNK_MS, Chunks, chunk_end
from loadtests.ledger import Sent
from loadtests.openings import Openings
from proto.errors import Poison
from proto.types import SpaceInfo, Vector, moment_id, now_ms
from proto.v1.events_pb2 import Frame
from workers.client import EncoderInfo, Seen

SPACE, LOG = SpaceInfo("0123456789abcdef", 2), "a" * 32


class Turning:
    """An encoder that answers east, north, east, north."""

    async def describe(self) -> EncoderInfo:
        raise AssertionError("nobody asks for this here")

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        raise AssertionError("it has no detector")

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        raise AssertionError("nobody asks for this here")

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        return [np.eye(2, dtype=np.float32)[number % 2] for number, _ in enumerate(images)]


def sent(at_ms: int, *, opens: bool = False) -> Sent:
    return Sent((0, at_ms), "gate", at_ms, 0, opens)


def test_a_sample_is_the_time_from_a_scenes_first_picture_to_the_first_reply_that_holds_it() -> None:
    openings = Openings(counts=True)
    for at_ms, opens in ((1000, True), (1500, False), (4000, True)):
        openings.sees(sent(at_ms, opens=opens))
    openings.found("gate", 1000, 1000, at_ms=1400)
    openings.found("gate", 1000, 1500, at_ms=2000)
    openings.found("yard", 4000, 4000, at_ms=4100)
    assert (openings.begun, openings.frames, openings.samples) == (2, 3, {(0, 1000): 0.4})
    assert [one.captured_ms for one in openings.waiting] == [4000]


def test_a_quantile_can_be_that_of_some_openings_alone() -> None:
    openings = Openings(samples={(0, 1): 1.0, (0, 2): 3.0})
    assert openings.p(1.0) == 3.0
    assert openings.p(1.0, {(0, 1)}) == 1.0


def test_nothing_counts_while_it_runs_in() -> None:
    openings = Openings()
    openings.sees(sent(1000, opens=True))
    assert openings.frames == openings.begun == 0


def test_chunks_are_ten_seconds_long_at_the_cameras_own_phase() -> None:
    ends = {chunk_end("gate", at_ms) for at_ms in range(100_000, 140_000, 500)}
    assert all(later - earlier == CHUNK_MS for earlier, later in zip(sorted(ends), sorted(ends)[1:], strict=False))
    assert all(0 < chunk_end("gate", at_ms) - at_ms <= CHUNK_MS for at_ms in range(100_000, 140_000, 500))
    assert chunk_end("gate", 100_000) != chunk_end("yard", 100_000)


async def test_a_chunk_that_ended_becomes_one_row_of_all_its_frames() -> None:
    store = MemoryStore(SPACE)
    chunks = Chunks(Turning(), store, LOG)
    first_ms = chunk_end("gate", now_ms()) - 3 * CHUNK_MS
    for offset, at_ms in enumerate((first_ms, first_ms + 1000, first_ms + 2000, first_ms + 3000)):
        chunks.take(Frame(camera="gate", captured_ms=at_ms, jpeg=b"jpeg"), (0, offset))
    chunks.take(Frame(camera="gate", captured_ms=now_ms() + CHUNK_MS, jpeg=b"jpeg"), (0, 9))
    work = asyncio.create_task(chunks.run())
    name = moment_id("gate", first_ms, LOG, 0, 0)
    async with asyncio.timeout(10):
        while not (found := await store.fetch([name])):  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    (row,) = found
    assert (row.start_ms, row.end_ms, row.frames, row.closed) == (first_ms, first_ms + 3000, 4, True)
    assert (row.partition, row.first_offset, row.last_offset) == (0, 0, 3)
    np.testing.assert_allclose(row.vector, [0.7071, 0.7071], atol=1e-3)
    assert await store.count() == 1
