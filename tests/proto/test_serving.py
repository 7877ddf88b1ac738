"""Errors, admission and health of a gRPC service of ours, over a real connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from proto.admission import Admission
from proto.calling import answer_of, open_channel
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.rpc import error_of, on_the_wire
from proto.serving import Door, GrpcServer, answers
from proto.v1 import query_pb2, query_pb2_grpc
from tests.proto.test_errors import kinds

ANY = "127.0.0.1:0"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
Context = grpc.aio.ServicerContext[Any, Any]
Work = Callable[[Context], Awaitable[None]]


class Service(query_pb2_grpc.QueryServicer):
    """Answers Cameras with nothing, after it has done a piece of work. Nobody asks it anything else."""

    def __init__(self, door: Door, work: Work) -> None:
        self.door = door
        self._work = work

    @answers
    async def Cameras(  # noqa: N802 - the name that gRPC gives
        self, request: query_pb2.CamerasRequest, context: Context
    ) -> query_pb2.CamerasReply:
        await self._work(context)
        return query_pb2.CamerasReply()

    async def Search(self, request: query_pb2.SearchRequest, context: Context) -> query_pb2.SearchReply:  # noqa: N802
        raise AssertionError("nobody asks for this here")

    async def Thumbnail(  # noqa: N802
        self, request: query_pb2.ThumbnailRequest, context: Context
    ) -> query_pb2.ThumbnailReply:
        raise AssertionError("nobody asks for this here")

    async def Clip(  # noqa: N802
        self, request: query_pb2.ClipRequest, context: Context
    ) -> AsyncIterator[query_pb2.ClipPart]:
        raise AssertionError("nobody asks for this here")
        yield


@asynccontextmanager
async def serving(
    work: Work, *, most_calls: int = 8, admissions: Mapping[str, Admission] | None = None
) -> AsyncIterator[GrpcServer]:
    server = GrpcServer("the service", "watchword.v1.Query", most_calls=most_calls, admissions=admissions)
    query_pb2_grpc.add_QueryServicer_to_server(Service(server.door, work), server.methods)
    await server.start(ANY)
    server.set_ready(True)
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def asking(
    server: GrpcServer, *, within_s: float = 10, repeats_refused: bool = False
) -> AsyncIterator[Callable[[], Awaitable[query_pb2.CamerasReply]]]:
    """A caller that waits for so long at most."""
    async with open_channel(server.address, repeats_refused=repeats_refused) as channel:
        stub = query_pb2_grpc.QueryStub(channel)
        yield lambda: answer_of(stub.Cameras(query_pb2.CamerasRequest(), timeout=within_s), "the service")


def raising(error: BaseException) -> Work:
    async def work(_: Context) -> None:
        raise error

    return work


async def met(error: BaseException) -> WatchwordError:
    """What a client meets when the service raises `error`."""
    async with serving(raising(error)) as server, asking(server) as ask:
        with pytest.raises(WatchwordError) as refused:
            await ask()
        return refused.value


def made(kind: type[WatchwordError], message: str, todo: str) -> WatchwordError:
    return Poison("too_large", message, todo=todo) if kind is Poison else kind(message, todo=todo)


@pytest.mark.parametrize("kind", [WatchwordError, *kinds()], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("todo", ["", "try again: soon", "öffne die Tür zu 100 % – 門を開けて"])
async def test_every_class_of_error_arrives_as_it_was_raised(kind: type[WatchwordError], todo: str) -> None:
    sent = made(kind, "the gate – 門 – is shut: 50 %", todo)
    arrived = await met(sent)
    assert (type(arrived), arrived.message, arrived.todo) == (type(sent), sent.message, sent.todo)
    assert getattr(arrived, "reason", None) == getattr(sent, "reason", None)


async def test_any_client_reads_error_todo_and_reason_in_ascii_metadata() -> None:
    sent = Poison("too_large", "zu groß", todo="größere Bilder: 門 verkleinern")
    async with serving(raising(sent)) as server, grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await query_pb2_grpc.QueryStub(channel).Cameras(query_pb2.CamerasRequest())
    assert refused.value.details() == "zu groß: größere Bilder: 門 verkleinern"
    trailing = {key: value for key, value in refused.value.trailing_metadata() or () if key.startswith("watchword-")}
    assert all(isinstance(value, str) and value.isascii() for value in trailing.values())
    assert {key: unquote(str(value)) for key, value in trailing.items()} == {
        "watchword-error": "Poison",
        "watchword-todo": "größere Bilder: 門 verkleinern",
        "watchword-reason": "too_large",
    }


async def test_an_error_that_is_too_long_for_its_trailer_keeps_its_class_and_its_beginning() -> None:
    arrived = await met(Invalid("門" * 10_000, todo="開" * 10_000))
    assert type(arrived) is Invalid
    assert len(arrived.message) > 300
    assert set(arrived.message) == {"門", "…"}
    assert set(arrived.todo) == {"開", "…"}


@given(st.text(), st.text())
def test_every_text_can_be_sent_and_is_short_enough_for_a_trailer(message: str, todo: str) -> None:
    _, details, metadata = on_the_wire(Broken(message, todo=todo))
    details.encode()
    assert all(value.isascii() and value.isprintable() for _, value in metadata)
    size = 3 * len(details.encode()) + sum(len(key) + len(value) + 32 for key, value in metadata)
    assert size < 8 * 1024


async def test_an_error_class_of_ours_that_is_not_in_the_tree_arrives_as_the_nearest_that_is() -> None:
    class Resting(Transient):
        pass

    arrived = await met(Resting("resting", todo="wait"))
    assert (type(arrived), arrived.todo) == (Transient, "wait")


async def test_an_unforeseen_exception_is_broken_for_the_caller_and_a_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "watchword.rpc"):
        arrived = await met(KeyError("a secret"))
    assert type(arrived) is Broken
    assert arrived.message == "the service failed (KeyError)"
    assert "log" in arrived.todo
    (record,) = [one for one in caplog.records if one.name == "watchword.rpc"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_a_call_that_is_cancelled_is_cancelled_inside_too(caplog: pytest.LogCaptureFixture) -> None:
    inside, cancelled = asyncio.Event(), asyncio.Event()

    async def work(_: Context) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(work, most_calls=1) as server, asking(server) as ask:
        call = asyncio.ensure_future(ask())
        await inside.wait()
        call.cancel()
        async with asyncio.timeout(10):
            await cancelled.wait()
        assert [record for record in caplog.records if record.name == "watchword.rpc"] == []
        with server.door.admitted("Cameras"):  # its place is free again
            pass


async def test_a_status_that_a_servicer_chose_itself_is_left_as_it_is() -> None:
    async def work(context: Context) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "half of it")

    async with serving(work) as server, asking(server) as ask:
        with pytest.raises(Broken, match=r"the service refuses the call \(half of it\)"):
            await ask()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Transient),
        (grpc.StatusCode.CANCELLED, Transient),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Late),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, Invalid),
        (grpc.StatusCode.FAILED_PRECONDITION, Mismatch),
        (grpc.StatusCode.UNIMPLEMENTED, Broken),
        (grpc.StatusCode.UNKNOWN, Broken),
    ],
)
def test_a_status_that_gRPC_or_a_proxy_made_means_an_error_with_something_to_do(  # noqa: N802 - the product's name
    code: grpc.StatusCode, kind: type[WatchwordError]
) -> None:
    foreign = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "by a proxy")
    error = error_of(foreign, "the service")
    assert type(error) is kind
    assert error.message.startswith("the service")
    assert error.todo


@asynccontextmanager
async def full(server: GrpcServer, *, calls: int, inside: list[None]) -> AsyncIterator[None]:
    """With so many calls inside."""
    async with asking(server) as ask:
        tasks = [asyncio.ensure_future(ask()) for _ in range(calls)]
        async with asyncio.timeout(10):
            while len(inside) < calls:  # noqa: ASYNC110 - the calls come over a connection
                await asyncio.sleep(0.01)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def test_beyond_the_door_calls_are_refused_and_health_probes_are_not() -> None:
    inside: list[None] = []

    async def work(_: Context) -> None:
        inside.append(None)
        await asyncio.Event().wait()

    async with serving(work, most_calls=2) as server, full(server, calls=2, inside=inside):
        async with asking(server) as ask:
            with pytest.raises(Overloaded, match=r"the service has 2 calls of this kind under way") as refused:
                await ask()
            assert refused.value.todo
        assert [await health(server) for _ in range(3)] == [SERVING] * 3


async def test_a_call_is_refused_before_its_message_is_read() -> None:
    inside: list[None] = []

    async def work(_: Context) -> None:
        inside.append(None)
        await asyncio.Event().wait()

    async with (
        serving(work, most_calls=1) as server,
        full(server, calls=1, inside=inside),
        open_channel(server.address) as channel,
    ):
        call: Any = channel.unary_unary("/watchword.v1.Query/Cameras")
        with pytest.raises(Overloaded):
            await answer_of(call(b"no message at all", timeout=10), "the service")


async def test_a_method_with_an_admission_of_its_own_fills_no_place_of_the_others() -> None:
    inside: list[None] = []

    async def work(_: Context) -> None:
        inside.append(None)
        await asyncio.Event().wait()

    cheap = Admission("cheap", most=2)
    async with (
        serving(work, most_calls=1, admissions={"Cameras": cheap}) as server,
        full(server, calls=2, inside=inside),
        asking(server) as ask,
    ):
        with pytest.raises(Overloaded):
            await ask()
        with server.door.admitted("Clip"):
            assert server.door.refusal("Thumbnail") is not None
        assert server.door.refusal("Thumbnail") is None
        assert cheap.inside == 2


async def test_a_call_is_refused_when_it_could_not_be_answered_before_its_own_deadline() -> None:
    learnt = Admission("cameras", most=100, promised_s=60.0)
    stays = [learnt.enter(0.0) for _ in range(8)]
    for stay in stays:
        learnt.leave(stay, 16.0, answered=True)  # 2 s for each of them
    for _ in range(4):
        learnt.enter(20.0)

    async def work(_: Context) -> None:
        return

    async with serving(work, admissions={"Cameras": learnt}) as server:
        async with asking(server, within_s=5) as ask:
            with pytest.raises(Overloaded, match=r"would need about \d+ s for an answer, with 4 calls under way"):
                await ask()
        async with asking(server, within_s=50) as ask:
            assert await ask() == query_pb2.CamerasReply()


async def test_what_is_refused_and_inside_is_counted_by_kind() -> None:
    def refused() -> float:
        return REGISTRY.get_sample_value("watchword_calls_refused_total", {"kind": "counted"}) or 0.0

    counted = Admission("counted", most=1, promised_s=0.25)
    door = Door("the service", Admission("other", most=1), {"Search": counted})
    with door.admitted("Search"):
        assert REGISTRY.get_sample_value("watchword_calls_inside", {"kind": "counted"}) == 1
        with pytest.raises(Overloaded), door.admitted("Search"):
            raise AssertionError("the door is full")
        assert door.refusal("Search") is not None
    assert refused() == 2
    assert REGISTRY.get_sample_value("watchword_calls_inside", {"kind": "counted"}) == 0
    assert REGISTRY.get_sample_value("watchword_calls_expected_seconds", {"kind": "counted"}) is not None
    assert REGISTRY.get_sample_value("watchword_calls_promised_seconds", {"kind": "counted"}) == 0.25


async def test_a_caller_repeats_what_was_refused_until_most_calls_are() -> None:
    tried: list[None] = []

    async def work(_: Context) -> None:
        tried.append(None)
        if len(tried) % 3:
            raise Overloaded("too much")

    async with serving(work) as server, asking(server, repeats_refused=True) as ask:
        assert await ask() == query_pb2.CamerasReply()
        assert len(tried) == 3

    async def refuse(_: Context) -> None:
        tried.append(None)
        raise Overloaded("too much")

    async with serving(refuse) as server, asking(server, repeats_refused=True) as ask:
        tried.clear()
        outcomes = await asyncio.gather(*(ask() for _ in range(30)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Overloaded}
        assert len(tried) < 60


async def test_a_call_that_ends_in_any_way_makes_room_for_the_next() -> None:
    errors: list[BaseException] = [Invalid("no"), KeyError("no"), Broken("no")]

    async def work(_: Context) -> None:
        if errors:
            raise errors.pop()

    async with serving(work, most_calls=1) as server, asking(server) as ask:
        for _ in range(3):
            with pytest.raises((Invalid, Broken)):
                await ask()
        assert await ask() == query_pb2.CamerasReply()


async def health(server: GrpcServer, service: str = "") -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        status: int = reply.status
        return status


@pytest.mark.parametrize("service", ["", "watchword.v1.Query"])
async def test_health_follows_what_the_service_says(service: str) -> None:
    server = GrpcServer("the service", "watchword.v1.Query", most_calls=1)
    await server.start(ANY)
    try:
        seen = [await health(server, service)]
        for ready in (True, False):
            server.set_ready(ready)
            seen.append(await health(server, service))
    finally:
        await server.stop(0)
    assert seen == [NOT_SERVING, SERVING, NOT_SERVING]


async def test_a_taken_port_is_broken_in_a_clear_sentence() -> None:
    async with serving(raising(Invalid("no"))) as server:
        second = GrpcServer("the other", "watchword.v1.Query", most_calls=1)
        with pytest.raises(Broken, match=f"the other cannot listen on {server.address}"):
            await second.start(server.address)
