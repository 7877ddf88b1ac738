"""How many bytes the moments of a camera take, and from where on they fit its limit.

Rows are counted, not read, and the pictures of a few moments stand for those of their bucket: it is an estimate.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from index.filters import Filter
from index.places import Bucket
from index.removal import Holding
from life.sizing import Sized, floor_of
from life.stores import Pictures, Rows
from proto.life import DAY_MS, Rules

ROW_BYTES = 2_600
"""What a row takes in the index, with its vector: as `watchword plan` reckons."""
HOUR_MS = 3_600_000
LATEST_MS = HOUR_MS
"""What started within it always stays: a moment lasts up to an hour."""
_ROWS = 200
_SAMPLE = 8
"""The pictures of so many moments of a bucket are read."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """What a moment of a bucket takes, on average."""

    rows: float
    pictures: float


class Measuring:
    """Measures cameras. What it learned of buckets that are over is kept for as long as it lives."""

    def __init__(self, rows: Rows, pictures: Pictures) -> None:
        self._rows = rows
        self._pictures = pictures
        self._weights: dict[tuple[str, Bucket], _Weight] = {}

    def forget(self, known: Sequence[Holding]) -> None:
        """Drop what was learned of buckets that are no more."""
        there = {one.bucket for one in known}
        self._weights = {key: weight for key, weight in self._weights.items() if key[1] in there}

    async def floor(self, known: Sequence[Holding], camera: str, rules: Rules, now_ms: int) -> int:
        """Where the camera begins by its bytes; 0 when everything fits or it has no such limit."""
        limit = rules.limit(camera)
        if limit is None:
            return 0
        before_ms = rules.gone(now_ms).before_of(camera)
        sizes: list[Sized] = []
        for bucket in sorted({one.bucket for one in known}, key=lambda one: (one.end_ms, one.hours), reverse=True):
            if bucket.end_ms <= before_ms:
                break  # only what is held is left of it, and that goes when its hold does
            whole = await self.size(known, camera, rules, now_ms, bucket.start_ms, bucket.end_ms, bucket)
            if sum(one.bytes for one in sizes) + whole.bytes <= limit:
                sizes.append(whole)
                continue
            for start_ms in range(bucket.end_ms - HOUR_MS, bucket.start_ms - 1, -HOUR_MS):
                sizes.append(await self.size(known, camera, rules, now_ms, start_ms, start_ms + HOUR_MS, bucket))
                if (found := floor_of(sizes, limit)) is not None:
                    return max(0, min(found, (now_ms - LATEST_MS) // HOUR_MS * HOUR_MS))
        return 0

    async def size(
        self,
        known: Sequence[Holding],
        camera: str,
        rules: Rules,
        now_ms: int,
        start_ms: int,
        end_ms: int,
        only: Bucket | None = None,
    ) -> Sized:
        """What the camera's moments take that start in this time and may be shown, in all buckets or in one."""
        without = rules.gone(now_ms).among(frozenset({camera}), start_ms, None)
        which = Filter(frozenset({camera}), starts_from=start_ms, starts_before=end_ms, without=without)
        # Spaces have the same moments, with rows of their own and pictures in common.
        counts = defaultdict[Bucket, dict[str, int]](dict)
        fullest: dict[Bucket, tuple[int, Holding]] = {}
        for one in known:
            bucket = one.bucket
            if (only is not None and bucket != only) or not bucket.touches(start_ms, end_ms, 0):
                continue
            if count := await self._rows.count(one, which):
                counts[bucket][one.space] = counts[bucket].get(one.space, 0) + count
                fullest[bucket] = max(fullest.get(bucket, (0, one)), (count, one))
        total = 0.0
        for bucket, by_space in counts.items():
            weight = await self._weight(fullest[bucket][1], camera, now_ms, which)
            total += sum(by_space.values()) * weight.rows * ROW_BYTES + max(by_space.values()) * weight.pictures
        return Sized(start_ms, end_ms, total)

    async def _weight(self, holding: Holding, camera: str, now_ms: int, which: Filter) -> _Weight:
        """What a moment takes, by some that pass."""
        key = camera, holding.bucket
        if key in self._weights:
            return self._weights[key]
        rows = await self._rows.rows(holding, which, _ROWS)
        moments = sorted({row.moment for row in rows})
        sample = moments[:: max(1, len(moments) // _SAMPLE)][:_SAMPLE]
        size = await asyncio.to_thread(self._pictures.bytes_of, sample) if sample else 0
        weight = _Weight(len(rows) / max(1, len(moments)), size / max(1, len(sample)))
        if moments and holding.bucket.end_ms < now_ms - DAY_MS:
            self._weights[key] = weight
        return weight
