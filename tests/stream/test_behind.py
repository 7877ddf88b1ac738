"""How far a worker says that it is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client import REGISTRY

from index.memory import MemoryStore
from proto.errors import Poison, Transient, WatchwordError
from proto.types import Moment, Vector
from tests.stream.rig import SPACE, START_MS, Bench, SceneEncoder, frame, until, working


def behind() -> float:
    return REGISTRY.get_sample_value("watchword_stream_behind_seconds") or 0.0


class Away(SceneEncoder):
    """An encoder that answers nothing until it is back."""

    def __init__(self) -> None:
        super().__init__()
        self.back = asyncio.Event()

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        await self.back.wait()
        return await super().embed_images(images)


class AwayStore(MemoryStore):
    """An index that takes nothing until it is back."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.back = False

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        if not self.back:
            raise Transient("away")
        return await super().upsert(moments)


async def test_while_the_encoder_is_away_a_worker_falls_behind_and_is_not_when_it_caught_up(tmp_path: Path) -> None:
    at, encoder = Bench(tmp_path), Away()
    async with working(at.worker(encoder)):
        await at.publish([frame("gate", START_MS, 1, 0, after_gap=True)])
        await until(lambda: behind() > 0.5, "it is behind")
        encoder.back.set()
        await until(lambda: behind() == 0.0, "it caught up")


async def test_while_the_index_is_away_a_worker_falls_behind_and_is_not_when_it_caught_up(tmp_path: Path) -> None:
    at = Bench(tmp_path)
    away = at.store = AwayStore()
    async with working(at.worker(SceneEncoder())):
        await at.publish([frame("gate", START_MS, 1, 0, after_gap=True)])
        await until(lambda: behind() > 0.5, "it is behind")
        away.back = True
        await until(lambda: behind() == 0.0, "it caught up")


async def test_a_worker_without_frames_is_not_behind(tmp_path: Path) -> None:
    at = Bench(tmp_path)
    async with working(at.worker(SceneEncoder())) as task:
        await at.publish([frame("gate", START_MS, 1, 0, after_gap=True)])
        await until(lambda: len(at.spans()) == 1 and behind() == 0.0, "it caught up")
        assert not task.done()
