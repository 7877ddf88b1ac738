"""Where a moment is stored: pure rules from a time to bucket and collection."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_HOUR_MS = 3_600_000
_SCHEME = "watchword4"
"""Prefix of every collection name. Changes with the fields of a row, so that a collection never mixes two layouts."""
_COLLECTION = re.compile(_SCHEME + r"_([0-9a-f]{16})_(\d{1,4})h_(\d{1,12})")
_FORMER = re.compile(r"watchword[1-3]?_([0-9a-f]{16})_(\d{1,4})h_(\d{1,12})")
_NEAR_MS = 7 * 24 * _HOUR_MS
MOST_STRETCHES = 50
"""Most stretches of time per shard that lie more than a week apart."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """Holds the moments that start in [start_ms, end_ms)."""

    hours: int
    number: int
    """Counts buckets of this width since 1970."""

    @property
    def start_ms(self) -> int:
        return self.number * self.hours * _HOUR_MS

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.hours * _HOUR_MS

    def __str__(self) -> str:
        return f"{self.hours}h/{self.number}"

    def holds(self, start_ms: int) -> bool:
        """Whether a moment with this start belongs here."""
        return self.start_ms <= start_ms < self.end_ms

    def overlaps(self, other: Bucket) -> bool:
        """Whether the two share any time."""
        return self.start_ms < other.end_ms and other.start_ms < self.end_ms

    def touches(self, start_ms: int | None, end_ms: int | None, longest_ms: int) -> bool:
        """Whether it can hold a moment of at most `longest_ms` that overlaps [start_ms, end_ms)."""
        return (end_ms is None or self.start_ms < end_ms) and (start_ms is None or self.end_ms > start_ms - longest_ms)

    def nearly_over(self, at_ms: int) -> bool:
        """Whether `at_ms` is in its last tenth: time to prepare the next one."""
        return at_ms >= self.end_ms - self.hours * _HOUR_MS // 10


def bucket_of(start_ms: int, hours: int) -> Bucket:
    """The bucket of this width for a moment with this start."""
    return Bucket(hours, start_ms // (hours * _HOUR_MS))


def bucket_for(start_ms: int, hours: int, existing: Collection[Bucket]) -> Bucket:
    """The bucket that stores a moment with this start: an existing one of any width, else a new one of `hours`.

    Otherwise a moment that is open while the width changes would be stored twice. A new bucket that would overlap a
    wider one is made narrower, down to one hour. So the narrowest of several that hold a time is the oldest.
    """
    holding = [bucket for bucket in existing if bucket.holds(start_ms)]
    if holding:
        return min(holding)
    while hours > 1 and any(other.hours > hours and other.overlaps(bucket_of(start_ms, hours)) for other in existing):
        hours //= 2
    return bucket_of(start_ms, hours)


def may_be_made(bucket: Bucket, existing: Collection[Bucket]) -> bool:
    """Whether a shard with these buckets may get this one.

    A bucket within a week of another always may. Times far from all others come mostly from wrong clocks, and each
    would create a collection, so the number of such stretches is limited.
    """
    stretches = 0
    end_ms: int | None = None
    for other in sorted(existing, key=lambda one: one.start_ms):
        if bucket.start_ms - _NEAR_MS <= other.end_ms and other.start_ms <= bucket.end_ms + _NEAR_MS:
            return True
        if end_ms is None or other.start_ms > end_ms + _NEAR_MS:
            stretches += 1
        end_ms = max(end_ms or 0, other.end_ms)
    return stretches < MOST_STRETCHES


def stretches(buckets: Collection[Bucket]) -> list[tuple[int, int]]:
    """The times [start_ms, end_ms) that they cover together, in order."""
    found: list[tuple[int, int]] = []
    for one in sorted(buckets, key=lambda one: one.start_ms):
        if found and one.start_ms <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], one.end_ms)
        else:
            found.append((one.start_ms, one.end_ms))
    return found


def collection_name(space: str, bucket: Bucket) -> str:
    """The collection that holds this bucket's moments of this space."""
    return f"{_SCHEME}_{space}_{bucket.hours}h_{bucket.number}"


def collection_named(name: str) -> tuple[str, Bucket] | None:
    """The space and bucket of a collection; None when it is not one of ours."""
    parts = _COLLECTION.fullmatch(name)
    return (parts[1], Bucket(int(parts[2]), int(parts[3]))) if parts else None


def former_named(name: str) -> tuple[str, Bucket] | None:
    """What stands for the space, and the bucket, of a collection of an earlier layout, which is not read; None when it
    is none."""
    parts = _FORMER.fullmatch(name)
    return (f"{parts[1]} of an earlier version", Bucket(int(parts[2]), int(parts[3]))) if parts else None
