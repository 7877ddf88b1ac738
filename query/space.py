"""One space that questions are asked in: how they become vectors there, where its moments are, what scores mean."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from catalog.media import Thumbnails
from index.store import Answer, MomentStore
from proto import tracing
from proto.errors import Invalid, Unknown, WatchwordError
from proto.life import Gone
from proto.metrics import SEARCH_PART_SECONDS
from proto.types import Moment
from query.asking import Question
from query.cache import VectorCache
from query.finding import Finder, Finding
from query.joining import Hit
from query.judging import Judge
from query.settings import QuerySettings
from query.vectors import QuestionVectors
from workers.client import Encoder

log = logging.getLogger("watchword.query")

_FORMER_SHARE = 0.9
"""The former space's share of the time left: what the present one found is told without it, rather than late."""
_AGAIN_S = 5.0
_PROBE_S = 2.0
"""While it does not answer, one question in _AGAIN_S waits for it, for so long; the others do without."""


@dataclass(frozen=True, slots=True)
class InSpace:
    """What a question found in one space."""

    finding: Finding
    cached: bool
    """Whether its vector came from the cache."""
    embed_s: float


class SearchedSpace:
    """A space, with all that answers in it. Raises Invalid, Unknown, and the errors of the encoder and the store."""

    def __init__(
        self,
        encoder: Encoder,
        store: MomentStore,
        cache: VectorCache,
        judge: Judge,
        thumbnails: Thumbnails,
        settings: QuerySettings,
        *,
        newer: MomentStore | None = None,
    ) -> None:
        """Moments that `newer` has are left out: they were embedded again, and are found there."""
        self.store = store
        self._vectors = QuestionVectors(encoder, store, cache, thumbnails)
        self._finder = Finder(store, judge, settings, newer)

    @property
    def id(self) -> str:
        """The id of the space."""
        return self.store.space.id

    async def find(self, question: Question, like: Moment | None, timeout_s: float, gone: Gone) -> InSpace:
        """The hits of the question, which may ask by the moment `like`."""
        begun = time.perf_counter()
        with SEARCH_PART_SECONDS.labels(part="embed").time(), tracing.span("embed"):
            vector, cached = await self._vectors.find(question, like)
        embed_s = time.perf_counter() - begun
        return InSpace(await self._finder.find(question, vector, timeout_s - embed_s, gone), cached, embed_s)


class FormerSpace:
    """The space of the bundle before, which is asked beside the present one. It never costs an answer."""

    def __init__(self, space: SearchedSpace, clock: Callable[[], float] = time.monotonic) -> None:
        self.space = space
        self._clock = clock
        self._again_s: float | None = None
        """When to try again; None while it answers."""

    async def find(self, question: Question, like: Moment | None, timeout_s: float, gone: Gone) -> Finding | None:
        """What it found; None when it did not answer in time, or not at all."""
        within_s, now_s = _FORMER_SHARE * timeout_s, self._clock()
        if self._again_s is not None:
            if now_s < self._again_s:
                return None
            self._again_s, within_s = now_s + _AGAIN_S, min(within_s, _PROBE_S)
        try:
            with tracing.span("former space"):
                async with asyncio.timeout(within_s):
                    found = await self.space.find(question, like, within_s, gone)
        except (Invalid, Unknown):  # the fault of this question, not of the space
            return None
        except (WatchwordError, TimeoutError) as error:
            if self._again_s is None:  # once, not at every search
                log.warning("moments of the space %s are not searched: %s", self.space.id, error or "no answer in time")
            self._again_s = self._clock() + _AGAIN_S
            return None
        if self._again_s is not None:
            log.info("moments of the space %s are searched again", self.space.id)
        self._again_s = None
        return found.finding


def merged(question: Question, present: Finding, former: Finding | None, spaces: Iterable[str]) -> Finding:
    """One finding of both. `spaces` are those that were asked: each is told as not searched only where it was not.

    Scores of two spaces say nothing to each other, so the two lists are merged by confidence, and each keeps its order.
    """
    if former is None:
        return present
    there = {_id(hit) for hit in present.hits}
    others = [hit for hit in former.hits if _id(hit) not in there]
    if question.by_time:
        surest = heapq.nlargest(question.limit, [*present.hits, *others], key=_confidence)
        hits = sorted(surest, key=lambda hit: (hit.start_ms, _id(hit)))
    else:
        hits = list(heapq.merge(present.hits, others, key=_confidence, reverse=True))[: question.limit]
    threshold = max(present.threshold, former.threshold) if others else present.threshold
    return Finding(hits, _answer_of(present.answer, former.answer, frozenset(spaces)), threshold)


def _answer_of(present: Answer, former: Answer, asked: frozenset[str]) -> Answer:
    return replace(
        present,
        shards_missing=sorted({*present.shards_missing, *former.shards_missing}),
        unsearched=[*present.unsearched, *(part for part in former.unsearched if part not in present.unsearched)],
        loading_s=max(present.loading_s, former.loading_s),
        buckets_searched=max(present.buckets_searched, former.buckets_searched),
        moments_searched=present.moments_searched + former.moments_searched,
        spaces=[space for space in present.spaces if space not in asked],
    )


def _confidence(hit: Hit) -> float:
    return hit.best.confidence


def _id(hit: Hit) -> str:
    return hit.best.scored.span.id
