"""Failed entrances by address: whoever brings one bad token after the other waits. Pure: time is an argument."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from proto.rates import Rates

FAILURES_A_SECOND = 1.0
FAILURES_AT_ONCE = 20.0
MOST_TRYING = 32
"""Requests at once from one address whose tokens are not known to be good: a browser sends six."""
_MOST_GOOD = 4096
_GOOD_FOR_S = 600.0


class Entries:
    """Says who has to wait. A token that was good lately never waits, whoever else is at its address."""

    def __init__(self) -> None:
        self._failed = Rates(FAILURES_A_SECOND, FAILURES_AT_ONCE)
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._trying: Counter[str] = Counter()

    @contextmanager
    def trying(self, address: str, token: str, now_s: float) -> Iterator[None]:
        """The block finds out whether this token counts."""
        place = "" if self._is_good(token, now_s) else _place(address)
        self._trying[place] += 1
        try:
            yield
        finally:
            self._trying[place] -= 1
            if not self._trying[place]:
                del self._trying[place]

    def wait_s(self, address: str, token: str, now_s: float) -> float:
        """For how long a request with this token from there has to wait; 0 when it has not."""
        if self._is_good(token, now_s):
            return 0.0
        place = _place(address)
        return max(self._failed.wait_s(place, now_s), 1.0 if self._trying[place] >= MOST_TRYING else 0.0)

    def _is_good(self, token: str, now_s: float) -> bool:
        return now_s - self._good.get(_digest(token), -math.inf) < _GOOD_FOR_S

    def failed(self, address: str, now_s: float) -> None:
        """A token from there did not count."""
        self._failed.spend(_place(address), now_s)

    def passed(self, token: str, now_s: float) -> None:
        """This one did."""
        key = _digest(token)
        self._good[key] = now_s
        self._good.move_to_end(key)
        while len(self._good) > _MOST_GOOD:
            self._good.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _place(address: str) -> str:
    """What counts as one address: whoever has one of IPv6 has 2^64 of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
