"""The port of an engine, which runs a bundle's towers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.preprocess import Pictures
from models.tokens import Ids
from proto.types import Vectors


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do beyond what every engine does. Fixed once it is open."""

    takes_pixels: bool = False
    """It takes pictures as pixel values and normalises them itself; others take them normalised."""
    texts_apart: bool = False
    """It allows texts in a second thread while pictures run."""

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

    def close(self) -> None:
        """Release memory and devices."""
