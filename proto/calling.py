"""Shared by our gRPC clients: opening a channel and translating errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Self, TypeVar

import grpc.aio

from proto.rpc import CHANNEL_OPTIONS, error_of

Reply = TypeVar("Reply")


class Client(ABC):
    """A service's client. Use it in an `async with` block, which closes it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""


def open_channel(address: str, *, connect_within_s: float | None = None, spread: bool = False) -> grpc.aio.Channel:
    """A plaintext channel. `connect_within_s` bounds one attempt to connect; None leaves it to gRPC.

    With `spread`, calls go in turn to every address that the name resolves to; otherwise to one of them.
    """
    options = list(CHANNEL_OPTIONS)
    if spread:
        options.append(("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'))
    if connect_within_s is not None:
        options.append(("grpc.min_reconnect_backoff_ms", round(connect_within_s * 1000)))
    return grpc.aio.insecure_channel(address, options=options)


async def answer_of(call: Awaitable[Reply], part: str) -> Reply:
    """The call's reply. Errors are raised as the WatchwordErrors that `part` sent."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_of(error, part) from error
