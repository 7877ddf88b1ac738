"""From a question's vector to its hits: asks the index, has the candidates judged, and makes hits of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.store import MOST_HITS, Answer, Ask, MomentStore
from proto import tracing
from proto.access import Scope
from proto.errors import WatchwordError
from proto.life import NOTHING, Gone
from proto.types import Vector
from query.asking import Question
from query.joining import Hit, Judged, alone, joined, without_duplicates
from query.judging import Judge, Verdict
from query.settings import QuerySettings
from query.spent import Spent

_INDEX_SHARE = 0.8
"""The index's share of the time left, so that a hanging shard leaves time to answer from the others."""
_MOST_SPARE = 100
_MOST_REQUESTS = 3
_MOST_CANDIDATES = 2000
"""Most moments that one answer is chosen from, unless twice its limit is more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The hits of a question, and the answer of the index that they were chosen from."""

    hits: list[Hit]
    answer: Answer
    threshold: float
    """A hit of at least this confidence counts as found."""


class Finder:
    """Finds the hits of a question.

    The index is asked for more moments than hits are wanted, because neighbours are joined, near-duplicates left out
    and unsure ones filtered. If too few hits remain it is asked again for more, at most _MOST_REQUESTS times in all.
    """

    def __init__(
        self, store: MomentStore, judge: Judge, settings: QuerySettings, newer: MomentStore | None = None
    ) -> None:
        """Moments that `newer` has are left out."""
        self._store = store
        self._judge = judge
        self._settings = settings
        self._newer = newer

    async def find(self, question: Question, vector: Vector, timeout_s: float, gone: Gone = NOTHING) -> Finding:
        """At most `question.limit` hits, of what is not gone. Raises the errors of the store, unless it answered
        before."""
        asked = question.start_ms or None, question.end_ms or None
        without = gone.among(frozenset(question.cameras) or None, *asked)
        with Spent() as spent:
            return await self._find(question, vector, timeout_s, spent, without)

    async def _find(self, question: Question, vector: Vector, timeout_s: float, spent: Spent, gone: Gone) -> Finding:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        wanted = _first_wanted(question)
        most = min(MOST_HITS, max(_MOST_CANDIDATES, 2 * question.limit))
        found: Finding | None = None
        for _ in range(_MOST_REQUESTS):
            begun = loop.time()
            ask = _ask(question, vector, wanted, max(0.01, _INDEX_SHARE * (deadline - begun)), gone)
            try:
                with spent.on("index"), tracing.span("index", moments=wanted):
                    answer = _allowed(await self._store.search(ask), question.scope)
                    got = len(answer.hits)
                    answer = await self._without_newer(answer)
            except WatchwordError:
                if found is None:
                    raise
                return found
            if found is not None and _missed(answer) > _missed(found.answer):
                return found
            searched = max(answer.moments_searched, len(answer.hits))
            with spent.on("judge"), tracing.span("judge"):
                by_words = question.text is not None
                verdict = await self._judge.judge(
                    answer.hits, vector, searched, by_words=by_words, scope=question.scope
                )
                found = Finding(self._shaped(question, verdict), answer, verdict.threshold)
            if (
                len(found.hits) >= question.limit
                or got < wanted
                or wanted >= most
                or _hopeless(question, verdict.judged)
                or deadline - loop.time() < 2 * (loop.time() - begun)
            ):
                break
            wanted = min(_next_wanted(wanted, len(found.hits), question.limit), most)
        assert found is not None
        return found

    async def _without_newer(self, answer: Answer) -> Answer:
        if self._newer is None or not answer.hits:
            return answer
        there = {moment.id for moment in await self._newer.fetch([hit.span.id for hit in answer.hits], exact=False)}
        return replace(answer, hits=[hit for hit in answer.hits if hit.span.id not in there])

    def _shaped(self, question: Question, verdict: Verdict) -> list[Hit]:
        """The hits that these candidates make."""
        judged = [
            one
            for one in verdict.judged
            if one.scored.span.id != question.moment_id and one.confidence >= question.min_confidence
        ]
        if self._settings.relevance == "confidence":
            judged.sort(key=lambda one: (-one.confidence, -one.scored.score, one.scored.span.id))
        if question.all_moments:
            hits = [alone(one) for one in judged]
        else:
            hits = joined(judged, verdict.spread, verdict.threshold)
            hits = without_duplicates(hits, self._settings.most_duplicates, verdict.threshold)
        hits = hits[: question.limit]
        return sorted(hits, key=lambda hit: (hit.start_ms, hit.best.scored.span.id)) if question.by_time else hits


def _first_wanted(question: Question) -> int:
    """How many moments the index is asked for at first."""
    itself = question.moment_id is not None
    if question.all_moments and not question.min_confidence:
        return question.limit + itself
    return question.limit + min(3 * question.limit, _MOST_SPARE) + itself


def _next_wanted(wanted: int, hits: int, limit: int) -> int:
    """As many as would do if farther moments made hits as often as these did, and half as many again; at most four
    times as many. Candidates are what a question costs: each comes with the vectors of its rows."""
    return min(4 * wanted, max(2 * wanted, -(-3 * wanted * limit // (2 * max(1, hits)))))


def _ask(question: Question, vector: Vector, limit: int, timeout_s: float, gone: Gone) -> Ask:
    return Ask(
        vector,
        limit=limit,
        cameras=question.seen,
        start_ms=question.start_ms or None,
        end_ms=question.end_ms or None,
        timeout_s=timeout_s,
        objects=frozenset(question.objects),
        with_vectors=True,
        without=gone,
    )


def _allowed(answer: Answer, scope: Scope) -> Answer:
    """The answer without what may not be seen. The index was asked for nothing else; this does not rely on it."""
    if scope.whole:
        return answer
    return replace(answer, hits=[hit for hit in answer.hits if scope.allows(hit.span.camera)])


def _missed(answer: Answer) -> int:
    """How many parts of the index did not answer."""
    return len(answer.shards_missing) + len(answer.unsearched)


def _hopeless(question: Question, judged: Sequence[Judged]) -> bool:
    """Whether the farther half of the candidates has none that is sure enough: farther ones will hardly be."""
    farther = judged[len(judged) // 2 :]
    return question.min_confidence > 0 and all(one.confidence < question.min_confidence for one in farther)
