"""Where a moment rests: pure rules from camera and time to endpoint, bucket and collection."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_HOUR_MS = 3_600_000
_SCHEME = "watchword2"
"""Begins the name of every collection. It changes with the fields of a row, so that rows of another kind never meet."""
_COLLECTION = re.compile(_SCHEME + r"_([0-9a-f]{16})_(\d{1,4})h_(\d{1,12})")
_NEAR_MS = 7 * 24 * _HOUR_MS
MOST_STRETCHES = 50
"""A shard has no more stretches of time than this that lie more than a week apart."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The moments that start in [start_ms, end_ms)."""

    hours: int
    number: int
    """Counts buckets of this width since 1970."""

    @property
    def start_ms(self) -> int:
        return self.number * self.hours * _HOUR_MS

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.hours * _HOUR_MS

    def holds(self, start_ms: int) -> bool:
        """Whether a moment that starts then belongs here."""
        return self.start_ms <= start_ms < self.end_ms

    def overlaps(self, other: Bucket) -> bool:
        """Whether a time lies in both."""
        return self.start_ms < other.end_ms and other.start_ms < self.end_ms

    def touches(self, start_ms: int | None, end_ms: int | None, longest_ms: int) -> bool:
        """Whether it can hold a moment, no longer than `longest_ms`, that overlaps [start_ms, end_ms)."""
        return (end_ms is None or self.start_ms < end_ms) and (start_ms is None or self.end_ms > start_ms - longest_ms)

    def nearly_over(self, at_ms: int) -> bool:
        """Whether `at_ms` is in its last tenth: time to prepare the next one."""
        return at_ms >= self.end_ms - self.hours * _HOUR_MS // 10


def bucket_of(start_ms: int, hours: int) -> Bucket:
    """The bucket of this width for a moment that starts then."""
    return Bucket(hours, start_ms // (hours * _HOUR_MS))


def bucket_for(start_ms: int, hours: int, existing: Collection[Bucket]) -> Bucket:
    """The bucket where a moment that starts then is stored: one that exists, of whatever width, else one of `hours`.

    Otherwise a moment that is open while the width is changed would be stored twice. A new one that would overlap a
    wider one is made narrower, down to an hour. So of several that hold a time the narrowest was there first.
    """
    holding = [bucket for bucket in existing if bucket.holds(start_ms)]
    if holding:
        return min(holding)
    while hours > 1 and any(other.hours > hours and other.overlaps(bucket_of(start_ms, hours)) for other in existing):
        hours //= 2
    return bucket_of(start_ms, hours)


def may_be_made(bucket: Bucket, existing: Collection[Bucket]) -> bool:
    """Whether a shard with these buckets may get this one.

    What lies within a week of others always may. Times that are far from all others are mostly those of wrong clocks,
    and each would make a collection: a shard takes only so many such stretches.
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


def collection_name(space: str, bucket: Bucket) -> str:
    """The collection that holds this bucket's moments of this space."""
    return f"{_SCHEME}_{space}_{bucket.hours}h_{bucket.number}"


def collection_named(name: str) -> tuple[str, Bucket] | None:
    """The space and the bucket that a collection holds; None when it is not one of ours."""
    parts = _COLLECTION.fullmatch(name)
    return (parts[1], Bucket(int(parts[2]), int(parts[3]))) if parts else None


def home(camera: str, endpoints: Sequence[str]) -> str:
    """The endpoint that holds this camera's moments (rendezvous hashing).

    One endpoint more or less moves only its own share of the cameras. Moments that were stored before such a
    change stay where they were, which is why a search asks every shard.
    """
    return max(endpoints, key=lambda endpoint: hashlib.blake2b(f"{endpoint}\0{camera}".encode()).digest())
