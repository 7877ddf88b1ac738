"""The vector of a question, from the cache, the encoder or the index."""

from __future__ import annotations

import asyncio
from functools import partial

from catalog.media import Thumbnails
from index.store import MomentStore
from proto import tracing
from proto.access import Scope
from proto.errors import Invalid, Poison, Unknown
from proto.types import Moment, Vector
from query.aside import Aside
from query.asking import Question
from query.cache import VectorCache
from workers.client import Encoder

_PICTURES_AT_ONCE = 4


class QuestionVectors:
    """Finds vectors of questions. Raises Invalid, Unknown, and the errors of the encoder and the store."""

    def __init__(self, encoder: Encoder, store: MomentStore, cache: VectorCache, thumbnails: Thumbnails) -> None:
        self._encoder = encoder
        self._store = store
        self._cache = cache
        self._thumbnails = thumbnails
        self._pictures = Aside(_PICTURES_AT_ONCE, "pictures of moments")
        self._asked: dict[tuple[Scope, str], asyncio.Task[tuple[Vector, bool]]] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        """Vectors on their way to the cache. The event loop itself holds tasks only weakly."""

    async def find(self, question: Question, like: Moment | None) -> tuple[Vector, bool]:
        """The question's vector, and whether it came from the cache. `like` is the moment that it asks by, if it does.

        One of another space is embedded here by its picture.
        """
        if question.text is not None:
            return await self._of_text(question.text, question.scope)
        if question.image is not None:
            (result,) = await self._encoder.embed_images([question.image])
            return _good(result, "image"), False
        assert like is not None
        return (like.vector if like.space == self._store.space.id else await self._of_picture(like.id)), False

    async def _of_picture(self, moment_id: str) -> Vector:
        (result,) = await self._encoder.embed_images(
            [await self._pictures.run(lambda: self._thumbnails.get(moment_id))]
        )
        return _good(result, "picture of this moment")

    async def _of_text(self, text: str, scope: Scope) -> tuple[Vector, bool]:
        """The text's vector, and whether it was cached. Concurrent callers of one scope and text share one call."""
        task = self._asked.get((scope, text))
        if task is None:
            task = self._asked[scope, text] = asyncio.create_task(self._find_text(text, scope))
            task.add_done_callback(partial(self._forget, (scope, text)))
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(task)

    def _forget(self, asked: tuple[Scope, str], task: asyncio.Task[tuple[Vector, bool]]) -> None:
        del self._asked[asked]
        if not task.cancelled():
            task.exception()  # mark as retrieved: every caller may have given up by now

    async def _find_text(self, text: str, scope: Scope) -> tuple[Vector, bool]:
        with tracing.span("cache get"):
            cached = await self._cache.get(self._store.space, text, scope)
        if cached is not None:
            return cached, True
        (result,) = await self._encoder.embed_texts([text])
        vector = _good(result, "text")
        # Nobody waits for this, and it never fails.
        keeping = asyncio.create_task(self._cache.put(self._store.space, text, vector, scope))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return vector, False


def unknown_moment(moment_id: str) -> Unknown:
    """The error for a moment that is not there, or may not be seen: nothing tells them apart."""
    return Unknown(f"there is no moment {moment_id}", todo="give the moment_id of a hit")


def _good(result: Vector | Poison, kind: str) -> Vector:
    if isinstance(result, Poison):
        raise Invalid(f"the {kind} cannot be used: {result.message}", todo=result.todo or f"give another {kind}")
    return result
