"""Where a moment rests: pure rules from camera and time to endpoint, bucket and collection."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

_HOUR_MS = 3_600_000
_COLLECTION = re.compile(r"watchword_([0-9a-f]{16})_(\d{1,4})h_(\d{1,12})")


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

    @property
    def next(self) -> Bucket:
        return Bucket(self.hours, self.number + 1)

    def touches(self, start_ms: int | None, end_ms: int | None, longest_ms: int) -> bool:
        """Whether it can hold a moment, no longer than `longest_ms`, that overlaps [start_ms, end_ms)."""
        return (end_ms is None or self.start_ms < end_ms) and (start_ms is None or self.end_ms > start_ms - longest_ms)

    def nearly_over(self, at_ms: int) -> bool:
        """Whether `at_ms` is in its last tenth: time to prepare the next one."""
        return at_ms >= self.end_ms - self.hours * _HOUR_MS // 10


def bucket_of(start_ms: int, hours: int) -> Bucket:
    """The bucket of a moment that starts then."""
    return Bucket(hours, start_ms // (hours * _HOUR_MS))


def collection_name(space: str, bucket: Bucket) -> str:
    """The collection that holds this bucket's moments of this space."""
    return f"watchword_{space}_{bucket.hours}h_{bucket.number}"


def bucket_named(collection: str, space: str) -> Bucket | None:
    """The bucket that a collection holds, of whatever width; None when it is not one of this space's."""
    parts = _COLLECTION.fullmatch(collection)
    return Bucket(int(parts[2]), int(parts[3])) if parts and parts[1] == space else None


def home(camera: str, endpoints: Sequence[str]) -> str:
    """The endpoint that holds this camera's moments (rendezvous hashing).

    One endpoint more or less moves only its own share of the cameras. Moments that were stored before such a
    change stay where they were.
    """
    return max(endpoints, key=lambda endpoint: hashlib.blake2b(f"{endpoint}\0{camera}".encode()).digest())
