"""A search: check the question, embed it, find its hits, add the coverage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from catalog.cameras import unknown_camera
from catalog.coverage import Coverage
from catalog.known import KnownCameras
from catalog.media import Thumbnails
from index.store import Answer, MomentStore
from proto import tracing
from proto.errors import Unknown
from proto.metrics import SEARCH_PART_SECONDS
from proto.types import Camera, Span, check_moment_ids
from query.aside import Aside
from query.asking import Question, checked
from query.cache import VectorCache
from query.coverage import CoverageTold
from query.coverage_reader import CoverageReader
from query.finding import Finder
from query.groups import are_known, with_members
from query.joining import Hit
from query.judging import Judge
from query.settings import QuerySettings
from query.vectors import QuestionVectors
from workers.client import Encoder

_PICTURES_AT_ONCE = 16
_COVERAGE_SHARE = 0.5
_COVERAGE_S = 1.0
"""Most time for reading the coverage, which usually takes milliseconds. After it the answer has none."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search, and where its time went."""

    hits: list[Hit]
    answer: Answer
    """The answer of the index that the hits were chosen from."""
    coverage: CoverageTold
    """Which spans of the requested time were not looked at, and how far the requested cameras are."""
    space: str
    threshold: float
    """A hit of at least this confidence counts as found."""
    vector_cached: bool
    embed_s: float
    index_s: float
    """Includes judging and joining."""
    total_s: float

    @property
    def partial(self) -> bool:
        """Whether part of the requested moments could not be searched."""
        not_searched = self.answer.shards_missing or self.answer.unsearched or self.answer.spaces
        return bool(not_searched or self.coverage.gaps or self.coverage.unknown)

    @property
    def no_confident_match(self) -> bool:
        """Whether no hit is likely to be what was asked for."""
        return all(hit.best.confidence < self.threshold for hit in self.hits)


class Searcher:
    """Answers questions. Raises Invalid, Unknown, and the errors of the encoder and the store."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: MomentStore,
        cache: VectorCache,
        cameras: KnownCameras,
        thumbnails: Thumbnails,
        coverage: Coverage,
        judge: Judge,
        kinds: Sequence[str],
        settings: QuerySettings,
    ) -> None:
        """`kinds` are the kinds of objects that the bundle knows."""
        self.kinds = tuple(sorted(kinds))
        self._store = store
        self._cameras = cameras
        self._thumbnails = thumbnails
        self._pictures = Aside(_PICTURES_AT_ONCE, "pictures")
        self._coverage = CoverageReader(coverage, cameras, settings.behind_s)
        self._settings = settings
        self._judge = judge
        self._vectors = QuestionVectors(encoder, store, cache)
        self._finder = Finder(store, judge, settings)

    async def search(self, question: Question, *, timeout_s: float) -> Found:
        """The moments most similar to the question. For `moment_id`, the moment itself is left out."""
        begun = time.perf_counter()
        question = checked(question, self._settings, self.kinds)
        if question.groups:
            with tracing.span("groups"):
                question = with_members(question, await asyncio.to_thread(self._cameras_of, question.groups))
        if question.cameras:
            with tracing.span("cameras"):
                await self.check_cameras(question.cameras)
        with SEARCH_PART_SECONDS.labels(part="embed").time(), tracing.span("embed"):
            vector, cached = await self._vectors.find(question)
        embedded = time.perf_counter()
        left_s = timeout_s - (embedded - begun)
        reading = asyncio.create_task(self._read_coverage(question, left_s))
        try:
            finding = await self._finder.find(question, vector, left_s)
            coverage = await reading
        finally:
            reading.cancel()
        ended = time.perf_counter()
        return Found(
            hits=finding.hits,
            answer=finding.answer,
            coverage=coverage,
            space=self._store.space.id,
            threshold=finding.threshold,
            vector_cached=cached,
            embed_s=embedded - begun,
            index_s=ended - embedded,
            total_s=ended - begun,
        )

    async def thumbnail(self, moment_id: str, at_ms: int | None = None) -> tuple[bytes, int | None]:
        """The moment's picture of this time, and the time; where there is none the moment's own picture, and None."""

        def read() -> tuple[bytes, int | None]:
            picture = None if at_ms is None else self._thumbnails.of_instant(moment_id, at_ms)
            return (self._thumbnails.get(moment_id), None) if picture is None else (picture, at_ms)

        return await self._pictures.run(read)

    async def cameras(self) -> Sequence[Camera]:
        """All cameras that can be searched, including removed ones."""
        return await asyncio.to_thread(self._cameras.all)

    async def moment(self, moment_id: str) -> Span:
        """The moment with this id. Raises Unknown when there is none."""
        check_moment_ids([moment_id])
        for moment in await self._store.fetch([moment_id]):
            return moment
        raise Unknown(f"there is no moment {moment_id}", todo="give the moment_id of a hit")

    async def check_cameras(self, cameras: tuple[str, ...]) -> None:
        """Raise Unknown unless all are registered."""
        names = await asyncio.to_thread(self._cameras.names, cameras)
        for name in cameras:
            if name not in names:
                raise unknown_camera(name, names)

    def _cameras_of(self, groups: tuple[str, ...]) -> list[Camera]:
        return self._cameras.all(until=lambda cameras: are_known(groups, cameras))

    async def _read_coverage(self, question: Question, left_s: float) -> CoverageTold:
        within_s = max(0.01, min(_COVERAGE_S, _COVERAGE_SHARE * left_s))
        cameras = frozenset(question.cameras) or None
        with SEARCH_PART_SECONDS.labels(part="coverage").time(), tracing.span("coverage"):
            return await self._coverage.read(cameras, question.start_ms or None, question.end_ms or None, within_s)
