"""A search: check the question, embed it, find its hits, add the coverage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from catalog.cameras import unknown_camera
from catalog.coverage import Coverage
from catalog.known import KnownCameras
from catalog.media import Thumbnails, no_picture
from index.store import Answer
from proto import tracing
from proto.access import Scope
from proto.life import Gone, GoneNow
from proto.metrics import SEARCH_PART_SECONDS
from proto.types import Camera, Moment, check_moment_ids, start_of
from query.aside import Aside
from query.asking import Question, checked
from query.coverage import CoverageTold
from query.coverage_reader import CoverageReader
from query.finding import Finding
from query.groups import are_known, with_members
from query.joining import Hit
from query.settings import QuerySettings
from query.space import FormerSpace, SearchedSpace, merged
from query.vectors import unknown_moment

_PICTURES_AT_ONCE = 16
_COVERAGE_SHARE = 0.5
_MOST_NAMED = 100
"""Most cameras that are named for a part of the index that did not answer."""
_MOST_SEEN = 10_000
"""Most moments whose camera is remembered."""
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
        space: SearchedSpace,
        cameras: KnownCameras,
        thumbnails: Thumbnails,
        coverage: Coverage,
        kinds: Sequence[str],
        settings: QuerySettings,
        life: GoneNow,
    ) -> None:
        """`kinds` are the kinds of objects that the bundle knows."""
        self._life = life
        self.kinds = tuple(sorted(kinds))
        self._space = space
        self._former: FormerSpace | None = None
        self._cameras = cameras
        self._thumbnails = thumbnails
        self._pictures = Aside(_PICTURES_AT_ONCE, "pictures")
        self._coverage = CoverageReader(coverage, cameras, settings.behind_s)
        self._settings = settings
        self._cameras_of: dict[str, str] = {}

    def also_search(self, former: SearchedSpace) -> None:
        """From now on ask this space too, for what was not embedded anew."""
        self._former = FormerSpace(former)

    async def search(self, question: Question, *, timeout_s: float) -> Found:
        """The moments most similar to the question. For `moment_id`, the moment itself is left out."""
        begun = time.perf_counter()
        with tracing.span("rules"):
            question = checked(question, self._settings, self.kinds)
            gone = await self._life.gone()
        if question.groups:
            with tracing.span("groups"):
                question = with_members(
                    question, await asyncio.to_thread(self._in_groups, question.groups, question.scope)
                )
        if question.cameras:
            with tracing.span("cameras"):
                await self.check_cameras(question.cameras, question.scope)
        like = None if question.moment_id is None else await self.moment(question.moment_id, question.scope)
        left_s = timeout_s - (time.perf_counter() - begun)
        reading = asyncio.create_task(self._read_coverage(question, left_s, gone))
        before = asyncio.create_task(self._in_former(question, like, left_s, gone))
        try:
            found = await self._space.find(question, like, left_s, gone)
            with tracing.span("join"):
                finding = merged(question, found.finding, await before, self._asked())
                coverage = await reading
                answer = await self._named(finding.answer, question)
        finally:
            reading.cancel()
            before.cancel()
        ended = time.perf_counter()
        return Found(
            hits=finding.hits,
            answer=_told(answer, question.scope),
            coverage=coverage,
            space=self._space.id,
            threshold=finding.threshold,
            vector_cached=found.cached,
            embed_s=found.embed_s,
            index_s=ended - begun - found.embed_s,
            total_s=ended - begun,
        )

    async def _in_former(self, question: Question, like: Moment | None, left_s: float, gone: Gone) -> Finding | None:
        return None if self._former is None else await self._former.find(question, like, left_s, gone)

    def _asked(self) -> list[str]:
        return [space.id for space in self._spaces()]

    def _spaces(self) -> list[SearchedSpace]:
        return [self._space] if self._former is None else [self._space, self._former.space]

    async def _seen(self, moment_id: str, scope: Scope) -> Moment | None:
        """The moment, if there is one that may be seen: in the present space, else in the former one.

        One that may not be seen is looked up in every way, as one that is not there is: so both take the same time.
        """
        for exact in (False, True):
            for space in self._spaces():
                for moment in await space.store.fetch([moment_id], exact=exact):
                    if scope.allows(moment.camera):
                        return moment
        return None

    async def _named(self, answer: Answer, question: Question) -> Answer:
        """The answer with the cameras whose moments may lie where nobody answered."""
        if not answer.unsearched:
            return answer
        names = question.seen
        if names is None:
            names = await asyncio.to_thread(self._cameras.names, (), question.scope)
        asked = sorted(names)
        parts = [
            replace(part, cameras=tuple(self._space.store.cameras_at(part.shard, asked)[:_MOST_NAMED]))
            for part in answer.unsearched
        ]
        return replace(answer, unsearched=parts)

    async def thumbnail(self, moment_id: str, at_ms: int | None, scope: Scope) -> tuple[bytes, int | None]:
        """The moment's picture of this time, and the time; where there is none the moment's own picture, and None."""
        if not scope.whole and not await self._may_see(moment_id, scope):
            raise no_picture(moment_id)
        check_moment_ids([moment_id])
        if (await self._life.gone()).may_cover(start_of(moment_id)):
            await self.moment(moment_id, scope)

        def read() -> tuple[bytes, int | None]:
            picture = None if at_ms is None else self._thumbnails.of_instant(moment_id, at_ms)
            return (self._thumbnails.get(moment_id), None) if picture is None else (picture, at_ms)

        return await self._pictures.run(read)

    async def cameras(self, scope: Scope) -> Sequence[Camera]:
        """All cameras that can be searched and seen, including removed ones."""
        found = await asyncio.to_thread(self._cameras.all)
        return [camera for camera in found if scope.allows(camera.name)]

    async def moment(self, moment_id: str, scope: Scope) -> Moment:
        """The moment with this id. Raises Unknown when there is none that may be shown and seen."""
        check_moment_ids([moment_id])
        gone = await self._life.gone()
        moment = await self._seen(moment_id, scope)
        if moment is None or gone.covers(moment.camera, moment.start_ms, moment.end_ms):
            raise unknown_moment(moment_id)
        return moment

    async def gone(self) -> Gone:
        """What may not be shown now."""
        return await self._life.gone()

    async def check_cameras(self, cameras: tuple[str, ...], scope: Scope) -> None:
        """Raise Unknown unless all are registered and may be seen."""
        names = await asyncio.to_thread(self._cameras.names, cameras, scope)
        for name in cameras:
            if name not in names:
                raise unknown_camera(name, names)

    def _in_groups(self, groups: tuple[str, ...], scope: Scope) -> list[Camera]:
        return self._cameras.seen(scope, until=lambda cameras: are_known(groups, cameras))

    async def _read_coverage(self, question: Question, left_s: float, gone: Gone) -> CoverageTold:
        within_s = max(0.01, min(_COVERAGE_S, _COVERAGE_SHARE * left_s))
        start_ms, end_ms = question.start_ms or None, question.end_ms or None
        with SEARCH_PART_SECONDS.labels(part="coverage").time(), tracing.span("coverage"):
            told = await self._coverage.read(question.seen, start_ms, end_ms, within_s, gone)
        if question.scope.whole:
            return told
        # A gap that may be of any camera is told, for it may be of these; not how much all cameras missed in it.
        return replace(told, gaps=[gap if gap.camera else replace(gap, frames=0) for gap in told.gaps])

    async def _may_see(self, moment_id: str, scope: Scope) -> bool:
        """Whether the moment is of a camera that may be seen. What may be is remembered: an id says its camera."""
        if (camera := self._cameras_of.get(moment_id)) is not None and scope.allows(camera):
            return True
        check_moment_ids([moment_id])
        moment = await self._seen(moment_id, scope)
        if moment is None:
            return False
        if len(self._cameras_of) >= _MOST_SEEN:
            del self._cameras_of[next(iter(self._cameras_of))]
        self._cameras_of[moment_id] = moment.camera
        return True


def _told(answer: Answer, scope: Scope) -> Answer:
    """The answer as it may be told: how many parts were searched depends on the moments of all cameras."""
    return answer if scope.whole else replace(answer, shards_searched=0, buckets_searched=0)
