"""Filters on moments, and their Milvus expressions.

Expressions are literal: neither milvus-lite nor Milvus 2.3 supports templates. Every value is checked before it reaches
an expression, and every text is quoted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from index.store import check_filter
from proto.types import Span, check_moment_ids


@dataclass(frozen=True, slots=True)
class Filter:
    """Passes the moments that meet all conditions. None is no condition."""

    cameras: frozenset[str] | None = None
    """Never an empty set: it matches nothing, so the caller skips the call."""
    ends_from: int | None = None
    """Moments that end then or later."""
    starts_from: int | None = None
    starts_before: int | None = None

    def __post_init__(self) -> None:
        check_filter(self.cameras, self.ends_from, self.starts_before)
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
        )


def overlapping(cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> Filter:
    """Passes the moments of these cameras that overlap [start_ms, end_ms)."""
    return Filter(cameras, ends_from=start_ms, starts_before=end_ms)


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
    return " and ".join(parts)


def ids_filter(ids: Sequence[str]) -> str:
    """An expression that passes the moments with these ids."""
    check_moment_ids(ids)
    return f"id in {_listed(ids)}"


def _listed(texts: Iterable[str]) -> str:
    words = sorted(set(texts))
    if not words:
        raise ValueError("a filter that nothing can pass")
    return f"[{', '.join(map(_quoted, words))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
