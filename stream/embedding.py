"""Pictures to vectors, by an encoder that may be away, full, or unable to bear one of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from index.store import MomentStore
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.types import Vector
from stream.frames import Unit
from stream.patience import Patience
from workers.client import Encoder, EncoderInfo, Seen

_LEAST_LENGTH = 1e-6
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
        self._info: EncoderInfo | None = None
        self._taken: bytes | None = None
        """A picture that the encoder took."""

    async def info(self) -> EncoderInfo:
        """What the encoder runs; waits for it once."""
        if self._info is None:
            self._info = await self._patience.call("encoder", self._encoder.describe)
        return self._info

    async def vectors(self, pictures: Sequence[bytes]) -> list[Unit | Poison]:
        """One answer per picture, in order. Raises Mismatch when the encoder's space is another."""
        largest = (await self.info()).max_item_bytes
        found: list[Unit | Poison | None] = [_too_large(picture, largest) for picture in pictures]
        asked = [number for number, refusal in enumerate(found) if refusal is None]
        answers = await self._ask([pictures[number] for number in asked]) if asked else []
        for number, answer in zip(asked, self._sound(answers), strict=True):
            found[number] = answer
        taken = (number for number, answer in zip(asked, answers, strict=True) if not isinstance(answer, Poison))
        if (last := max(taken, default=None)) is not None:
            self._taken = pictures[last]
        return [answer for answer in found if answer is not None]

    async def vectors_now(self, pictures: Sequence[bytes]) -> list[Unit | Poison]:
        """As `vectors`, asked once: raises what the encoder raised."""
        return self._sound(await self._encoder.embed_images(pictures)) if pictures else []

    async def objects_now(self, pictures: Sequence[bytes]) -> list[list[Seen] | Poison]:
        """The objects in each picture, asked once. Those with a vector that cannot be stored are left out."""
        if not pictures:
            return []
        answers = await self._encoder.detect_objects(pictures)
        sound = iter(self._sound([one.vector for seen in answers if not isinstance(seen, Poison) for one in seen]))
        found: list[list[Seen] | Poison] = []
        for answer in answers:
            if isinstance(answer, Poison):
                found.append(answer)
                continue
            pairs = [(one, next(sound)) for one in answer]
            good = [(one, unit) for one, unit in pairs if not isinstance(unit, Poison)]
            found.append([replace(one, vector=unit.astype(np.float32)) for one, unit in good])
        return found

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

    def _sound(self, answers: Sequence[Vector | Poison]) -> list[Unit | Poison]:
        """The vectors at unit length, or why one cannot be stored."""
        vectors = [answer for answer in answers if not isinstance(answer, Poison)]
        shape = (self._store.space.dimension,)
        for vector in vectors:
            if vector.shape != shape:
                raise Mismatch(
                    f"the encoder sent a vector of shape {vector.shape} for space {self._store.space.id}",
                    todo="encoder and index must run the same bundle",
                )
        if not vectors:
            return [answer for answer in answers if isinstance(answer, Poison)]
        # All at once: a call of numpy costs more than what it does with one vector.
        rows = np.array(vectors, dtype=np.float64)
        lengths = np.sqrt(np.vecdot(rows, rows))
        good = np.isfinite(lengths) & (lengths > _LEAST_LENGTH)
        rows /= np.where(good, lengths, 1.0)[:, np.newaxis]
        sound = map(_unit, rows, good.tolist(), lengths.tolist())
        return [answer if isinstance(answer, Poison) else next(sound) for answer in answers]


def _unit(row: Unit, good: bool, length: float) -> Unit | Poison:
    return row if good else Poison("bad_vector", f"the encoder sent a vector of length {length}")


def _too_large(picture: bytes, most: int) -> Poison | None:
    if len(picture) <= most:
        return None
    return Poison("too_large", f"a picture of {len(picture):,} bytes; the encoder takes {most:,}")
