"""Which buckets of a shard are in memory, and which make room for others: pure rules.

A bucket that has to be loaded for a question costs it seconds. So the buckets that were asked for last stay, and a
question that asks for more than fits gets the newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from index.places import Bucket

_WIDE_SHARE = 0.75
"""Of the memory, for a question that asks for more than fits. The rest is for questions about older times: otherwise
each would push out what the other loaded."""
_GROWS_MS = 3_600_000
"""So long after its end a bucket may still get moments."""


def fitting(asked: Collection[Bucket], sizes: Mapping[Bucket, int], most_bytes: int) -> list[Bucket]:
    """Those of the asked buckets that are searched, newest first: all, unless they do not fit together."""
    newest = sorted(asked, key=lambda one: (-one.end_ms, one.hours))
    if sum(sizes.get(one, 0) for one in newest) <= most_bytes:
        return newest
    left = int(_WIDE_SHARE * most_bytes)
    searched: list[Bucket] = []
    for one in newest:
        left -= sizes.get(one, 0)
        # The newest always is, however large: a question must be able to find something.
        if left < 0 and searched:
            break
        searched.append(one)
    return searched


class Use:
    """When each bucket was last used, and which are in use now."""

    def __init__(self) -> None:
        self._order: dict[Bucket, None] = {}
        self._busy: Counter[Bucket] = Counter()

    @contextmanager
    def of(self, bucket: Bucket) -> Iterator[None]:
        """The block uses it."""
        self._busy[bucket] += 1
        try:
            yield
        finally:
            self._busy[bucket] -= 1
            self._order.pop(bucket, None)
            self._order[bucket] = None

    def leaving(
        self,
        loaded: Collection[Bucket],
        wanted: Collection[Bucket],
        sizes: Mapping[Bucket, int],
        most_bytes: int,
        now_ms: int,
    ) -> list[Bucket]:
        """Which of the loaded buckets go, so that the wanted ones fit beside those that stay: first those that were not
        used for longest. None that grows or is in use."""
        staying = {*loaded, *wanted}
        over = sum(sizes.get(one, 0) for one in staying) - most_bytes
        age = {one: at for at, one in enumerate(self._order)}
        gone: list[Bucket] = []
        for one in sorted(loaded, key=lambda one: (age.get(one, -1), one.end_ms)):
            if over <= 0:
                break
            if one in wanted or self._busy[one] or one.end_ms + _GROWS_MS > now_ms:
                continue
            gone.append(one)
            over -= sizes.get(one, 0)
        return gone
