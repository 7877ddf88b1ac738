"""The client that waits for its answers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from watchword_client import asking
from watchword_client.answers import Clip, Coverage, Found, Known, Picture, found_of, known_of, picture_of
from watchword_client.asking import Filters, Moment, Where
from watchword_client.connecting import Tls, credentials_of, metadata_of, options_of
from watchword_client.errors import Invalid, Late, error_of
from watchword_client.saving import Saving
from watchword_client.v1 import query_pb2, query_pb2_grpc

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Client:
    """Asks a query service. Threads may share one.

    Each call ends within `timeout_s`, with its answer or a WatchwordError. A call that finds the service away or busy
    is tried again within that time, a few times.
    """

    def __init__(
        self, address: str = "127.0.0.1:8700", *, token: str = "", tls: Tls | None = None, timeout_s: float = 10.0
    ) -> None:
        """`address` is HOST:PORT. Without `tls` nothing is encrypted, the token neither."""
        self._metadata = metadata_of(token)
        self._timeout_s = timeout_s
        options = options_of(tls)
        if tls is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials_of(tls), options)
        self._stub = query_pb2_grpc.QueryStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def within(self, timeout_s: float) -> Self:
        """The same client, over the same connection, with another time in which a call must end."""
        other = copy.copy(self)
        other._timeout_s = timeout_s
        return other

    def search(self, words: str, **filters: Unpack[Filters]) -> Found:
        """The moments that fit the words best."""
        return found_of(self._ask(self._stub.Search, asking.search(filters, text=words)))

    def search_picture(self, picture: bytes | str | Path, **filters: Unpack[Filters]) -> Found:
        """The moments that look like a picture: JPEG, PNG or WebP, its bytes or its file."""
        return found_of(self._ask(self._stub.Search, asking.search_picture(filters, picture)))

    def more_like(self, moment: Moment, **filters: Unpack[Filters]) -> Found:
        """The moments most similar to this one, without it."""
        return found_of(self._ask(self._stub.Search, asking.search(filters, like=moment)))

    def coverage(self, **where: Unpack[Where]) -> Coverage:
        """Up to when each camera was looked at, and what of the time was not."""
        return found_of(self._ask(self._stub.Search, asking.coverage(where))).coverage

    def thumbnail(self, moment: Moment, at: datetime | None = None) -> Picture:
        """The picture in which a hit was found, or that of `at`, or the most representative one."""
        return picture_of(self._ask(self._stub.Thumbnail, asking.thumbnail(moment, at)))

    def save_clip(
        self,
        path: str | Path,
        *,
        moment: Moment | None = None,
        camera: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Clip:
        """Write a moment's video, or that of a camera and a time, to an MP4 file: whole, or not at all.

        It is streamed. Each part of it must come within `timeout_s`, however long the clip is.
        """
        request = asking.clip(moment, camera, start, end)
        with Saving(path) as saving:
            for part in self._parts(request):
                saving.take(part)
            return saving.done()

    def known(self) -> Known:
        """Every camera with its status, and the kinds of objects that can be asked for."""
        return known_of(self._ask(self._stub.Cameras, query_pb2.CamerasRequest()))

    def _ask(self, call: Callable[..., Reply], request: object) -> Reply:
        try:
            return call(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error
        except ValueError as error:
            raise _closed(error) from None

    def _parts(self, request: query_pb2.ClipRequest) -> Iterator[query_pb2.ClipPart]:
        try:
            call = self._stub.Clip(request, metadata=self._metadata)
        except ValueError as error:
            raise _closed(error) from None
        stalled = threading.Event()

        def give_up() -> None:
            stalled.set()
            call.cancel()

        try:
            while True:
                waiting = threading.Timer(self._timeout_s, give_up)
                waiting.daemon = True
                waiting.start()
                try:
                    part = next(call, None)
                finally:
                    waiting.cancel()
                if part is None:
                    return
                yield part
        except grpc.RpcError as error:
            if stalled.is_set():
                raise Late("the clip stopped coming", todo="try again") from error
            raise error_of(error) from error
        finally:
            call.cancel()


def _closed(error: ValueError) -> Invalid:
    return Invalid(f"the call cannot be made ({error})", todo="is the client closed? make a new one")
