"""The queue of admitted items. This is where the worker's memory is bounded.

Used in the event loop only, so nothing here is locked; the condition wakes engines when there is work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proto import metrics, tracing
from proto.errors import Overloaded, WatchwordError
from workers.queued import Kind, QueuedItem
from workers.settings import EncoderSettings

_MOST_TRIES = 2
"""How many engines may try an item. A second one may succeed; an item that breaks two would break all of them."""
_LATE_S = 1.0
"""Pictures to look for objects in wait behind pictures to embed no longer than this; then they take turns."""
_NOUNS: dict[Kind, str] = {"image": "images", "text": "texts", "object": "pictures to look for objects in"}


class Waiting:
    """Items in order of arrival, until an engine takes them."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._wait_s = settings.batch_wait_ms / 1000
        self._most_bytes = settings.queue_bytes
        self._capacity: dict[Kind, int] = {
            "image": settings.queue_images,
            "text": settings.queue_texts,
            "object": settings.queue_objects,
        }
        self._inside: dict[Kind, set[QueuedItem]] = {kind: set() for kind in self._capacity}
        # Dicts as ordered sets: a cancelled caller's items leave, and free their memory, at once.
        self._queues: dict[Kind, dict[QueuedItem, None]] = {kind: {} for kind in self._capacity}
        self._bytes: dict[Kind, int] = dict.fromkeys(self._capacity, 0)
        self._gathering = False
        self._changed = asyncio.Condition()

    def inside(self, kind: Kind) -> int:
        """Items admitted and not yet answered."""
        return len(self._inside[kind])

    def untaken(self, kind: Kind) -> int:
        """Items admitted and not yet taken by an engine."""
        return len(self._queues[kind])

    def refusal(self, kind: Kind, contents: Sequence[bytes] | Sequence[str]) -> Overloaded | None:
        """Why these cannot be admitted now, or None. A request always fits the byte limit when no picture is inside."""
        size, held = sum(map(_bytes_of, contents)), self._bytes[kind]
        if self.inside(kind) + len(contents) > self._capacity[kind]:
            full = f"the encoder has {self.inside(kind)} {_NOUNS[kind]} waiting and room for {self._capacity[kind]}"
        elif held and held + size > self._most_bytes:
            full = f"the encoder holds {held:,} bytes of pictures and takes {self._most_bytes:,}"
        else:
            return None
        return Overloaded(full, todo="wait a moment and try again, or start more workers")

    def admit(self, kind: Kind, contents: Sequence[bytes] | Sequence[str]) -> list[QueuedItem]:
        """Admit them; they leave when answered. The caller must call `notify`."""
        loop = asyncio.get_running_loop()
        items = [self._admit(QueuedItem(kind, content, loop.time(), loop.create_future())) for content in contents]
        if items:
            items[-1].trail = tracing.here()
        return items

    def _admit(self, item: QueuedItem) -> QueuedItem:
        size = _bytes_of(item.content)
        self._inside[item.kind].add(item)
        self._bytes[item.kind] += size
        metrics.ENCODER_QUEUED.labels(item.kind).inc()
        self._queues[item.kind][item] = None

        def leave(_: object) -> None:
            self._inside[item.kind].discard(item)
            self._bytes[item.kind] -= size
            metrics.ENCODER_QUEUED.labels(item.kind).dec()
            self._queues[item.kind].pop(item, None)

        item.answer.add_done_callback(leave)
        return item

    async def notify(self) -> None:
        """Wake all waiters to check their conditions."""
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[], object]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)

    async def images(self, most: int, may_take: Callable[[], bool]) -> list[QueuedItem]:
        """A batch of pictures, once it is full or its first picture waited long enough. One is gathered at a time."""
        images = self._queues["image"]
        async with self._changed:
            await self._changed.wait_for(lambda: images and not self._gathering and may_take())
            self._gathering = True
            try:
                await self._company(most)
            finally:
                self._gathering = False
                self._changed.notify_all()
            return self._take("image", most)

    async def texts(self, most: int, may_take: Callable[[], bool]) -> list[QueuedItem]:
        """The waiting texts, without waiting for more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._queues["text"] and may_take())
            return self._take("text", most)

    async def objects(self, most: int, may_take: Callable[[bool], bool]) -> list[QueuedItem]:
        """The waiting pictures to look for objects in. `may_take` is told whether they have waited long enough to go
        before pictures to embed."""
        looks = self._queues["object"]
        async with self._changed:
            await self._changed.wait_for(lambda: looks and may_take(self.is_late(next(iter(looks)))))
            return self._take("object", most)

    def is_late(self, item: QueuedItem) -> bool:
        """Whether a picture to look for objects in has waited long enough for its turn."""
        return asyncio.get_running_loop().time() - item.arrived > _LATE_S

    async def _company(self, most: int) -> None:
        images = self._queues["image"]
        left = next(iter(images)).arrived + self._wait_s - asyncio.get_running_loop().time()
        if left > 0 and len(images) < most:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait_for(lambda: len(images) >= most)
            except TimeoutError:
                pass

    def _take(self, kind: Kind, most: int) -> list[QueuedItem]:
        queue = self._queues[kind]
        batch = [item for item, _ in zip(queue, range(most), strict=False)]
        for item in batch:
            del queue[item]
        passed(batch, "queue")
        return batch

    def give_back(self, items: Sequence[QueuedItem], error: WatchwordError, *, others: bool) -> None:
        """Return items whose engine failed with `error`. With `others` they may be tried once more, before the rest."""
        again = [item for item in items if others and item.tries < _MOST_TRIES and not item.answered()]
        for item in items:
            if item not in again:
                item.fail(error)
        for kind, queue in self._queues.items():
            behind = list(queue)
            queue.clear()
            queue.update(dict.fromkeys([item for item in again if item.kind == kind] + behind))

    def fail_all(self, error: WatchwordError) -> None:
        for item in [item for inside in self._inside.values() for item in inside]:
            item.fail(error)


def passed(items: Sequence[QueuedItem], step: str) -> None:
    """Those of the items that are traced came through this step just now."""
    for item in items:
        if item.trail is not None:
            item.trail.step(step, items=len(items))


def _bytes_of(content: bytes | str) -> int:
    return len(content) if isinstance(content, bytes) else 0
