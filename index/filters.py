"""Filters on moments, and their Milvus expressions.

Expressions are literal: neither milvus-lite nor Milvus 2.3 supports templates. Every value is checked before it reaches
an expression, and every text is quoted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from index.checks import check_filter
from index.rows import row_ids
from index.store import LATEST_MS, Ask
from proto.life import NOTHING, Gone, Stretch
from proto.types import Span

_MOST_CHAINED = 8


@dataclass(frozen=True, slots=True)
class Filter:
    """Passes the moments that meet all conditions. None is no condition."""

    cameras: frozenset[str] | None = None
    """Never an empty set: it matches nothing, so the caller skips the call."""
    ends_from: int | None = None
    """Moments that end then or later."""
    starts_from: int | None = None
    starts_before: int | None = None
    objects: frozenset[str] = frozenset()
    """Moments in which all of these kinds of objects were seen."""
    without: Gone = NOTHING
    """Moments that are not gone."""
    only: Gone | None = None
    """Moments that are gone."""

    def __post_init__(self) -> None:
        check_filter(self.cameras, self.ends_from, self.starts_before, self.objects)
        check_filter(None, self.starts_from, None)
        if self.cameras is not None and not self.cameras:
            raise ValueError("a filter that nothing can pass")

    def passes(self, span: Span) -> bool:
        """Whether the span meets all conditions."""
        return (
            (self.cameras is None or span.camera in self.cameras)
            and (self.ends_from is None or span.end_ms >= self.ends_from)
            and (self.starts_from is None or span.start_ms >= self.starts_from)
            and (self.starts_before is None or span.start_ms < self.starts_before)
            and self.objects <= {kind for kind, _ in span.objects}
            and not self.without.covers(span.camera, span.start_ms, span.end_ms)
            and (self.only is None or self.only.covers(span.camera, span.start_ms, span.end_ms))
        )


def overlapping(
    cameras: frozenset[str] | None,
    start_ms: int | None,
    end_ms: int | None,
    objects: frozenset[str] = frozenset(),
    without: Gone = NOTHING,
) -> Filter:
    """Passes the moments of these cameras that overlap [start_ms, end_ms), show these kinds of objects and are not
    gone."""
    return Filter(cameras, ends_from=start_ms, starts_before=end_ms, objects=objects, without=without)


def asked(ask: Ask) -> Filter:
    """Passes what the search may find."""
    return overlapping(ask.cameras, ask.start_ms, ask.end_ms, ask.objects, ask.without)


@lru_cache(maxsize=16)
def expression(which: Filter) -> str:
    """The filter as a Milvus expression; empty text passes all. Cached, since a search sends every bucket the same."""
    parts = []
    if which.cameras is not None:
        parts.append(f"camera in {_listed(which.cameras)}")
    if which.ends_from is not None:
        parts.append(f"end_ms >= {int(which.ends_from)}")
    if which.starts_from is not None:
        parts.append(f"start_ms >= {int(which.starts_from)}")
    if which.starts_before is not None:
        parts.append(f"start_ms < {int(which.starts_before)}")
    # JSON, not a text or an array: it holds the counts too, and Milvus 2.3 finds a text by its beginning only.
    parts += [f"objects[{_quoted(kind)}] > 0" for kind in sorted(which.objects)]
    parts += _not_gone(which.without)
    if which.only is not None:
        parts.append(_gone(which.only))
    return _joined(parts, "and")


def _not_gone(gone: Gone) -> list[str]:
    """Conditions that everything meets which is not gone."""
    limits = [(before_ms, _among(cameras), _others(cameras)) for before_ms, cameras in gone.own]
    own = frozenset[str]().union(*(cameras for _, cameras in gone.own))
    limits.append((gone.before_ms, _others(own), _among(own)))
    held = [_inside(one) for one in gone.held]
    parts = []
    for before_ms, mine, others in limits:
        if before_ms:
            parts.append(_any_of([f"start_ms >= {int(before_ms)}", *([others] if mine else []), *held]))
    parts += [_any_of([*_beyond(one.stretch), *map(_inside, one.unless)]) for one in gone.erased]
    return parts


def _gone(gone: Gone) -> str:
    """A condition that everything meets which is gone, and nothing else."""
    own = frozenset[str]().union(*(cameras for _, cameras in gone.own))
    limits = [(before_ms, _among(cameras)) for before_ms, cameras in gone.own] + [(gone.before_ms, _others(own))]
    spared = [_any_of(_beyond(one)) for one in gone.held]
    kinds = []
    for before_ms, mine in limits:
        if before_ms:
            kinds.append(_all_of([*([mine] if mine else []), f"start_ms < {int(before_ms)}", *spared]))
    kinds += [
        _all_of([_inside(erased.stretch), *(_any_of(_beyond(one)) for one in erased.unless)]) for erased in gone.erased
    ]
    return _any_of(kinds) if kinds else "start_ms < 0"


def _among(cameras: frozenset[str]) -> str:
    return f"camera in {_listed(cameras)}" if cameras else ""


def _others(cameras: frozenset[str]) -> str:
    return f"camera not in {_listed(cameras)}" if cameras else ""


def _inside(stretch: Stretch) -> str:
    parts = [f"camera == {_quoted(stretch.camera)}"]
    if stretch.start_ms > 0:
        parts.append(f"end_ms >= {int(stretch.start_ms)}")
    if stretch.end_ms < LATEST_MS:
        parts.append(f"start_ms < {int(stretch.end_ms)}")
    return _all_of(parts)


def _beyond(stretch: Stretch) -> list[str]:
    """Conditions of which everything meets one that does not touch it."""
    parts = [f"camera != {_quoted(stretch.camera)}"]
    if stretch.start_ms > 0:
        parts.append(f"end_ms < {int(stretch.start_ms)}")
    if stretch.end_ms < LATEST_MS:
        parts.append(f"start_ms >= {int(stretch.end_ms)}")
    return parts


def _any_of(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({_joined(parts, 'or')})"


def _all_of(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({_joined(parts, 'and')})"


def _joined(parts: Sequence[str], word: str) -> str:
    """In halves where they are many. Milvus makes one level of each condition of a chain, and 2.3 reads 49 levels: with
    50 erasures it would answer no question."""
    if len(parts) <= _MOST_CHAINED:
        return f" {word} ".join(parts)
    middle = len(parts) // 2
    return f"({_joined(parts[:middle], word)}) {word} ({_joined(parts[middle:], word)})"


def rows_filter(ids: Sequence[str]) -> str:
    """An expression that passes the rows of the moments with these ids."""
    return f"id in {_listed(row_ids(ids))}"


def _listed(texts: Iterable[str]) -> str:
    words = sorted(set(texts))
    if not words:
        raise ValueError("a filter that nothing can pass")
    return f"[{', '.join(map(_quoted, words))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
