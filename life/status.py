"""What the index holds by time and camera, and what retention will remove when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from index.filters import Filter
from index.removal import Holding
from life.measuring import HOUR_MS, Measuring
from life.stores import Pictures, Rows
from proto.life import DAY_MS, DEFAULT, Gone, Rules

_ROWS = 10_000


async def status_of(
    rows: Rows, pictures: Pictures, rules: Rules, cameras: Sequence[str], now_ms: int
) -> dict[str, Any]:
    """Plain values, for programs and for people."""
    measuring = Measuring(rows, pictures)
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

    async def camera_told(name: str) -> dict[str, Any]:
        oldest_ms = await _oldest(rows, found.known, name, rules, now_ms)
        return {
            "camera": name,
            "oldest_ms": oldest_ms,
            "days": rules.days.get(name, rules.days.get(DEFAULT)),
            **await _within(rows, measuring, found.known, name, rules, now_ms, oldest_ms),
        }

    return {
        "buckets": list(buckets.values()),
        "moments": sum(one["moments"] for one in buckets.values()),
        "gone": sum(one["gone"] for one in buckets.values()),
        "gone_tomorrow": later,
        "cameras": [await camera_told(name) for name in cameras],
        "missing": {name: str(error) for name, error in found.missing.items()},
    }


async def _oldest(rows: Rows, known: Sequence[Holding], camera: str, rules: Rules, now_ms: int) -> int | None:
    """When the camera's oldest moment that is shown began, among those that can be read at once."""
    which = Filter(frozenset({camera}), without=rules.gone(now_ms).among(frozenset({camera}), None, None))
    for holding in known:
        if found := await rows.rows(holding, which, _ROWS):
            return min(row.start_ms for row in found)
    return None


async def _within(
    rows: Rows,
    measuring: Measuring,
    known: Sequence[Holding],
    camera: str,
    rules: Rules,
    now_ms: int,
    oldest_ms: int | None,
) -> dict[str, Any]:
    """The camera's limit in bytes, how many days it holds at the rate of the last day, where the camera begins by it,
    and how many moments before that are held."""
    limit, floor_ms = rules.limit(camera), rules.floors.get(camera, 0)
    told: dict[str, Any] = {"bytes": limit, "floor_ms": floor_ms or None, "bytes_a_day": None, "bytes_days": None}
    if limit is not None:
        # Of a shorter time where there is no more: a camera that is new, or keeps less than a day.
        since_ms = min(max(now_ms - DAY_MS, rules.gone(now_ms).before_of(camera), oldest_ms or 0), now_ms - HOUR_MS)
        lately = await measuring.size(known, camera, rules, now_ms, max(0, since_ms), now_ms)
        a_day = lately.bytes * DAY_MS / (now_ms - since_ms)
        told |= {"bytes_a_day": round(a_day), "bytes_days": limit / a_day if a_day else None}
    held = 0
    if floor_ms and any(one.stretch.camera == camera for one in rules.holds):
        below = Gone(own=((floor_ms, frozenset({camera})),))
        which = Filter(frozenset({camera}), only=below, without=rules.gone(now_ms).among(frozenset({camera}), 0, None))
        held = sum([await rows.count(one, which) for one in known if one.bucket.start_ms < floor_ms])
    return {**told, "held_below": held}


def _expires(end_ms: int, rules: Rules) -> int | None:
    """When everything in a bucket with this end is too old; None: never, as far as limits go."""
    if DEFAULT not in rules.days:
        return None
    return end_ms + round(max(rules.days.values()) * DAY_MS)
