"""A small deterministic engine, and what a batcher needs beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.detector import Detector, DetectorConfig, DetectorPicture, Found
from models.engines.engine import Abilities, Engine
from models.preprocess import Picture, Pictures, Pixels
from models.tokens import Ids, Tokens
from proto.errors import Poison
from proto.types import Box, Vectors


class FakeEngine(Engine):
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


class SightedEngine(FakeEngine):
    """A FakeEngine with a detector: in picture 7 it finds 7 objects, in rows of ten. Detecting can be held alone."""

    def __init__(self, best_batch: int = 4, detects: int = 1) -> None:
        super().__init__(best_batch)
        self.abilities = Abilities(detects=detects)
        self.blind = False
        """Finds nothing in the last picture, and does not say so."""
        self._detect_go = threading.Event()
        self._detect_go.set()

    def hold_detecting(self) -> None:
        self._detect_go.clear()

    def release_detecting(self) -> None:
        self._detect_go.set()

    def release(self) -> None:
        super().release()
        self.release_detecting()

    def detect(self, pictures: Sequence[DetectorPicture]) -> list[list[Found]]:
        shown = np.array([picture.values[0, 0, 0] for picture in pictures])
        self._answer("object", shown)
        assert self._detect_go.wait(20)
        found = [[self._object(place) for place in range(int(number))] for number in shown]
        return found[:-1] if self.blind else found

    @staticmethod
    def _object(place: int) -> Found:
        row, column = divmod(place, 10)
        return Found("person", 0.9 - place / 100, Box(column / 10, row / 10, (column + 1) / 10, (row + 1) / 10))


WORDS = Detector(
    Path(),
    DetectorConfig(
        kinds=("person",),
        side=40,
        multiple=8,
        channels="RGB",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        strides=(8,),
        bins=2,
        threshold=0.5,
        overlap=0.5,
        margin=0.0,
        word_share=0.0,
        cost=2.0,
    ),
    np.array([[1.0, 0.0]], np.float32),
)
"""A detector whose objects have their crop's vector."""


class ReadImage:
    """b"7" is picture 7, and so is b"0000007"; other bytes are damaged."""

    shape = (3, 1, 1)

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture:
        if not data.isdigit():
            raise Poison("not_an_image", "no number", todo="send a number")
        out = np.empty(self.shape, np.float32) if out is None else out
        out[:] = int(data[-6:])
        return out

    def pixels(self, data: bytes, side: int) -> Pixels:
        """The picture's number at the top left; below, ten columns with the numbers 100, 101 and so on."""
        shown: Pixels = np.empty((40, 40, 3), np.uint8)
        shown[:] = (100 + np.arange(40) // 4)[:, None]
        shown[0, 0] = int(self(data)[0, 0, 0])
        return shown

    def fitted(self, pixels: Pixels, out: Picture) -> Picture:
        """A crop is known by its middle."""
        out[:] = pixels[len(pixels) // 2, pixels.shape[1] // 2, 0]
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
