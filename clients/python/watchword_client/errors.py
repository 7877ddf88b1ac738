"""The errors of a call. Each says what is wrong (`message`), what to do (`todo`), and in a stable word why (`reason`).

    WatchwordError
    ├── Transient       a part is away: try again later
    ├── Overloaded      too much at once: wait, then try again
    ├── Late            the answer did not come before the deadline
    ├── Invalid         the request is wrong: change it
    │   └── Poison      this picture or text can never be processed; `reason` says why
    ├── Unknown         a camera or a moment that is not there, or may not be seen
    ├── Unauthenticated no token was sent, or one that does not count
    ├── Denied          the token's role may not do this
    ├── Conflict        somebody changed it meanwhile
    ├── Mismatch        the service changes to another bundle: try again in some seconds
    └── Broken          the installation is wrong, or the service has a bug

The classes are those of the service, as `query.proto` documents them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import grpc


class WatchwordError(Exception):
    """Base of all errors of a call."""

    def __init__(self, message: str, *, todo: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.todo = todo
        self.reason = reason or type(self).__name__.lower()

    def __str__(self) -> str:
        return f"{self.message}: {self.todo}" if self.todo else self.message


class Transient(WatchwordError):
    """A part is away and expected back."""


class Overloaded(WatchwordError):
    """Refused, because too much is in progress."""


class Late(WatchwordError):
    """The deadline passed first."""


class Invalid(WatchwordError):
    """The request can never succeed as it is."""


class Poison(Invalid):
    """This picture or text can never be processed."""


class Unknown(WatchwordError):
    """There is no such camera or moment, or it may not be seen."""


class Unauthenticated(WatchwordError):
    """It is not known who calls."""


class Denied(WatchwordError):
    """The caller may not do this."""


class Conflict(WatchwordError):
    """What is to be changed is not as the caller saw it."""


class Mismatch(WatchwordError):
    """The service is about to start anew on another bundle."""


class Broken(WatchwordError):
    """Trying again does not help: the installation is wrong, or the service has a bug."""


_KINDS = {
    kind.__name__: kind
    for kind in (
        *(Transient, Overloaded, Late, Invalid, Poison),
        *(Unknown, Unauthenticated, Denied, Conflict, Mismatch, Broken),
    )
}
_OF_STATUS: dict[grpc.StatusCode, tuple[type[WatchwordError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (Transient, "is the query service running, at this address, with this TLS?"),
    grpc.StatusCode.CANCELLED: (Transient, "try again"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Overloaded, "wait a moment and try again"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Late, "try again, or give the client a longer timeout_s"),
    grpc.StatusCode.INVALID_ARGUMENT: (Invalid, ""),
    grpc.StatusCode.NOT_FOUND: (Unknown, ""),
    grpc.StatusCode.UNAUTHENTICATED: (Unauthenticated, "give the client a token"),
    grpc.StatusCode.PERMISSION_DENIED: (Denied, ""),
    grpc.StatusCode.ABORTED: (Conflict, ""),
    grpc.StatusCode.FAILED_PRECONDITION: (Mismatch, "try again in some seconds"),
    grpc.StatusCode.UNIMPLEMENTED: (Broken, "is this a query service, of the client's version or later?"),
}
"""For statuses that gRPC itself or a proxy made, and for kinds that a later service has."""


def error_of(error: grpc.RpcError) -> WatchwordError:
    """What a failed call means."""
    call: Any = error  # gRPC's errors are calls too, which its types do not say
    told = _told(call.trailing_metadata() or ())
    message, todo = call.details() or "", told.get("watchword-todo", "")
    named = _KINDS.get(told.get("watchword-error", ""))
    if named is not None:
        message = message.removesuffix(f": {todo}" if todo else "")
        return named(message, todo=todo, reason=told.get("watchword-reason", ""))
    kind, usual = _OF_STATUS.get(call.code(), (Broken, ""))
    return kind(f"the call failed ({call.code().name}: {message or 'no details'})", todo=todo or usual)


def _told(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {key: unquote(value) for key, value in metadata if isinstance(value, str) and key.startswith("watchword-")}
