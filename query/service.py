"""The query service over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc.aio

from catalog.known import KnownStatuses
from catalog.recordings import Clip as Found
from catalog.statuses import status_now
from proto import tracing
from proto.access import Caller, Role, Scope, is_loopback
from proto.admission import Admission
from proto.errors import Broken, Invalid, Late, Mismatch, Unknown, WatchwordError
from proto.metrics import SEARCH_SECONDS, SEARCHES
from proto.serving import Callers, Door, GrpcServer, answers, caller, streams
from proto.types import now_ms
from proto.v1 import query_pb2, query_pb2_grpc
from query.asking import Question
from query.callers import Everyone
from query.clips import ClipReader
from query.noting import Note, Notes, asked_for
from query.reply import features_metadata, head_of, info_of, reply_of
from query.search import Searcher
from query.settings import QuerySettings

log = logging.getLogger("watchword.query")

_MOST_CLIPS = 32
"""Clips sent at once. They have a door of their own: one is under way as long as its client takes to read it."""

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")


class Beside(Protocol):
    """Another service on the same server, with the same callers and audit."""

    @property
    def admissions(self) -> Mapping[str, Admission]:
        """Of those of its methods that have a door of their own."""

    def add_to(self, methods: Any, door: Door, noted: Callable[..., Any]) -> None:
        """Add its methods. `noted` is `Notes.of`."""


class QueryServer:
    """A running query service.

    It serves one space. When the encoders return vectors of another, it reports NOT_SERVING and `run` raises the
    Mismatch: only a new process opens the index of the new space.
    """

    def __init__(self, server: GrpcServer, notes: Notes) -> None:
        self._server = server
        self._notes = notes
        self._over = asyncio.Event()
        self._mismatch: Mismatch | None = None

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on."""
        return self._server.address

    async def run(self) -> None:
        """Wait until `end` is called, or raise a search's Mismatch. It stops nothing; `stop` does."""
        await self._over.wait()
        if self._mismatch is not None:
            raise self._mismatch

    def end(self) -> None:
        """Let `run` return."""
        self._over.set()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait at most `grace_s` for running ones, then cancel the rest."""
        await self._server.stop(grace_s)
        self._notes.close()

    def outlived(self, mismatch: Mismatch) -> None:
        """A search met vectors of another space."""
        self._mismatch = self._mismatch or mismatch
        self._server.set_ready(False)
        self._over.set()


async def serve_query(
    searcher: Searcher,
    settings: QuerySettings,
    address: str,
    clips: ClipReader | None = None,
    callers: Callers | None = None,
    note: Note = lambda _: None,
    statuses: KnownStatuses | None = None,
    beside: Sequence[Beside] = (),
) -> QueryServer:
    """Serve `searcher`, `clips` and `statuses` at `address` (HOST:PORT; port 0 takes a free one).

    Without `callers` everybody may see everything, which is served on loopback only. `note` takes what the audit says
    of a call. The services `beside` are served at the same address.
    """
    notes = Notes(note)
    if callers is None and not is_loopback(address):
        raise Broken(f"{address} can be reached by others, and nobody checks who calls", todo="listen on 127.0.0.1")
    searches = Admission("search", most=settings.max_concurrent, promised_s=settings.promised_s)
    server = GrpcServer(
        "the query service",
        "watchword.v1.Query",
        most_calls=settings.max_concurrent,
        admissions={
            "Search": searches,
            "Clip": Admission("clip", most=_MOST_CLIPS),
            **{name: admission for one in beside for name, admission in one.admissions.items()},
        },
        callers=callers or Everyone(),
        refused=notes.refused,
    )
    running = QueryServer(server, notes)
    service = _QueryService(searcher, clips, statuses, settings, server.door, running.outlived, notes)
    query_pb2_grpc.add_QueryServicer_to_server(service, server.methods)
    for one in beside:
        one.add_to(server.methods, server.door, notes.of)
    await server.start(address, settings)
    server.set_ready(True)
    log.info("query service answers on %s", server.address)
    return running


class _QueryService(query_pb2_grpc.QueryServicer):
    def __init__(
        self,
        searcher: Searcher,
        clips: ClipReader | None,
        statuses: KnownStatuses | None,
        settings: QuerySettings,
        door: Door,
        outlived: Callable[[Mismatch], None],
        notes: Notes,
    ) -> None:
        self._notes = notes
        self.door = door
        self._searcher = searcher
        self._clips = clips
        self._statuses = statuses
        self._settings = settings
        self._outlived = outlived

    @answers
    async def Search(self, request: query_pb2.SearchRequest, context: Context) -> query_pb2.SearchReply:  # noqa: N802
        outcome = "cancelled"
        try:
            left, who = self._left(context), caller()
            with self._notes.of(who, "search", context, asked_for(request)) as noted, SEARCH_SECONDS.time():
                question = _question(request, _scope(who))
                found = await self._within(left, self._searcher.search(question, timeout_s=left))
                noted |= {"hits": len(found.hits), "sees": sorted({hit.best.scored.span.camera for hit in found.hits})}
            outcome = "partial" if found.partial else "ok"
            if self._settings.explain:
                context.set_trailing_metadata((*features_metadata(found), *tracing.trailer()))
            with tracing.span("reply"):
                return await self._with_recordings(reply_of(found))
        except Mismatch as error:
            outcome = "mismatch"
            self._outlived(error)
            todo = "try again in some seconds: the query service starts anew on the new bundle"
            raise Mismatch(error.message, todo=todo) from error
        except WatchwordError as error:
            outcome = type(error).__name__.lower()
            raise
        except Exception:
            outcome = "broken"
            raise
        finally:
            SEARCHES.labels(outcome=outcome).inc()

    @answers
    async def Thumbnail(  # noqa: N802
        self, request: query_pb2.ThumbnailRequest, context: Context
    ) -> query_pb2.ThumbnailReply:
        who, left = caller(), self._left(context)
        with self._notes.of(who, "picture", context, {"moment": request.moment_id[:64]}):
            picture = self._searcher.thumbnail(request.moment_id, request.at_ms or None, _scope(who))
            jpeg, at_ms = await self._within(left, picture)
        return query_pb2.ThumbnailReply(jpeg=jpeg, at_ms=at_ms or 0)

    @streams
    async def Clip(  # noqa: N802
        self, request: query_pb2.ClipRequest, context: Context
    ) -> AsyncGenerator[query_pb2.ClipPart, None]:
        who = caller()
        asked: dict[str, Any] = {"camera": request.camera[:80], "moment": request.moment_id[:64]}
        asked |= {"start_ms": request.start_ms, "end_ms": request.end_ms}
        with self._notes.of(who, "clip", context, asked) as noted:
            scope = _scope(who)
            if self._clips is None:
                raise Unknown("there are no recordings here", todo="ask the query service of the machine that records")
            clip = await self._within(self._left(context), self._found_clip(self._clips, request, scope))
            noted["sees"] = [clip.camera]
            yield query_pb2.ClipPart(head=head_of(clip))
            async with aclosing(self._clips.chunks(clip)) as chunks:
                async for data in chunks:
                    yield query_pb2.ClipPart(data=data)

    @answers
    async def Cameras(  # noqa: N802
        self,
        request: query_pb2.CamerasRequest,  # noqa: ARG002 - has no fields yet
        context: Context,
    ) -> query_pb2.CamerasReply:
        who = caller()
        with self._notes.of(who, "cameras", context, {}) as noted:
            left = self._left(context)
            cameras = await self._within(left, self._searcher.cameras(_scope(who)))
            statuses = {} if self._statuses is None else await self._within(left, asyncio.to_thread(self._statuses.all))
            noted["hits"] = len(cameras)
        now = now_ms()
        return query_pb2.CamerasReply(
            cameras=[
                info_of(camera, status_now(camera, statuses, now), whole=who.may(Role.OPERATOR)) for camera in cameras
            ],
            kinds=self._searcher.kinds,
        )

    async def _found_clip(self, clips: ClipReader, request: query_pb2.ClipRequest, scope: Scope) -> Found:
        if bool(request.camera) == bool(request.moment_id):
            raise Invalid("what to play is not clear", todo="give either a camera and a time, or a moment_id")
        if not request.moment_id:
            await self._searcher.check_cameras((request.camera,), scope)
            return await clips.find(request.camera, request.start_ms, request.end_ms, await self._searcher.gone())
        moment = await self._searcher.moment(request.moment_id, scope)
        end_ms = max(moment.end_ms, moment.start_ms + 1)
        return await clips.find(moment.camera, moment.start_ms, end_ms, await self._searcher.gone())

    async def _with_recordings(self, reply: query_pb2.SearchReply) -> query_pb2.SearchReply:
        if self._clips is not None:
            recorded = await self._clips.recorded([(hit.camera, hit.at_ms) for hit in reply.hits])
            for hit in reply.hits:
                hit.recorded = (hit.camera, hit.at_ms) in recorded
        return reply

    def _left(self, context: Context) -> float:
        """Seconds until the deadline: the client's or the server's, whichever comes first."""
        client_s = context.time_remaining()
        return self._settings.timeout_s if client_s is None else max(0.0, min(client_s, self._settings.timeout_s))

    async def _within(self, left_s: float, answer: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(left_s):
                return await answer
        except TimeoutError as error:
            raise Late(
                f"the answer was not ready within {left_s:.3g} s", todo="try again, or give the call a longer deadline"
            ) from error


def _scope(who: Caller) -> Scope:
    """What they may see. Denied when their role may see nothing."""
    who.check(Role.VIEWER)
    return who.scope


def _by_time(order: int) -> bool:
    if order not in query_pb2.Order.values():
        raise Invalid(f"there is no order {order}", todo="give ORDER_RELEVANCE (0) or ORDER_TIME (1)")
    return order == query_pb2.ORDER_TIME


def _question(request: query_pb2.SearchRequest, scope: Scope) -> Question:
    kind = request.WhichOneof("question")
    return Question(
        text=request.text if kind == "text" else None,
        image=request.image if kind == "image" else None,
        moment_id=request.moment_id if kind == "moment_id" else None,
        cameras=tuple(request.cameras),
        start_ms=request.start_ms,
        end_ms=request.end_ms,
        limit=request.limit if request.HasField("limit") else 10,
        objects=tuple(request.objects),
        min_confidence=request.min_confidence,
        all_moments=request.all_moments,
        by_time=_by_time(request.order),
        scope=scope,
        groups=tuple(request.groups),
    )
