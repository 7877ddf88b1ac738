"""The MCP server: what an assistant may ask, over streamable HTTP at /mcp.

An assistant repeats what it is told. So every answer says of itself what may be claimed from it: which moments to
cite, and, where nothing was found, up to when each camera was looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from gateway.entrance import Entrance
from gateway.queries import Queries
from proto.errors import WatchwordError
from proto.v1 import query_pb2

PATH = "/mcp"
MOST_HITS = 50
_MOST_BODY_BYTES = 256 * 1024
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ANY_WORDS = "a picture"
"""Coverage comes with every answer; this is what is asked for when only the coverage is wanted."""

INSTRUCTIONS = """\
Watchword watches cameras and finds moments by words. Use search_moments first, then look_at_picture to check what a
hit shows before you claim it. Cite each moment that you rely on by its `cite`. A hit that is not `sure` is only the
nearest: say so, or look at its picture. When nothing is found, do not say that it did not happen: say `not_found`,
which names up to when each camera was looked at and what was not looked at. Times are UTC in ISO 8601.
"""

Moment = Annotated[str, Field(description="The `moment_id` of a hit.", pattern="^[0-9a-f]{32}$")]
Cameras = Annotated[list[str], Field(description="Only these cameras; all when empty.", max_length=1000)]
Groups = Annotated[list[str], Field(description="Cameras of these groups too: see list_cameras.", max_length=100)]
Since = Annotated[str, Field(description="Start of the span, ISO 8601, UTC unless it says otherwise. Empty: open.")]
Until = Annotated[str, Field(description="End of the span, in the same form. Empty: until now.")]
Result = TypeVar("Result")


class Told(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Looked(Told):
    """Up to when a camera was looked at."""

    camera: str
    until: str


class NotLooked(Told):
    """A span in which a camera was not looked at."""

    camera: str
    """Empty when it may be any camera."""
    start: str
    end: str
    reason: str


class Based(Told):
    """What an answer is based on."""

    whole: bool
    """Whether everything that was asked for was looked at and searched."""
    looked_until: list[Looked]
    """What a camera captured after this time is not in the answer."""
    not_looked_at: list[NotLooked]
    """The earliest, at most 100."""
    spans_not_looked_at: int
    """How many there are in all."""
    not_searched: list[str]
    """Parts of the index that did not answer, and indexes of other models."""


class Seen(Told):
    """A moment that may be the answer."""

    cite: str
    """How to cite it."""
    moment_id: str
    at_ms: int
    """Which picture of the moment: for look_at_picture."""
    camera: str
    start: str
    end: str
    ongoing: bool
    confidence: float
    """How likely it is that this is what was asked for, 0 to 1."""
    sure: bool
    """Whether that is enough to count as found."""
    kind: str
    """The kind of object that was found, if known."""
    objects: dict[str, int]
    """What else was seen, and how many at most at one time."""


class Answer(Told):
    """The answer to a search."""

    found: list[Seen]
    not_found: str
    """What may be said when nothing was found with confidence; empty when something was."""
    based_on: Based


class CameraTold(Told):
    """A camera."""

    name: str
    watching: bool
    """False when it was removed; what it saw can still be searched."""
    groups: list[str]
    """The groups that it is in, by which it can be searched."""
    state: str
    """live, or connecting, silent, failing, done, disabled, removed, unknown. Only what is live is looked at now."""
    since: str
    """Since when; empty when that is not known."""
    why: str
    """Why it is so, in words; may be empty."""
    advice: list[str]
    """What would make it better."""


class CamerasTold(Told):
    """The cameras, and the kinds of objects that can be asked for."""

    cameras: list[CameraTold]
    kinds: list[str]


class Assistant:
    """The tools on a query service, and the ASGI application that serves them."""

    def __init__(self, queries: Queries, version: str, *, needs_token: bool = False) -> None:
        """`needs_token`: whether requests without one are refused."""
        self._entrance = Entrance(queries, needed=needs_token)
        server = MCPServer(
            "watchword", version=version, instructions=INSTRUCTIONS, log_level="WARNING", subscriptions=False
        )
        for tool in (self.search_moments, self.list_cameras, self.coverage):
            server.add_tool(tool, annotations=_READS)
        server.add_tool(self.look_at_picture, annotations=_READS, structured_output=False)
        # Without sessions any gateway process can answer. Names of hosts are checked by the guard.
        self._app = server.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            max_request_body_size=_MOST_BODY_BYTES,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        self._server = server

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Requests are answered inside the block."""
        async with self._server.session_manager.run():
            yield

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve one request. Unauthenticated without a token where one is needed."""
        self._entrance.of(_authorization(scope["headers"]), "")
        await self._app(scope, receive, send)

    async def search_moments(
        self,
        question: Annotated[
            str, Field(description="What to look for, in plain words of any language.", max_length=2000)
        ] = "",
        like_moment: Annotated[str, Field(description="Instead of words: moments like this one, by its id.")] = "",
        cameras: Cameras = [],  # noqa: B006 - the default is part of the tool's schema and is never changed
        groups: Groups = [],  # noqa: B006
        since: Since = "",
        until: Until = "",
        objects: Annotated[
            list[str], Field(description="Only where all of these kinds were seen, such as person: see list_cameras.")
        ] = [],  # noqa: B006
        min_confidence: Annotated[float, Field(description="Only hits of at least this.", ge=0, le=1)] = 0.0,
        order: Annotated[Literal["relevance", "time"], Field(description="Best or earliest first.")] = "relevance",
        limit: Annotated[int, Field(description="Most hits.", ge=1, le=MOST_HITS)] = 10,
        context: Context | None = None,
    ) -> Answer:
        """Find moments that cameras saw, by words or by a moment that looks like them. Give exactly one of the two."""
        reply = await _asked(
            self._of(context).search(
                text=question or None,
                moment_id=like_moment or None,
                cameras=cameras,
                groups=groups,
                start_ms=_ms(since),
                end_ms=_ms(until),
                objects=objects,
                min_confidence=min_confidence,
                by_time=order == "time",
                limit=limit,
            )
        )
        based = _based(reply.coverage)
        found = [_seen(hit, reply.threshold) for hit in reply.hits]
        return Answer(found=found, not_found=_not_found(based) if reply.no_confident_match else "", based_on=based)

    async def look_at_picture(
        self,
        moment_id: Moment,
        at_ms: Annotated[int, Field(description="The `at_ms` of the hit.", ge=0)] = 0,
        context: Context | None = None,
    ) -> list[Any]:
        """The picture of a moment, to check what it really shows."""
        reply = await _asked(self._of(context).thumbnail(moment_id, at_ms))
        which = f"at {_time(at_ms)}" if at_ms and reply.at_ms == at_ms else "at its most representative instant"
        return [f"moment {moment_id}, {which}", Image(data=reply.jpeg, format="jpeg")]

    async def list_cameras(self, context: Context | None = None) -> CamerasTold:
        """The cameras that can be searched, their groups and how they are doing now, and the kinds of objects that
        search_moments can be narrowed to."""
        reply = await _asked(self._of(context).known())
        return CamerasTold(cameras=[_camera(one) for one in reply.cameras], kinds=list(reply.kinds))

    async def coverage(
        self,
        cameras: Cameras = [],  # noqa: B006
        groups: Groups = [],  # noqa: B006
        since: Since = "",
        until: Until = "",
        context: Context | None = None,
    ) -> Based:
        """Up to when each camera was looked at, and what was not looked at in a span of time."""
        asked = self._of(context).search(
            text=_ANY_WORDS, cameras=cameras, groups=groups, start_ms=_ms(since), end_ms=_ms(until), limit=1
        )
        return _based((await _asked(asked)).coverage)

    def _of(self, context: Context | None) -> Queries:
        """The query service for whoever makes the request. Without a context there is no request: for nobody."""
        request = None if context is None else context.request_context.request
        if request is None:
            return self._entrance.of((), "")
        client = request.client.host if request.client else ""
        return self._entrance.of(_authorization(request.scope["headers"]), client)


def _authorization(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == b"authorization"]


async def _asked(call: Awaitable[Result]) -> Result:
    try:
        return await call
    except WatchwordError as error:
        raise ToolError(str(error)) from None


def _ms(time: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; 0 for none."""
    if not time.strip():
        return 0
    try:
        given = datetime.fromisoformat(time.strip())
    except ValueError:
        raise ToolError(f"{time[:60]!r} is no time: write ISO 8601, such as 2026-05-01T10:00:00Z") from None
    return max(1, round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000))


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError):
        return f"{ms} ms"


def _seen(hit: query_pb2.Hit, threshold: float) -> Seen:
    return Seen(
        cite=f"{hit.camera}, {_time(hit.at_ms)} [moment {hit.moment_id}]",
        moment_id=hit.moment_id,
        at_ms=hit.at_ms,
        camera=hit.camera,
        start=_time(hit.start_ms),
        end=_time(hit.end_ms),
        ongoing=not hit.closed,
        confidence=round(hit.confidence, 3),
        sure=hit.confidence >= threshold,
        kind=hit.kind,
        objects={one.kind: one.count for one in hit.objects},
    )


def _camera(one: query_pb2.CameraInfo) -> CameraTold:
    status = one.status
    return CameraTold(
        name=one.name,
        watching=one.watching,
        groups=list(one.groups),
        state=status.state or "unknown",
        since=_time(status.since_ms) if status.since_ms else "",
        why=status.why,
        advice=list(status.advice),
    )


def _based(coverage: query_pb2.Coverage) -> Based:
    not_searched = [
        f"{part.shard} from {_time(part.start_ms)} to {_time(part.end_ms)}"
        + (" (not in memory: ask about that time alone)" if part.cold else "")
        for part in coverage.unsearched
    ]
    not_searched += [f"all of {shard}" for shard in coverage.shards_missing]
    not_searched += [f"moments of another model ({space})" for space in coverage.spaces_unsearched]
    if coverage.coverage_unknown:
        not_searched.append("what was looked at could not be read in time")
    return Based(
        whole=not coverage.partial,
        looked_until=[Looked(camera=mark.camera, until=_time(mark.looked_ms)) for mark in coverage.watermarks],
        not_looked_at=[
            NotLooked(camera=gap.camera, start=_time(gap.start_ms), end=_time(gap.end_ms), reason=gap.reason)
            for gap in coverage.gaps
        ],
        spans_not_looked_at=coverage.gaps_in_all,
        not_searched=not_searched,
    )


def _not_found(based: Based) -> str:
    """What may be claimed. Never that it did not happen: only where, and up to when, it was looked for."""
    parts = ["Nothing was found with confidence; hits, if any, are only the nearest."]
    parts.append(_looked(based.looked_until))
    if based.spans_not_looked_at:
        first = based.not_looked_at[0] if based.not_looked_at else None
        where = f"{first.camera or 'any camera'} {first.start} to {first.end} ({first.reason})" if first else "unknown"
        parts.append(f"Not looked at: {based.spans_not_looked_at} spans, the first {where}.")
    if based.not_searched:
        parts.append(f"Not searched: {'; '.join(based.not_searched[:5])}.")
    return " ".join(parts)


def _looked(marks: Sequence[Looked]) -> str:
    if not marks:
        return "It is not known up to when the cameras were looked at."
    shown = ", ".join(f"{mark.camera} up to {mark.until}" for mark in marks[:10])
    more = f" and {len(marks) - 10} others" if len(marks) > 10 else ""
    return f"Looked at: {shown}{more}."
