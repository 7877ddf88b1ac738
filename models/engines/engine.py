"""The port of an engine, which runs a bundle's towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from models.detector import DetectorPicture, Found
from models.preprocess import Pictures
from models.tokens import Ids
from proto.errors import Broken
from proto.types import Vectors


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do beyond what every engine does. Fixed once it is open."""

    takes_pixels: bool = False
    """It takes pictures as pixel values and normalises them itself; others take them normalised."""
    texts_apart: bool = False
    """It allows texts in a second thread while pictures run."""
    detects: int = 0
    """How many pictures it looks for objects at once, in the time of one; 0: it has no detector."""

    @property
    def numbers(self) -> type[np.float32 | np.uint8]:
        """The number type of its pictures."""
        return np.uint8 if self.takes_pixels else np.float32


class Engine(Protocol):
    """Both towers of one bundle. Not thread-safe: one thread owns it from opening to closing."""

    name: str
    """The runtime, such as `onnxruntime/CPUExecutionProvider`."""
    best_batch: int
    """Pictures per call beyond which throughput no longer grows."""
    abilities: Abilities

    def embed_images(self, pictures: Pictures) -> Vectors:
        """One unit vector per picture, which are of the type `abilities.numbers`. Transient when the engine failed and
        must be reopened."""

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        """One unit vector per text."""

    def detect(self, pictures: Sequence[DetectorPicture]) -> list[list[Found]]:
        """The objects in each picture, the surest first. Broken unless `abilities.detects`; Transient as above."""
        raise Broken(f"{self.name} has no detector for {len(pictures)} pictures", todo="use a bundle with a detector")

    def close(self) -> None:
        """Release memory and devices."""


class Finder(Protocol):
    """The detector of a bundle, opened. One thread owns it."""

    at_once: int
    """As `Abilities.detects`."""

    def detect(self, pictures: Sequence[DetectorPicture], *, threshold: float | None = None) -> list[list[Found]]:
        """The objects in each picture. `threshold` replaces that of the bundle."""

    def close(self) -> None:
        """Release memory."""


class Detecting(Engine):
    """An engine with a detector beside it, in the same thread."""

    def __init__(self, engine: Engine, finder: Finder) -> None:
        self._engine = engine
        self._finder = finder
        self.name = engine.name
        self.best_batch = engine.best_batch
        self.abilities = replace(engine.abilities, detects=finder.at_once)

    def embed_images(self, pictures: Pictures) -> Vectors:
        return self._engine.embed_images(pictures)

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        return self._engine.embed_texts(ids, mask)

    def detect(self, pictures: Sequence[DetectorPicture]) -> list[list[Found]]:
        return self._finder.detect(pictures)

    def close(self) -> None:
        self._finder.close()
        self._engine.close()
