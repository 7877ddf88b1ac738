"""The coverage of an answer, as sentences for people and plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from proto.v1 import query_pb2
from watchword.times import local, span

_MOST_NAMED = 3
_LATEST_MS = 2**53
"""The end of an open span in the index."""


def not_searched(coverage: query_pb2.Coverage) -> list[str]:
    """Sentences about what was not searched, and why. Empty when everything was."""
    lines = [*_of_the_index(coverage), *_of_the_cameras(coverage)]
    if coverage.coverage_unknown:
        lines.append("whether a camera was away or is behind is not known: query.log in the logs folder says why")
    if coverage.partial and not lines:
        lines.append("the query service does not say what: it may be of a later version")
    return lines


def plain_coverage(coverage: query_pb2.Coverage) -> dict[str, Any]:
    """The whole coverage, for programs."""
    return {
        "partial": coverage.partial,
        "shards_missing": list(coverage.shards_missing),
        "shards_searched": coverage.shards_searched,
        "buckets_searched": coverage.buckets_searched,
        "unsearched": [
            {
                "shard": part.shard,
                "start_ms": part.start_ms,
                "end_ms": part.end_ms,
                "cameras": list(part.cameras),
                "cold": part.cold,
            }
            for part in coverage.unsearched
        ],
        "spaces_unsearched": list(coverage.spaces_unsearched),
        "gaps": [
            {
                "camera": gap.camera or None,
                "reason": gap.reason,
                "start": local(gap.start_ms),
                "end": local(gap.end_ms),
                "start_ms": gap.start_ms,
                "end_ms": gap.end_ms,
                "frames": gap.frames or None,
            }
            for gap in coverage.gaps
        ],
        "gaps_in_all": coverage.gaps_in_all,
        "frames_not_looked_at": coverage.frames_not_looked_at,
        "watermarks": [
            {"camera": mark.camera, "looked": local(mark.looked_ms), "looked_ms": mark.looked_ms}
            for mark in coverage.watermarks
        ],
        "coverage_unknown": coverage.coverage_unknown,
    }


def _of_the_index(coverage: query_pb2.Coverage) -> Iterator[str]:
    missing = list(coverage.shards_missing)
    if missing:
        yield f"{', '.join(missing)} did not answer{_of(coverage, missing)}: `watchword doctor` checks"
    for time in sorted({span(part.start_ms, part.end_ms) for part in coverage.unsearched if part.cold}):
        yield f"{time} was not searched, as it does not fit into memory with the rest: ask about that time alone"
    parts = [part for part in coverage.unsearched if part.shard not in missing and not part.cold]
    for part in parts[:_MOST_NAMED]:
        when = "everything" if part.end_ms >= _LATEST_MS else span(part.start_ms, part.end_ms)
        yield f"{part.shard} did not answer for {when}: ask again"
    if len(parts) > _MOST_NAMED:
        yield f"{len(parts) - _MOST_NAMED} more parts of the index did not answer"
    if spaces := list(coverage.spaces_unsearched):
        yield f"moments of another model bundle or version (space {', '.join(spaces)}) cannot be searched"


def _of(coverage: query_pb2.Coverage, shards: Sequence[str]) -> str:
    """Whose moments lie on these shards."""
    names = sorted({camera for part in coverage.unsearched if part.shard in shards for camera in part.cameras})
    if not names:
        return ""
    more = f" and {_count(len(names) - _MOST_NAMED, 'more camera')}" if len(names) > _MOST_NAMED else ""
    return f", which may have moments of {', '.join(names[:_MOST_NAMED])}{more}"


def _of_the_cameras(coverage: query_pb2.Coverage) -> Iterator[str]:
    for reason, say in _SENTENCES.items():
        gaps = [gap for gap in coverage.gaps if gap.reason == reason]
        if gaps:
            yield from say(gaps)
    others = [gap for gap in coverage.gaps if gap.reason not in _SENTENCES]
    if others:
        yield f"{_whose(others)} not looked at {_when(others)}"
    if (more := coverage.gaps_in_all - len(coverage.gaps)) > 0:
        were = f"{_count(more, 'more span')} {'was' if more == 1 else 'were'} not looked at"
        yield f"{were}; {_count(coverage.frames_not_looked_at, 'frame')} in all"


def _away(gaps: Sequence[query_pb2.Gap]) -> Iterator[str]:
    for gap in gaps[:_MOST_NAMED]:
        yield f"{gap.camera or 'a camera'} was away {span(gap.start_ms, gap.end_ms)}"
    if len(gaps) > _MOST_NAMED:
        others = len({gap.camera for gap in gaps[_MOST_NAMED:]})
        times = _count(len(gaps) - _MOST_NAMED, "more time")
        yield f"{_count(others, 'camera')} {'was' if others == 1 else 'were'} away {times}"


def _waiting(gaps: Sequence[query_pb2.Gap]) -> Iterator[str]:
    for gap in gaps[:_MOST_NAMED]:
        when = span(gap.start_ms, gap.end_ms)
        yield f"what {gap.camera} captured {when} was not looked at yet ({_long(gap.end_ms - gap.start_ms)})"
    if others := {gap.camera for gap in gaps} - {gap.camera for gap in gaps[:_MOST_NAMED]}:
        longest = _long(max(gap.end_ms - gap.start_ms for gap in gaps if gap.camera in others))
        yield f"{_count(len(others), 'more camera')} {'is' if len(others) == 1 else 'are'} behind, by up to {longest}"


def _shed(gaps: Sequence[query_pb2.Gap]) -> Iterator[str]:
    yield f"{_whose(gaps)} shed {_when(gaps)}: more came than could be looked at"


def _expired(gaps: Sequence[query_pb2.Gap]) -> Iterator[str]:
    they_were = "it was" if _frames(gaps) == 1 else "they were"
    yield f"{_whose(gaps)} dropped by the broker {_when(gaps)}, before {they_were} looked at"


def _lost(gaps: Sequence[query_pb2.Gap]) -> Iterator[str]:
    yield f"{_whose(gaps)} lost {_when(gaps)}, before the broker took {'it' if _frames(gaps) == 1 else 'them'}"


_SENTENCES = {"away": _away, "waiting": _waiting, "shed": _shed, "expired": _expired, "lost": _lost}


def _whose(gaps: Sequence[query_pb2.Gap]) -> str:
    """`340 frames of gate and dock were`: how many frames of which cameras."""
    frames = _frames(gaps)
    names = sorted({gap.camera for gap in gaps if gap.camera})
    if any(not gap.camera for gap in gaps):
        whose = ""  # it may be any camera
    elif len(names) <= _MOST_NAMED:
        whose = f" of {' and '.join(names)}"
    else:
        whose = f" of {len(names)} cameras"
    return f"{_count(frames, 'frame') if frames else 'frames'}{whose} {'was' if frames == 1 else 'were'}"


def _frames(gaps: Sequence[query_pb2.Gap]) -> int:
    return sum(gap.frames for gap in gaps)


def _when(gaps: Sequence[query_pb2.Gap]) -> str:
    start_ms, end_ms = min(gap.start_ms for gap in gaps), max(gap.end_ms for gap in gaps)
    when = span(start_ms, end_ms)
    return when if len(gaps) == 1 else f"in {len(gaps)} spans of {when}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _long(ms: int) -> str:
    """A duration in the largest unit that fits."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= 2 * size:
            return f"{ms // size} {unit}"
    return f"{ms // 1000} s"
