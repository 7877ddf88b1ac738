"""Which hits answer a question. Pure; this is the one definition that every metric uses.

A hit is right when it is of the recording of a relevant span, and

- its instant (`at_ms`, else the peak) lies in the span, or at most a second beside it, or
- at least half of the hit's own span lies in it.

The first is what a person is shown; the second holds for a hit whose picture was taken just outside. A hit that is much
longer than what was asked for is right only if its instant is. Boxes have no say in this; their agreement is reported
beside it: of a right hit and its relevant span, where both have a box, the boxes agree if their intersection is at
least half of their union, or the centre of the hit's box lies in the relevant one. The relevant box is that of the
instant of the hit where the span has a track, else its only one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evals.answers import Hit
from evals.dataset import Question, Relevant, Video
from proto.types import Box

BESIDE_MS = 1000
LEAST_SHARE = 0.5
LEAST_BOX_IOU = 0.5

Times = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """The hits of one question that count, in their order."""

    matches: tuple[frozenset[int], ...]
    """Which relevant spans each hit answers, by their places; empty: the hit is wrong."""
    relevant: int
    """How many spans there are to be found."""
    hits: tuple[Hit, ...]
    first_iou: float
    """The best temporal IoU of the first hit with a relevant span; 0 without a hit."""
    box: float | None
    """Whether the boxes of the first right hit that has one agree: 1 or 0; None where there is nothing to compare."""


def everything(_: Relevant) -> bool:
    """Keeps every relevant span."""
    return True


def judge(
    question: Question,
    hits: Sequence[Hit],
    videos: Mapping[str, Video],
    kept: Callable[[Relevant], bool] = everything,
) -> Judged:
    """Judge the hits by the relevant spans that are `kept`. A hit that answers only others counts neither as right nor
    as wrong: it is left out."""
    wanted = [one for one in question.relevant if kept(one)]
    others = [one for one in question.relevant if not kept(one)]
    counted, matches = [], []
    for hit in hits:
        found = frozenset(place for place, one in enumerate(wanted) if is_right(hit, one, videos))
        if found or not any(is_right(hit, one, videos) for one in others):
            counted.append(hit)
            matches.append(found)
    first_iou = max((_iou_in_time(counted[0], one, videos) for one in wanted), default=0.0) if counted else 0.0
    return Judged(tuple(matches), len(wanted), tuple(counted), first_iou, _boxes(counted, matches, wanted, videos))


def is_right(hit: Hit, relevant: Relevant, videos: Mapping[str, Video]) -> bool:
    """Whether the hit answers the span."""
    if hit.camera != relevant.video or relevant.video not in videos:
        return False
    start_ms, end_ms = times_of(relevant, videos)
    if start_ms - BESIDE_MS <= hit.at_ms <= end_ms + BESIDE_MS:
        return True
    common = min(hit.end_ms, end_ms) - max(hit.start_ms, start_ms)
    return common > 0 and common >= LEAST_SHARE * (hit.end_ms - hit.start_ms)


def times_of(relevant: Relevant, videos: Mapping[str, Video]) -> Times:
    """The span in milliseconds since the Unix epoch."""
    begin_ms = videos[relevant.video].start_ms
    return begin_ms + 1000 * relevant.start_s, begin_ms + 1000 * relevant.end_s


def overlap(first: Times, second: Times) -> float:
    """Intersection over union of two spans of time."""
    common = min(first[1], second[1]) - max(first[0], second[0])
    whole = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, common) / whole if whole > 0 else float(first == second)


def boxes_agree(found: Box, true: Box) -> bool:
    """Whether a hit's box shows the same place as the relevant one."""
    width = min(found.right, true.right) - max(found.left, true.left)
    height = min(found.bottom, true.bottom) - max(found.top, true.top)
    common = max(0.0, width) * max(0.0, height)
    if common >= LEAST_BOX_IOU * (found.area + true.area - common):
        return True
    across, down = (found.left + found.right) / 2, (found.top + found.bottom) / 2
    return true.left <= across <= true.right and true.top <= down <= true.bottom


def boxes_at(relevant: Relevant, at_ms: int, videos: Mapping[str, Video]) -> list[Box]:
    """Where the things of the span are at this instant."""
    if not relevant.track:
        return [] if relevant.box is None else [relevant.box]
    at_s = (at_ms - videos[relevant.video].start_ms) / 1000
    nearest_s = min((second for second, _ in relevant.track), key=lambda second: abs(second - at_s))
    return [box for second, box in relevant.track if second == nearest_s]


def _iou_in_time(hit: Hit, relevant: Relevant, videos: Mapping[str, Video]) -> float:
    if hit.camera != relevant.video or relevant.video not in videos:
        return 0.0
    return overlap((hit.start_ms, hit.end_ms), times_of(relevant, videos))


def _boxes(
    hits: Sequence[Hit],
    matches: Sequence[frozenset[int]],
    wanted: Sequence[Relevant],
    videos: Mapping[str, Video],
) -> float | None:
    for hit, found in zip(hits, matches, strict=True):
        true = [box for place in sorted(found) for box in boxes_at(wanted[place], hit.at_ms, videos)]
        if hit.box is not None and true:
            return float(any(boxes_agree(hit.box, box) for box in true))
    return None
