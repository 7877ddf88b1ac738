"""Neighbouring moments of one camera that answer alike become one hit, and near-duplicates are few. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from index.store import Scored
from proto.types import Box, Vectors

GAP_MS = 30_000
"""Moments of one camera with at most this between them are neighbours."""
SEEN_GAP_MS = 3_000
"""So much at most where it is known when what they show was there: each thing that passes is a hit of its own."""
_NEAR = 0.9
"""Cosine of the vectors of two neighbours' rows from which their scores may differ twice as much."""
_SAME = 0.98
"""Cosine of the vectors of two hits' rows from which they look the same."""
_SAME_PLACE = 0.4
"""Intersection over union of the boxes of two objects from which they may be one. The vectors of two sure objects of a
kind are always alike, since the name of the kind has the greater share in them."""
_SAME_TIME_MS = 600_000
"""Sure hits farther apart are never near-duplicates: each tells of another time at which it was there."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A moment that the index found, and how likely it is what was asked for."""

    scored: Scored
    confidence: float
    features: Mapping[str, float] = field(default_factory=dict)
    """What the confidence was computed from: see query/confidence.py."""


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """One hit of an answer: a moment, or neighbouring ones that answer alike."""

    best: Judged
    """The moment that answers best. Identity, peak, picture and confidence are its own."""
    start_ms: int
    """The span covers the times of all its rows: when what they show was there."""
    end_ms: int
    frames: int
    closed: bool
    """Whether all are closed."""
    objects: tuple[tuple[str, int], ...]
    """The kinds of objects seen, and how many of each at most at one time, ordered by kind."""
    moments: int


def alone(judged: Judged) -> Hit:
    """The moment as a hit by itself."""
    return _hit(judged, [judged])


def joined(judged: Sequence[Judged], tolerance: float, sure: float) -> list[Hit]:
    """The moments, best first, as hits, best first. Each moment is in exactly one hit.

    A hit grows from its best moment to both sides, as long as the next found moment of this camera shows the same thing
    on its way, or follows within GAP_MS (SEEN_GAP_MS) and answers alike: both are at least `sure`, or show the same
    kind of object, and the scores differ by at most `tolerance`, or by twice that when the rows look alike. What only
    resembles the question by chance is not joined: it would cover a long time that answers nothing.
    """
    of_camera = defaultdict[str, list[int]](list)
    for rank, one in enumerate(judged):
        of_camera[one.scored.span.camera].append(rank)
    hits: dict[int, Hit] = {}
    for ranks in of_camera.values():
        in_time = sorted(ranks, key=lambda rank: (judged[rank].scored.span.start_ms, judged[rank].scored.span.id))
        place = {rank: number for number, rank in enumerate(in_time)}
        taken: set[int] = set()
        for rank in ranks:
            if rank not in taken:
                group = _around(place[rank], in_time, judged, taken, tolerance, sure)
                taken.update(group)
                hits[rank] = _hit(judged[rank], [judged[one] for one in group])
    return [hits[rank] for rank in sorted(hits)]


def without_duplicates(hits: Sequence[Hit], most: int, sure: float) -> list[Hit]:
    """The hits, best first, without those that resemble `most` better ones of their camera.

    Hits of at least the confidence `sure` resemble only those of their own time.
    """
    of_camera = defaultdict[str, list[int]](list)
    for rank, hit in enumerate(hits):
        if hit.best.scored.vector is not None:
            of_camera[hit.best.scored.span.camera].append(rank)
    left_out: set[int] = set()
    for ranks in of_camera.values():
        if len(ranks) > most:
            kept = _distinct([hits[rank] for rank in ranks], most, sure)
            left_out.update(rank for rank, stays in zip(ranks, kept, strict=True) if not stays)
    return [hit for rank, hit in enumerate(hits) if rank not in left_out]


def _distinct(hits: Sequence[Hit], most: int, sure: float) -> NDArray[np.bool_]:
    """Which of these hits of one camera stay."""
    rows = [hit.best.scored for hit in hits]
    vectors: Vectors = np.stack([row.vector for row in rows if row.vector is not None])
    alike = vectors @ vectors.T >= _SAME
    starts, ends = np.array([(hit.start_ms, hit.end_ms) for hit in hits], np.int64).T
    kept = np.zeros(len(hits), np.bool_)
    for number, (hit, row) in enumerate(zip(hits, rows, strict=True)):
        others = kept & alike[number]
        if hit.best.confidence >= sure:
            others &= (starts - hit.end_ms <= _SAME_TIME_MS) & (hit.start_ms - ends <= _SAME_TIME_MS)
        found = np.flatnonzero(others)
        if len(found) >= most and row.kind:
            places = (rows[other] for other in found)
            same = (not other.kind or _same_place(row.box, other.box) for other in places)
            kept[number] = sum(islice(filter(None, same), most)) < most
        else:
            kept[number] = len(found) < most
    return kept


def _same_place(one: Box, other: Box) -> bool:
    common = one.common(other)
    return common >= _SAME_PLACE * (one.area + other.area - common)


def _around(
    middle: int, in_time: Sequence[int], judged: Sequence[Judged], taken: set[int], tolerance: float, sure: float
) -> list[int]:
    """The ranks of the moment at `middle` and of its neighbours on both sides that answer alike."""
    best, is_sure = judged[in_time[middle]].scored, judged[in_time[middle]].confidence >= sure
    group = [in_time[middle]]
    start_ms, end_ms = best.times
    for step in (-1, 1):
        place = middle + step
        while 0 <= place < len(in_time) and (rank := in_time[place]) not in taken:
            other = judged[rank].scored
            since_ms, until_ms = other.times
            apart_ms = max(start_ms - until_ms, since_ms - end_ms)
            if not _is_one_thing(best, other):
                both_sure = is_sure and judged[rank].confidence >= sure
                if not both_sure and not (other.kind and other.kind == best.kind):
                    break
                most_ms = SEEN_GAP_MS if best.until_ms and other.until_ms else GAP_MS
                if apart_ms > most_ms or not _alike(best, other, tolerance):
                    break
            group.append(rank)
            start_ms, end_ms = min(start_ms, since_ms), max(end_ms, until_ms)
            place += step
    return group


def _is_one_thing(one: Scored, other: Scored) -> bool:
    """Whether both rows show something that moved and was followed from one moment to the next."""
    return one.since_ms != 0 and one.since_ms == other.since_ms


def _alike(best: Scored, other: Scored, tolerance: float) -> bool:
    apart = abs(best.score - other.score)
    if apart <= tolerance or best.vector is None or other.vector is None:
        return apart <= tolerance
    return apart <= 2 * tolerance and float(best.vector @ other.vector) >= _NEAR


def _hit(best: Judged, group: Sequence[Judged]) -> Hit:
    spans = [one.scored.span for one in group]
    times = [one.scored.times for one in group]
    objects: Counter[str] = Counter()
    for span in spans:
        objects |= Counter(dict(span.objects))
    return Hit(
        best=best,
        start_ms=min(since_ms for since_ms, _ in times),
        end_ms=max(until_ms for _, until_ms in times),
        frames=sum(span.frames for span in spans),
        closed=all(span.closed for span in spans),
        objects=tuple(sorted(objects.items())),
        moments=len(spans),
    )
