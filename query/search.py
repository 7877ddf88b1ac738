"""A search: check the question, embed it, query the index, add the coverage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from catalog.cameras import CameraRegistry, unknown_camera
from catalog.coverage import Coverage
from catalog.media import Thumbnails
from index.store import LATEST_MS, Answer, Ask, MomentStore, Scored
from proto.errors import Invalid, Poison, Unknown
from proto.types import Camera, Vector, check_moment_ids
from query.cache import VectorCache
from query.coverage import CoverageTold
from query.coverage_reader import CoverageReader
from query.settings import QuerySettings
from workers.client import Encoder

MOST_IMAGE_BYTES = 8 * 1024 * 1024
_INDEX_SHARE = 0.8
"""The index's share of the time left, so that a hanging shard leaves time to answer from the others."""
_COVERAGE_SHARE = 0.5
_COVERAGE_S = 1.0
"""Most time for reading the coverage, which usually takes milliseconds. After it the answer has none."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for: exactly one of text, image and moment_id. Cameras empty means all; times 0 are open."""

    text: str | None = None
    image: bytes | None = None
    moment_id: str | None = None
    cameras: tuple[str, ...] = ()
    start_ms: int = 0
    end_ms: int = 0
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search, and where its time went."""

    answer: Answer
    coverage: CoverageTold
    """Which spans of the requested time were not looked at, and how far the requested cameras are."""
    space: str
    vector_cached: bool
    embed_s: float
    index_s: float
    total_s: float

    @property
    def partial(self) -> bool:
        """Whether part of the requested moments could not be searched."""
        not_searched = self.answer.shards_missing or self.answer.unsearched or self.answer.spaces
        return bool(not_searched or self.coverage.gaps or self.coverage.unknown)


class Searcher:
    """Answers questions. Raises Invalid, Unknown, and the errors of the encoder and the store."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: MomentStore,
        cache: VectorCache,
        cameras: CameraRegistry,
        thumbnails: Thumbnails,
        coverage: Coverage,
        settings: QuerySettings,
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._cache = cache
        self._cameras = cameras
        self._thumbnails = thumbnails
        self._coverage = CoverageReader(coverage, cameras, settings.behind_s)
        self._settings = settings
        self._asked: dict[str, asyncio.Task[tuple[Vector, bool]]] = {}

    async def search(self, question: Question, *, timeout_s: float) -> Found:
        """The moments most similar to the question. For `moment_id`, the moment itself is left out."""
        begun = time.perf_counter()
        question = self._checked(question)
        if question.cameras:
            await self._check_cameras(question.cameras)
        vector, cached = await self._vector(question)
        embedded = time.perf_counter()
        cameras, start_ms, end_ms = (
            frozenset(question.cameras) or None,
            question.start_ms or None,
            question.end_ms or None,
        )
        left_s = timeout_s - (embedded - begun)
        ask = Ask(
            vector,
            limit=question.limit + (question.moment_id is not None),
            cameras=cameras,
            start_ms=start_ms,
            end_ms=end_ms,
            timeout_s=max(0.01, _INDEX_SHARE * left_s),
        )
        coverage_s = max(0.01, min(_COVERAGE_S, _COVERAGE_SHARE * left_s))
        reading = asyncio.create_task(self._coverage.read(cameras, start_ms, end_ms, coverage_s))
        try:
            answer = await self._store.search(ask)
            coverage = await reading
        finally:
            reading.cancel()
        ended = time.perf_counter()
        return Found(
            answer=replace(answer, hits=_others(answer.hits, question)),
            coverage=coverage,
            space=self._store.space.id,
            vector_cached=cached,
            embed_s=embedded - begun,
            index_s=ended - embedded,
            total_s=ended - begun,
        )

    async def thumbnail(self, moment_id: str) -> bytes:
        """The picture of a moment."""
        return await asyncio.to_thread(self._thumbnails.get, moment_id)

    async def cameras(self) -> Sequence[Camera]:
        """All cameras that can be searched, including removed ones."""
        return await asyncio.to_thread(self._cameras.all)

    def _checked(self, question: Question) -> Question:
        """The question with its text normalised. Raises Invalid when it cannot be answered."""
        if [question.text, question.image, question.moment_id].count(None) != 2:
            raise Invalid("there is no question", todo="give exactly one of text, image and moment_id")
        if not 1 <= question.limit <= self._settings.max_limit:
            raise Invalid(f"{question.limit} hits were asked for", todo=f"ask for 1 to {self._settings.max_limit}")
        if not (0 <= question.start_ms <= LATEST_MS and 0 <= question.end_ms <= LATEST_MS):
            raise Invalid(
                f"{question.start_ms} to {question.end_ms} is not a span of time",
                todo="give milliseconds since 1970 UTC, or 0 for open",
            )
        if question.end_ms and question.start_ms >= question.end_ms:
            raise Invalid(
                f"the search ends at {question.end_ms}, which is not after its start at {question.start_ms}",
                todo="give an end_ms after start_ms, or 0 for until now",
            )
        if question.image is not None and not 0 < len(question.image) <= MOST_IMAGE_BYTES:
            raise Invalid(
                f"the image has {len(question.image)} bytes", todo=f"give a picture of 1 to {MOST_IMAGE_BYTES} bytes"
            )
        if question.moment_id is not None:
            check_moment_ids([question.moment_id])
        return question if question.text is None else replace(question, text=self._checked_text(question.text))

    def _checked_text(self, text: str) -> str:
        if not text.strip():
            raise Invalid("the question is empty", todo="say in words what to look for")
        if len(text) > self._settings.max_text:
            raise Invalid(
                f"the question has {len(text)} characters", todo=f"say it in at most {self._settings.max_text}"
            )
        return " ".join(text.split())

    async def _check_cameras(self, cameras: tuple[str, ...]) -> None:
        names = await asyncio.to_thread(self._cameras.names)
        for name in cameras:
            if name not in names:
                raise unknown_camera(name, names)

    async def _vector(self, question: Question) -> tuple[Vector, bool]:
        """The question's vector, and whether it came from the cache."""
        if question.text is not None:
            return await self._text_vector(question.text)
        if question.image is not None:
            (result,) = await self._encoder.embed_images([question.image])
            return _good(result, "image"), False
        assert question.moment_id is not None
        for moment in await self._store.fetch([question.moment_id]):
            return moment.vector, False
        raise Unknown(
            f"there is no moment {question.moment_id}", todo="give the moment_id of a hit; it may have expired"
        )

    async def _text_vector(self, text: str) -> tuple[Vector, bool]:
        """The text's vector, and whether it was cached. Concurrent callers with the same text share one call."""
        task = self._asked.get(text)
        if task is None:
            task = self._asked[text] = asyncio.create_task(self._find_text_vector(text))
            task.add_done_callback(partial(self._forget, text))
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(task)

    def _forget(self, text: str, task: asyncio.Task[tuple[Vector, bool]]) -> None:
        del self._asked[text]
        if not task.cancelled():
            task.exception()  # mark as retrieved: every caller may have given up by now

    async def _find_text_vector(self, text: str) -> tuple[Vector, bool]:
        cached = await self._cache.get(self._store.space, text)
        if cached is not None:
            return cached, True
        (result,) = await self._encoder.embed_texts([text])
        vector = _good(result, "text")
        await self._cache.put(self._store.space, text, vector)
        return vector, False


def _good(result: Vector | Poison, kind: str) -> Vector:
    if isinstance(result, Poison):
        raise Invalid(f"the {kind} cannot be used: {result.message}", todo=result.todo or f"give another {kind}")
    return result


def _others(hits: list[Scored], question: Question) -> list[Scored]:
    return [hit for hit in hits if hit.span.id != question.moment_id][: question.limit]
