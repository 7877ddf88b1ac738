"""Errors as application/problem+json (RFC 9457). The error tree is mapped to HTTP here, once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proto.errors import (
    Broken,
    Conflict,
    Denied,
    Invalid,
    Late,
    Mismatch,
    Overloaded,
    Poison,
    Transient,
    Unauthenticated,
    Unknown,
    WatchwordError,
)

MEDIA_TYPE = "application/problem+json"

_STATUSES: dict[type[WatchwordError], int] = {
    Invalid: 400,
    Unauthenticated: 401,
    Denied: 403,
    Unknown: 404,
    Conflict: 412,
    Overloaded: 429,
    Broken: 500,
    Transient: 503,
    Mismatch: 503,
    Late: 504,
    WatchwordError: 500,
}
_RETRY_AFTER_S = {429: 1, 503: 2}
"""When to try again. Overload passes within a second; a part that is away is started anew within some."""


class Refused(Invalid):
    """The request is wrong as HTTP, which has a status of its own for it. `reason` is a stable word."""

    def __init__(self, status: int, reason: str, message: str, *, todo: str = "", allow: str = "") -> None:
        """`allow` are the methods that the path has."""
        super().__init__(message, todo=todo)
        self.status = status
        self.reason = reason
        self.allow = allow


@dataclass(frozen=True, slots=True)
class Problem:
    """An error's answer: the fields of its body in order, and its headers."""

    status: int
    body: dict[str, str | int]
    headers: dict[str, str]


def problem_of(error: WatchwordError) -> Problem:
    """The answer that tells `error`. Every field is there; `reason` is a stable word for programs."""
    kind = next(kind for kind in type(error).__mro__ if kind in _STATUSES)
    status = error.status if isinstance(error, Refused) else _STATUSES[kind]
    name = kind.__name__ if kind is not WatchwordError else "Broken"
    reason = error.reason if isinstance(error, Refused | Poison) else name.lower()
    body: dict[str, str | int] = {
        "type": f"urn:watchword:error:{name.lower()}",
        "title": name,
        "status": status,
        "detail": error.message,
        "todo": error.todo,
        "reason": reason,
    }
    headers = {"cache-control": "no-store"}
    if wait_s := _RETRY_AFTER_S.get(status):
        told_s = error.wait_s if isinstance(error, Overloaded) else 0.0
        headers["retry-after"] = str(math.ceil(told_s) or wait_s)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, Refused) and error.allow:
        headers["allow"] = error.allow
    return Problem(status, body, headers)
