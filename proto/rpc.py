"""Maps the error tree to gRPC, and holds the channel options of both ends.

An error is sent as a status code, a sentence for people (message and todo, in the status message), and three trailing
metadata keys for programs: `watchword-error`, `watchword-todo` and `watchword-reason`. Plain metadata rather than
google.rpc status details, because clients in any language read it without another library. `proto/v1/query.proto`
documents them.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

import grpc
from grpc.aio import AioRpcError

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

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A full batch of frames fits; gRPC refuses larger messages before reading them."""

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # The features of 1,000 hits fit (query.explain); by default 8 KiB do.
    ("grpc.max_metadata_size", 512 * 1024),
    # Above the server's minimum interval (below): a client that pings faster is disconnected after two strikes.
    ("grpc.keepalive_time_ms", 60_000),
    # So long nothing that was sent is acknowledged: the other host is gone, and calls to it fail. TCP's own limit too.
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

_REPEATS: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.4s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ],
    # A repeat costs 1 and an answer earns 0.2; below half of the tokens nothing is repeated: where most calls
    # are refused, repeats would only add to the load.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
}
_SPREAD: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}


def service_config(*, repeats_refused: bool, spread: bool) -> tuple[str, str]:
    """A channel option: how gRPC chooses among several servers, and which calls it repeats.

    With `repeats_refused`, calls refused for overload are repeated within their deadline, after growing pauses.
    """
    wanted = (_REPEATS if repeats_refused else {}) | (_SPREAD if spread else {})
    return "grpc.service_config", json.dumps(wanted)


SERVER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    # A client that is gone without a word is noticed, and its streams end. It answers pings however busy it is.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Of one connection; a gateway's fits. What is beyond waits at the client.
    ("grpc.max_concurrent_streams", 1024),
    # A token of an issuer fits, and what gRPC itself sends.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_permit_without_calls", 1),
    # Otherwise two servers could share one port and split its callers; the second must fail.
    ("grpc.so_reuseport", 0),
]

ERROR_KEY = "watchword-error"
"""The class in the error tree, such as `Overloaded`."""
TODO_KEY = "watchword-todo"
"""What to do next, percent-encoded UTF-8. Left out when the error has none."""
WAIT_KEY = "watchword-wait-s"
"""Of an Overloaded that says when: seconds after which the call may be made again."""
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""gRPC's own word for it. Below 0 its clients do not repeat the call by themselves."""
REASON_KEY = "watchword-reason"
"""The stable reason of a Poison, percent-encoded UTF-8."""

_LONGEST_WAIT_S = 86_400.0
_MESSAGE_BYTES, _TODO_BYTES = 1200, 400
"""gRPC accepts 8 KiB of trailers by default, and percent-encoding may triple a text; the todo is sent twice."""
_READABLE = "".join(sorted(set(string.printable) - set(string.whitespace) - {"%"})) + " "

_CODES: dict[type[WatchwordError], grpc.StatusCode] = {
    Transient: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Late: grpc.StatusCode.DEADLINE_EXCEEDED,
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    Poison: grpc.StatusCode.INVALID_ARGUMENT,
    Unknown: grpc.StatusCode.NOT_FOUND,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    Conflict: grpc.StatusCode.ABORTED,
    Mismatch: grpc.StatusCode.FAILED_PRECONDITION,
    Broken: grpc.StatusCode.INTERNAL,
    WatchwordError: grpc.StatusCode.UNKNOWN,
}
_NAMES = {kind.__name__: kind for kind in _CODES}


def status_of(error: WatchwordError) -> grpc.StatusCode:
    """The status that a client of any language sees for `error`."""
    return _CODES[_kind_of(error)]


def on_the_wire(error: WatchwordError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status code, status message and trailing metadata of `error`. Texts too long for a trailer are cut."""
    kind = _kind_of(error)
    message, todo = _cut(error.message, _MESSAGE_BYTES), _cut(error.todo, _TODO_BYTES)
    metadata = [(ERROR_KEY, kind.__name__)]
    if todo:
        metadata.append((TODO_KEY, quote(todo, safe=_READABLE)))
    if isinstance(error, Poison):
        metadata.append((REASON_KEY, quote(_cut(error.reason, _TODO_BYTES), safe=_READABLE)))
    if isinstance(error, Overloaded) and error.wait_s > 0:
        metadata += [(WAIT_KEY, f"{error.wait_s:.3f}"), (_PUSHBACK_KEY, "-1")]
    return _CODES[kind], str(WatchwordError(message, todo=todo)), tuple(metadata)


def error_of(error: AioRpcError, part: str) -> WatchwordError:
    """The error that `part` sent, or the meaning of one made by gRPC itself or a proxy."""
    told = _told(error.trailing_metadata() or ())
    kind = _NAMES.get(told.get(ERROR_KEY, ""))
    if kind is None or _CODES[kind] is not error.code():
        return _foreign(error, part, told.get(TODO_KEY, ""))
    todo = told.get(TODO_KEY, "")
    message = (error.details() or "").removesuffix(f": {todo}" if todo else "")
    if kind is Poison:
        return Poison(told.get(REASON_KEY, ""), message, todo=todo)
    if kind is Overloaded:
        return Overloaded(message, todo=todo, wait_s=_seconds(told.get(WAIT_KEY, "")))
    return kind(message, todo=todo)


def _seconds(text: str) -> float:
    try:
        found = float(text or 0)
    except ValueError:
        return 0.0
    return found if 0 < found <= _LONGEST_WAIT_S else 0.0


def _foreign(error: AioRpcError, part: str, todo: str) -> WatchwordError:
    """The error for a status not made by our services, or made by a later version."""
    details = error.details() or "no details"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            todo = todo or "is it running? `watchword doctor` checks"
            return Transient(f"{part} does not answer ({details})", todo=todo)
        case grpc.StatusCode.CANCELLED:
            return Transient(f"{part} gave the call up", todo=todo or "try again")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Late(f"{part} did not answer in time", todo=todo or "try again, or raise the deadline")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"{part} refuses the call ({details})", todo=todo or "wait a moment and try again")
        case code:
            kinds = (kind for kind, known in _CODES.items() if known is code and kind is not WatchwordError)
            todo = todo or "does it run the same version as its caller?"
            return next(kinds, Broken)(f"{part} refuses the call ({details})", todo=todo)


def _kind_of(error: WatchwordError) -> type[WatchwordError]:
    """The error's class in the tree, or its nearest base there."""
    return next(kind for kind in type(error).__mro__ if kind in _CODES)


def _told(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {key: unquote(value) for key, value in metadata if isinstance(value, str) and key.startswith("watchword-")}


def _cut(text: str, most_bytes: int) -> str:
    """The text cut to at most `most_bytes` of valid UTF-8."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most_bytes:
        return encoded.decode()
    return encoded[: most_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"
