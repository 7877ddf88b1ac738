"""Filter expressions for Milvus, in literal form: neither milvus-lite nor Milvus 2.3 knows templates.

Nothing reaches an expression that was not checked first, and every text in it is quoted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from index.store import check_filter
from proto.types import check_moment_ids


def moments_filter(cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> str:
    """Passes the moments of these cameras that overlap [start_ms, end_ms); empty text passes all.

    `cameras` must not be an empty set: nothing can match, so nothing should be asked.
    """
    check_filter(cameras, start_ms, end_ms)
    parts = []
    if cameras is not None:
        parts.append(f"camera in {_listed(cameras)}")
    if start_ms is not None:
        parts.append(f"end_ms >= {int(start_ms)}")
    if end_ms is not None:
        parts.append(f"start_ms < {int(end_ms)}")
    return " and ".join(parts)


def ids_filter(ids: Sequence[str]) -> str:
    """Passes the moments of these ids."""
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
