"""Looks for objects with one lane's engine, behind the pictures to embed.

    waiting -> decoded -> detector, one picture a core -> crops, scaled -> embedded, a few at once -> vectors

Every step on the engine takes about as long as one detection, so that pictures to embed never wait longer than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from models.detector import Detector, Found
from models.engines.engine import Engine
from models.preprocess import Pictures
from proto import metrics
from proto.errors import Transient
from proto.types import MOST_OBJECT_CROPS, WHOLE, Vector
from workers.queued import Detected, Kind, QueuedItem, Sight
from workers.reading import Reader
from workers.waiting import Waiting, passed

_CROPS_AT_ONCE = 2
"""Crops in one engine call, for each picture that the engine detects at once."""


class RunOnEngine(Protocol):
    """Runs `work`, with so many items, in the engine's thread. Raises when it fails or hangs."""

    def __call__(self, kind: Kind, count: int, work: Callable[[], Any]) -> Awaitable[Any]: ...


class Looking:
    """Takes pictures to look for objects in while the engine has nothing else to do."""

    def __init__(
        self,
        engine: Engine,
        detector: Detector,
        waiting: Waiting,
        reader: Reader,
        run: RunOnEngine,
        is_free: Callable[[], bool],
    ) -> None:
        """`is_free` says whether the engine has no pictures to embed."""
        self.items: list[QueuedItem] = []
        """Taken and perhaps not yet answered."""
        self._engine = engine
        self._detector = detector
        self._waiting = waiting
        self._reader = reader
        self._run = run
        self._is_free = is_free

    async def serve(self) -> None:
        """Serve until the engine fails."""
        at_once = self._engine.abilities.detects
        while True:
            self.items = await self._waiting.objects(at_once, lambda late: late or self._is_free())
            await self._reader.objects(self.items)
            passed(self.items, "decode")
            await self._look([item for item in self.items if not item.answered()])
            self.items = []
            await self._waiting.notify()

    async def _look(self, items: list[QueuedItem]) -> None:
        if not items:
            return
        for item in items:
            item.tries += 1
        sights = [item.prepared for item in items if isinstance(item.prepared, Sight)]
        found = await self._run("object", len(items), lambda: self._engine.detect([sight.scaled for sight in sights]))
        passed(items, "detect")
        if len(found) != len(items):
            raise Transient("it did not answer for each picture")
        for item, sight, objects in zip(items, sights, found, strict=True):
            vectors = await self._vectors(item, sight, objects)
            metrics.ENCODER_OBJECTS.inc(len(objects))
            passed([item], "objects")
            item.succeed(Detected(list(zip(objects, vectors, strict=True))))

    async def _vectors(self, item: QueuedItem, sight: Sight, objects: list[Found]) -> list[Vector]:
        """The vectors of the objects. Those beyond MOST_OBJECT_CROPS take the whole picture for their crop."""
        if item.answered() or not objects:
            return [np.zeros(0, np.float32)] * len(objects)
        boxes = [one.box for one in objects[:MOST_OBJECT_CROPS]] + [WHOLE] * (len(objects) > MOST_OBJECT_CROPS)
        crops: Pictures = np.empty((len(boxes), *self._reader.shape), self._engine.abilities.numbers)
        await self._reader.crops(sight.pixels, boxes, crops)
        seen: list[Vector] = []
        for piece in np.split(crops, range(self._crops_at_once, len(crops), self._crops_at_once)):
            await self._waiting.until(lambda: self._is_free() or self._waiting.is_late(item))
            vectors = await self._run("image", len(piece), partial(self._engine.embed_images, piece))
            if len(vectors) != len(piece) or not np.isfinite(vectors).all():
                raise Transient("it gave vectors that are not numbers, or not one a crop")
            seen += list(vectors)
        crop_vectors = [seen[min(place, MOST_OBJECT_CROPS)] for place in range(len(objects))]
        return [self._detector.vector(one.kind, one.score, of) for one, of in zip(objects, crop_vectors, strict=True)]

    @property
    def _crops_at_once(self) -> int:
        return _CROPS_AT_ONCE * self._engine.abilities.detects
