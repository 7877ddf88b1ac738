"""Pictures to vectors, by an encoder that may be away, full, or unable to bear one of the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

import numpy as np

from index.store import MomentStore
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.types import Vector
from stream.patience import Patience
from workers.client import Encoder

_HELD = (Transient, Overloaded, Late, Broken)
"""What may pass by itself. A worker that breaks in the middle of a batch may answer the next one."""


class Embedding:
    """Asks until every picture has its vector, or the reason why it never can have one.

    A picture that is refused `tries` times, while the encoder takes another one that it took before, is poison. As
    long as the encoder takes nothing at all, it is the encoder that is ill, and the frames wait.
    """

    def __init__(self, encoder: Encoder, store: MomentStore, patience: Patience, tries: int) -> None:
        self._encoder = encoder
        self._store = store
        self._patience = patience
        self._tries = tries
        self._largest: int | None = None
        self._taken: bytes | None = None
        """A picture that the encoder took."""

    async def vectors(self, pictures: Sequence[bytes]) -> list[Vector | Poison]:
        """One answer per picture, in order. Raises Mismatch when the encoder's space is another."""
        if self._largest is None:
            self._largest = (await self._patience.call("encoder", self._encoder.describe)).max_item_bytes
        found: list[Vector | Poison | None] = [_too_large(picture, self._largest) for picture in pictures]
        asked = [number for number, refusal in enumerate(found) if refusal is None]
        answers = await self._ask([pictures[number] for number in asked]) if asked else []
        for number, answer in zip(asked, answers, strict=True):
            found[number] = self._sound(answer)
            if not isinstance(answer, Poison):
                self._taken = pictures[number]
        return [answer for answer in found if answer is not None]

    async def _ask(self, pictures: Sequence[bytes]) -> list[Vector | Poison]:
        try:
            return await self._encoder.embed_images(pictures)
        except Mismatch:
            raise
        except Invalid as error:
            return await self._in_halves(pictures, error)
        except _HELD as error:
            first = error
        async with self._patience.waiting("encoder", first):
            answer = await self._ask_again(pictures)
        return await self._in_halves(pictures, answer) if isinstance(answer, WatchwordError) else answer

    async def _ask_again(self, pictures: Sequence[bytes]) -> list[Vector | Poison] | WatchwordError:
        """The answer once there is one, or the error when it is these pictures that make it."""
        for attempt in count(2):
            await self._patience.pause("encoder", attempt - 1)
            try:
                return await self._encoder.embed_images(pictures)
            except Mismatch:
                raise
            except Invalid as error:
                return error
            except _HELD as error:
                tried_enough = attempt % self._tries == 0 and not isinstance(error, Overloaded)
                if tried_enough and await self._takes_others():
                    return error
        raise AssertionError("counting does not end")

    async def _in_halves(self, pictures: Sequence[bytes], error: WatchwordError) -> list[Vector | Poison]:
        """The request as a whole was refused. In halves, the pictures show which of them is the one to blame."""
        if len(pictures) == 1:
            return [error if isinstance(error, Poison) else Poison("refused", error.message)]
        half = len(pictures) // 2
        return [*await self._ask(pictures[:half]), *await self._ask(pictures[half:])]

    async def _takes_others(self) -> bool:
        """Whether the encoder takes a picture that it took before."""
        if self._taken is None:
            return False
        try:
            await self._encoder.embed_images([self._taken])
        except _HELD:
            return False
        return True

    def _sound(self, found: Vector | Poison) -> Vector | Poison:
        """The vector at unit length, or why it cannot be stored."""
        if isinstance(found, Poison):
            return found
        if found.shape != (self._store.space.dimension,):
            raise Mismatch(
                f"the encoder sent a vector of shape {found.shape} for space {self._store.space.id}",
                todo="encoder and index must run the same bundle",
            )
        length = math.sqrt(float(found @ found))
        if not (math.isfinite(length) and length > 1e-6):
            return Poison("bad_vector", f"the encoder sent a vector of length {length}")
        return found if abs(length - 1.0) < 1e-3 else (found / length).astype(np.float32)


def _too_large(picture: bytes, most: int) -> Poison | None:
    if len(picture) <= most:
        return None
    return Poison("too_large", f"a picture of {len(picture):,} bytes; the encoder takes {most:,}")
