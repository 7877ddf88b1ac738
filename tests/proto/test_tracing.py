"""Traces, as a collector receives them by OTLP; and that they cost nothing while they are off."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from proto import tracing
from proto.errors import Broken, Invalid
from proto.tracing import TraceSettings, traced
from proto.v1 import query_pb2, query_pb2_grpc
from tests.proto.test_serving import asking, raising, serving
from tests.tools.otlp import CLIENT, SERVER, Receiver, receiving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def on(receiver: Receiver, process: str = "query", **settings: Any) -> Any:
    return traced(TraceSettings(endpoint=receiver.address, **settings), process)


async def nothing(_: object) -> None:
    """Do nothing."""


async def asked(address: str, *metadata: tuple[str, str]) -> dict[str, str]:
    """Trailing metadata of a call by a client that knows nothing of us."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = query_pb2_grpc.QueryStub(channel).Cameras(query_pb2.CamerasRequest(), metadata=metadata)
        await call
        return {key: str(value) for key, value in await call.trailing_metadata()}


@pytest.mark.long
def test_while_it_is_off_opentelemetry_is_not_imported() -> None:
    rooms = "proto.tracing, proto.serving, proto.calling, query.client, stream.consumer, workers.queued"
    code = f"import sys, {rooms}; print([name for name in sys.modules if 'opentelemetry' in name])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_while_it_is_off_nothing_is_done() -> None:
    assert not tracing.on()
    assert tracing.span("a") is tracing.span("b", n=1) is tracing.calling("c", begins=True) is tracing.serving("d", ())
    assert (tracing.carried(), tracing.trailer(), tracing.trace_id()) == ((), (), "")
    assert (tracing.frame("gate", 1), tracing.here(), tracing.goes_on((("traceparent", SAMPLED),), 1)) == (None,) * 3


def test_an_endpoint_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proto.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(Broken, match=r"pip install 'watchword\[otel\]'"), traced(TraceSettings(endpoint="h:1"), "x"):
        pass
    assert not tracing.on()


async def test_a_call_is_one_trace_in_client_and_server_and_its_id_is_in_the_reply(receiver: Receiver) -> None:
    ids = []

    async def work(_: object) -> None:
        ids.append(tracing.trace_id())
        with tracing.span("inner", cameras=3):
            await asyncio.create_task(asyncio.sleep(0))

    with on(receiver):
        async with serving(work) as server:
            with tracing.calling("question", begins=True):
                async with asking(server) as ask:
                    await ask()
                trailing = await asked(server.address, *tracing.carried())
    by_name = {(one.name, one.kind): one for one in receiver.spans}
    question, client = by_name["question", CLIENT], by_name["Cameras", CLIENT]
    served = [one for one in receiver.spans if one.kind == SERVER]
    assert {one.trace for one in receiver.spans} == {question.trace}
    assert (question.parent, client.parent) == ("", question.id)
    assert {one.parent for one in served} == {client.id, question.id}
    assert {one.parent for one in receiver.spans if one.name == "inner"} == {one.id for one in served}
    assert by_name["inner", 1].attributes == {"cameras": 3}
    assert {one.process for one in receiver.spans} == {"watchword-query"}
    assert set(ids) == {question.trace}
    assert trailing["watchword-trace"] == question.trace


async def test_the_traceparent_of_any_client_is_followed_and_so_is_its_decision(receiver: Receiver) -> None:
    carried: list[tracing.Carried] = []

    async def work(_: object) -> None:
        carried.append(tracing.carried())

    with on(receiver):
        async with serving(work) as server:
            sampled = await asked(server.address, ("traceparent", SAMPLED), ("tracestate", "v=1"))
            not_sampled = await asked(server.address, ("traceparent", NOT_SAMPLED))
    (span,) = receiver.spans
    assert (span.trace, span.parent, span.kind) == (TRACE, SPAN, SERVER)
    assert sampled["watchword-trace"] == not_sampled["watchword-trace"] == TRACE
    assert carried[0] == (("traceparent", f"00-{TRACE}-{span.id}-01"), ("tracestate", "v=1"))
    assert carried[1][0][1].endswith("-00")


@pytest.mark.parametrize(
    "sent", ["", "rubbish", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "00-ü", "x" * 500]
)
async def test_a_traceparent_that_is_none_begins_a_trace_of_our_own(receiver: Receiver, sent: str) -> None:
    with on(receiver):
        assert tracing.goes_on((("traceparent", sent),), 1) is None
        async with serving(nothing) as server:
            metadata = [("traceparent", sent)] if sent.isascii() else []
            trailing = await asked(server.address, *metadata)
    (span,) = receiver.spans
    assert span.parent == ""
    assert re.fullmatch("[0-9a-f]{32}", trailing["watchword-trace"])


async def test_only_the_query_service_begins_traces_and_only_its_share(receiver: Receiver) -> None:
    with on(receiver, "worker"):
        async with serving(nothing) as server:
            assert "watchword-trace" not in await asked(server.address)
    with on(receiver, questions=0.0):
        async with serving(nothing) as server:
            assert "watchword-trace" in await asked(server.address)
    assert receiver.spans == []


@pytest.mark.parametrize(
    ("error", "kind", "todo"),
    [
        (Invalid("rtsp://me:pa55@cam/1 is wrong", todo="ask http://me:pa55@door"), "Invalid", "ask http://***@door"),
        (ValueError("rtsp://me:pa55@cam/1 is wrong"), "ValueError", None),
    ],
)
async def test_an_error_is_in_its_span_without_secrets(
    receiver: Receiver, error: Exception, kind: str, todo: str | None
) -> None:
    with on(receiver):
        async with serving(raising(error)) as server, grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await query_pb2_grpc.QueryStub(channel).Cameras(query_pb2.CamerasRequest())
    (span,) = receiver.spans
    assert (span.failed, span.status) == (True, "rtsp://***@cam/1 is wrong")
    assert (span.attributes["error.type"], span.attributes.get("error.todo")) == (kind, todo)
    trailing = dict(refused.value.trailing_metadata() or ())
    assert (trailing["watchword-trace"], "watchword-error" in trailing) == (span.trace, True)


def test_the_steps_of_a_trail_add_up_also_across_threads_and_processes(receiver: Receiver) -> None:
    began_ms = round(time.time() * 1000) - 50
    with on(receiver, "camera", frames=1.0):
        trail = tracing.frame("gate", began_ms)
        tracing.step(trail, "gate")
        with tracing.along(trail):
            carried = tracing.carried()
        thread = threading.Thread(target=tracing.ended, args=(trail, "send"))
        thread.start()
        thread.join()
    with on(receiver, "stream", frames=0.0):
        assert tracing.frame("gate", began_ms) is None
        far = tracing.goes_on(carried, began_ms + 100_000)  # a clock that is ahead
        assert far is not None
        far.step("broker")
        far.step("inbox", items=3)
    frame, *steps = sorted(receiver.spans, key=lambda one: (bool(one.parent), one.begin_ns, one.end_ns))
    assert (frame.name, frame.begin_ns, frame.attributes) == ("frame", began_ms * 1_000_000, {"camera": "gate"})
    assert [(one.name, one.parent, one.trace) for one in steps] == [
        (name, frame.id, frame.trace) for name in ("gate", "send", "broker", "inbox")
    ]
    gate, send, broker, inbox = steps
    assert (gate.begin_ns, gate.end_ns, broker.end_ns) == (frame.begin_ns, send.begin_ns, inbox.begin_ns)
    assert all(one.ms >= 0 for one in steps)


def test_a_batch_is_in_the_trace_of_its_first_frame_and_linked_with_the_others(receiver: Receiver) -> None:
    with on(receiver, frames=1.0):
        trails = [tracing.frame(f"cam-{number}", round(time.time() * 1000)) for number in range(3)]
        assert None not in trails
        with tracing.together("embed", [trail for trail in trails if trail]), tracing.span("call"):
            pass
        for trail in trails:
            tracing.ended(trail, "build")
    frames = {one.trace: one for one in receiver.spans if one.name == "frame"}
    first, *others = sorted((one for one in receiver.spans if one.name == "embed"), key=lambda one: -len(one.links))
    assert sorted(first.links) == sorted((one.trace, frames[one.trace].id) for one in others)
    assert all(one.links == ((first.trace, first.id),) and one.parent == frames[one.trace].id for one in others)
    (call,) = (one for one in receiver.spans if one.name == "call")
    assert (call.parent, call.trace) == (first.id, first.trace)
    builds = {one.trace: one for one in receiver.spans if one.name == "build"}
    assert all(builds[one.trace].begin_ns >= one.end_ns for one in (first, *others))


def test_nothing_is_made_without_trails_and_a_cancelled_span_is_no_failure(receiver: Receiver) -> None:
    with on(receiver):
        with tracing.together("embed", []), tracing.span("alone"):
            assert tracing.trace_id() == ""
        with pytest.raises(asyncio.CancelledError), tracing.calling("question", begins=True):
            raise asyncio.CancelledError
    (span,) = receiver.spans
    assert (span.failed, span.attributes) == (False, {"cancelled": True})


def test_a_collector_that_is_away_is_told_once_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    with traced(TraceSettings(endpoint="127.0.0.1:1"), "query"):
        for _ in range(3_000):
            with tracing.calling("question", begins=True):
                pass
    assert [one.getMessage() for one in caplog.records] == [
        "traces are lost: the collector at http://127.0.0.1:1 does not take them; is it running?"
    ]
