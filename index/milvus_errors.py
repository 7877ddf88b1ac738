"""What Milvus' errors mean."""

from __future__ import annotations

import grpc

from proto.errors import Broken, Denied, Overloaded, Transient, WatchwordError

STORE = "store moments"
WHICH_MILVUS = "is this Milvus 2.3, 2.6 or later, or milvus-lite 2.5?"

_NOT_FOUND = {4, 100}
_NOT_LOADED = {101, 103, 700}
_RATE_LIMIT = {8}
_NO_RIGHT = {1400, 1401}
_INVALID = {5, 1100, 1101}


class Missing(Transient):
    """The collection does not exist, or no longer."""


class NotLoaded(Transient):
    """The collection exists but is not loaded."""


class Refused(Broken):
    """Milvus rejects the rows as invalid."""


def translated(endpoint: str, action: str, code: object, message: str) -> WatchwordError:
    """One of ours for the error of a call: Milvus' code or gRPC's."""
    what = f"Milvus at {endpoint} could not {action} ({message[:300]})"
    if code in _NOT_FOUND or "can't find collection" in message:
        return Missing(what, todo="try again")
    if code in _NOT_LOADED:
        return NotLoaded(what, todo="try again")
    if code in _RATE_LIMIT or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(what, todo="wait, then try again")
    if code in _NO_RIGHT or code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Denied(what, todo="check the token of Milvus in the settings")
    if code in _INVALID or code is grpc.StatusCode.INVALID_ARGUMENT:
        return (Refused if action == STORE else Broken)(what, todo=WHICH_MILVUS)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Broken(what, todo=WHICH_MILVUS)
    return Transient(what, todo="is it running? `watchword doctor` checks")
