"""The gRPC client of the Manage service."""

from __future__ import annotations

import copy
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from proto.calling import CLIENT_KEY, Client, answer_of, open_channel
from proto.tls import ClientTls
from proto.v1 import manage_pb2, manage_pb2_grpc

_LOOKS_S = 25.0
"""A call that opens a source ends within this: the service gives up before."""
_LOOK: tuple[type[Message], ...] = (
    manage_pb2.TestPictureRequest,
    manage_pb2.AddCameraRequest,
    manage_pb2.ChangeCameraRequest,
)

Reply = TypeVar("Reply", bound=Message)


class ManageClient(Client):
    """Calls the Manage service of a query service. Nothing is repeated: a change may have been made."""

    def __init__(self, address: str, timeout_s: float, *, token: str = "", tls: ClientTls | None = None) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = _metadata(token, "")
        self._channel = open_channel(address, spread=True, begins_traces=True, tls=tls)
        self._stub: Any = manage_pb2_grpc.ManageStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    def on_behalf(self, token: str, client: str = "") -> Self:
        """The client, over the same connection, of whoever brought this token (empty: none) from this address."""
        other = copy.copy(self)
        other._metadata = _metadata(token, client)
        return other

    async def ask(self, request: Message, kind: type[Reply]) -> Reply:
        """The reply, of this kind, to a request, whose type names the call. Ends with a WatchwordError otherwise."""
        method = getattr(self._stub, type(request).__name__.removesuffix("Request"))
        within_s = max(self._timeout_s, _LOOKS_S) if isinstance(request, _LOOK) else self._timeout_s
        call = method(request, timeout=within_s, metadata=self._metadata)
        reply = await answer_of(call, f"the query service at {self._address}")
        assert isinstance(reply, kind)
        return reply


def _metadata(token: str, client: str) -> tuple[tuple[str, str], ...]:
    found = [("authorization", f"Bearer {token}")] if token else []
    return (*found, (CLIENT_KEY, client)) if client else (*found,)
