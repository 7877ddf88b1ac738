"""One worker on a log in memory, of which each step is taken by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from index.memory import MemoryStore
from proto.v1.events_pb2 import Frame
from stream.frames import PASSED, Recalled
from stream.memory import MemoryLog
from stream.pipeline import Pipeline
from stream.settings import StreamSettings
from tests.stream.rig import SPACE, START_MS, Box, Life, Notes, SceneEncoder, filled, frame

FRESH = StreamSettings(catch_up="fresh", batch_wait_ms=0)
LATE_S, PER_S = 2.0, 8.0
"""So late, and so slow, that four frames stay."""


def made(number: int, scene: int = 0, *, camera: str = "gate", **more: object) -> Frame:
    return frame(camera, START_MS + 500 * number, scene, number, **{"run": 7, "usual": 0.05, **more})


def bounds(store: MemoryStore) -> list[tuple[float, float, int, bool]]:
    """Start and end in seconds, frames, closed."""
    moments = sorted(store._moments.values(), key=lambda one: (one.camera, one.first_offset))
    return [((m.start_ms - START_MS) / 1000, (m.end_ms - START_MS) / 1000, m.frames, m.closed) for m in moments]


class Bench:
    """One worker, of which each step is taken by hand."""

    def __init__(
        self,
        folder: Path,
        frames: Sequence[Frame] | MemoryLog,
        *,
        settings: StreamSettings = FRESH,
        store: MemoryStore | None = None,
        coverage: Notes | None = None,
    ) -> None:
        self.log = frames if isinstance(frames, MemoryLog) else filled(frames)
        self.store, self.box, self.encoder = store or MemoryStore(SPACE), Box(), SceneEncoder()
        self.life = Life(
            self.log,
            self.store,
            folder,
            encoder=self.encoder,
            settings=settings,
            letters=self.box,
            coverage=coverage,
        )
        self.coverage = self.life.coverage

    @property
    def pipeline(self) -> Pipeline:
        return self.life.assignment.pipeline

    async def waiting(self, most: int = 1000) -> list[Recalled]:
        """The frames that the log holds, and what is known of them."""
        await self.life.begin()
        records = self.log.read(0, self.life.at[0], most)
        self.life.at[0] += len(records)
        arrived = await self.life.assignment._arrived(records)
        recalled, unknown = await self.pipeline.recall(arrived)
        assert unknown == []
        return recalled

    async def shed(self, waiting: Sequence[Recalled]) -> list[Recalled]:
        return await self.pipeline.in_turn(waiting, LATE_S, PER_S)

    async def build(self, items: Sequence[Recalled]) -> None:
        """Embed and build them, and wait until all is stored."""
        await self.pipeline.build(await self.pipeline.embed(items))
        await self.pipeline.flushed()

    @property
    def committable(self) -> int | None:
        return self.life.assignment.committable().get(0)


def passed(items: Sequence[Recalled]) -> list[int]:
    return [item.arrived.record.offset for item in items if item.known is PASSED]
