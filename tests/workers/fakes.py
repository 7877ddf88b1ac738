"""A small deterministic engine, and what a batcher needs beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.engines.engine import Abilities
from models.preprocess import Picture, Pictures
from models.tokens import Ids, Tokens
from proto.errors import Poison
from proto.types import Vectors


class FakeEngine:
    """Gives [1, number] for the picture or text of that number. It can be held, and it can be made to fail."""

    name = "fake"
    abilities = Abilities()

    def __init__(self, best_batch: int = 4) -> None:
        self.best_batch = best_batch
        self.calls: list[tuple[str, list[int]]] = []
        self.threads: set[int] = set()
        self.fails = False
        self.dreams = False
        """Answers, but with what are no numbers."""
        self.closed = False
        self._go = threading.Event()
        self._go.set()

    def hold(self) -> None:
        """Let the next calls wait inside the engine."""
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def embed_images(self, pictures: Pictures) -> Vectors:
        return self._answer("image", pictures[:, 0, 0, 0])

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        return self._answer("text", ids[:, 0])

    def close(self) -> None:
        self.closed = True

    def _answer(self, kind: str, numbers: np.ndarray) -> Vectors:
        assert not self.closed
        self.threads.add(threading.get_ident())
        self.calls.append((kind, [int(number) for number in numbers]))
        assert self._go.wait(20)
        if self.fails:
            raise RuntimeError("the device fell off the bus")
        first = np.full(len(numbers), np.nan) if self.dreams else np.ones(len(numbers))
        return np.stack([first, numbers], axis=1).astype(np.float32)


class ApartEngine(FakeEngine):
    """A FakeEngine that takes texts in another thread while pictures run."""

    abilities = Abilities(texts_apart=True)

    def __init__(self) -> None:
        super().__init__()
        self._images_go = threading.Event()
        self._images_go.set()

    def hold_images(self) -> None:
        self._images_go.clear()

    def release_images(self) -> None:
        self._images_go.set()

    def embed_images(self, pictures: Pictures) -> Vectors:
        found = super().embed_images(pictures)
        assert self._images_go.wait(20)
        return found


class ReadImage:
    """b"7" is picture 7, and so is b"0000007"; other bytes are damaged."""

    shape = (3, 1, 1)

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture:
        if not data.isdigit():
            raise Poison("not_an_image", "no number", todo="send a number")
        out = np.empty(self.shape, np.float32) if out is None else out
        out[:] = int(data[-6:])
        return out


read_image = ReadImage()


class FakeTokenizer:
    """ "7" is the one token 7; "7…" is that token, cut."""

    def __call__(self, text: str) -> Tokens:
        if not text:
            raise Poison("text_empty", "no text", todo="write")
        return Tokens((int(text.rstrip("…")),), truncated=text.endswith("…"))

    def padded(self, texts: Sequence[Tokens]) -> tuple[Ids, Ids]:
        ids = np.array([text.ids for text in texts], np.int64)
        return ids, np.ones_like(ids)


async def until(holds: Callable[[], object], what: str = "it", within_s: float = 10) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.002)
