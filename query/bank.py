"""The bank: everyday texts that questions are compared with, and the names of the kinds of objects, as vectors."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from proto.errors import Late, Overloaded, Poison, Transient, WatchwordError
from proto.retry import Backoff
from proto.types import SpaceInfo, Vector
from query.cache import VectorCache
from query.confidence import Words
from workers.client import Encoder

log = logging.getLogger("watchword.query")

_AT_ONCE = 16
"""Texts of one request: few, so that people's questions hardly wait for them."""
_PAUSES = Backoff(1.0, 60.0)


def texts_of_the_bank() -> tuple[str, ...]:
    """The texts in query/data/bank.txt."""
    lines = files("query").joinpath("data/bank.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


class Bank:
    """Embeds its texts once for a space, in the background. Until all are there it has none."""

    def __init__(
        self,
        encoder: Encoder,
        cache: VectorCache,
        space: SpaceInfo,
        *,
        texts: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> None:
        """`texts` empty means those of the project."""
        self._encoder = encoder
        self._cache = cache
        self._space = space
        self._texts = tuple(texts) or texts_of_the_bank()
        self._kinds = tuple(kinds)
        self._words: Words | None = None

    @property
    def words(self) -> Words | None:
        """The vectors of all texts and kinds; None until they are there."""
        return self._words

    async def fill(self) -> None:
        """Embed everything, however long the encoder is away. Ends without words when it can never be done."""
        attempt = 0
        while True:
            try:
                self._words = await self._embedded()
            except (Transient, Overloaded, Late) as error:
                attempt += 1
                log.info("the bank of texts is not embedded yet: %s", error)
                await asyncio.sleep(_PAUSES.pause_s(attempt, random.random()))  # noqa: S311 - jitter, not a secret
            except WatchwordError as error:
                log.warning("hits are judged without a bank of texts: %s", error)
                return
            else:
                return

    async def _embedded(self) -> Words | None:
        wanted = tuple(dict.fromkeys((*self._texts, *self._kinds)))
        found: dict[str, Vector] = {}
        for text in wanted:
            if (vector := await self._cache.get(self._space, text)) is not None:
                found[text] = vector
        missing = [text for text in wanted if text not in found]
        for first in range(0, len(missing), _AT_ONCE):
            some = missing[first : first + _AT_ONCE]
            for text, result in zip(some, await self._encoder.embed_texts(some), strict=True):
                if isinstance(result, Poison):
                    log.warning("the bundle cannot read %r of the bank of texts: %s", text, result)
                    continue
                found[text] = result
                await self._cache.put(self._space, text, result)
        bank = [found[text] for text in self._texts if text in found]
        kinds = {kind: found[kind] for kind in self._kinds if kind in found}
        return Words(np.stack(bank), kinds) if bank else None
