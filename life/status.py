"""What the index holds by time and camera, and what retention will remove when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from index.filters import Filter
from index.removal import Holding
from life.stores import Rows
from proto.life import DAY_MS, DEFAULT, Rules

_ROWS = 10_000


async def status_of(rows: Rows, rules: Rules, cameras: Sequence[str], now_ms: int) -> dict[str, Any]:
    """Plain values, for programs and for people."""
    found = await rows.holdings()
    now, tomorrow = rules.gone(now_ms), rules.gone(now_ms + DAY_MS)
    buckets: dict[Any, dict[str, Any]] = {}
    later = 0
    for holding in found.known:
        bucket = holding.bucket
        one = buckets.setdefault(
            bucket,
            {
                "start_ms": bucket.start_ms,
                "hours": bucket.hours,
                "moments": 0,
                "gone": 0,
                "expires_ms": _expires(bucket.end_ms, rules),
            },
        )
        one["moments"] += await rows.count(holding, Filter())
        if not now.nothing:
            one["gone"] += await rows.count(holding, Filter(only=now))
        if bucket.start_ms < tomorrow.ceiling_ms:
            later += await rows.count(holding, Filter(only=tomorrow, without=now))
    return {
        "buckets": list(buckets.values()),
        "moments": sum(one["moments"] for one in buckets.values()),
        "gone": sum(one["gone"] for one in buckets.values()),
        "gone_tomorrow": later,
        "cameras": [
            {
                "camera": name,
                "oldest_ms": await _oldest(rows, found.known, name, rules, now_ms),
                "days": rules.days.get(name, rules.days.get(DEFAULT)),
            }
            for name in cameras
        ],
        "missing": {name: str(error) for name, error in found.missing.items()},
    }


async def _oldest(rows: Rows, known: Sequence[Holding], camera: str, rules: Rules, now_ms: int) -> int | None:
    """When the camera's oldest moment that is shown began, among those that can be read at once."""
    which = Filter(frozenset({camera}), without=rules.gone(now_ms).among(frozenset({camera}), None, None))
    for holding in known:
        if found := await rows.rows(holding, which, _ROWS):
            return min(row.start_ms for row in found)
    return None


def _expires(end_ms: int, rules: Rules) -> int | None:
    """When everything in a bucket with this end is too old; None: never, as far as limits go."""
    if DEFAULT not in rules.days:
        return None
    return end_ms + round(max(rules.days.values()) * DAY_MS)
