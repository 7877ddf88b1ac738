"""The trace of a frame through a real broker and the stream worker, until it can be found."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proto import tracing
from proto.tracing import TraceSettings, Trail, traced
from proto.types import now_ms
from tests.stream.rig import Desk, SceneEncoder, desk, frame, until, working
from tests.tools.otlp import Receiver, Span, receiving

STEPS = ["send", "broker", "inbox", "recall", "turn", "embed", "build", "write", "visible"]


async def published(desk: Desk, cameras: int) -> None:
    """One traced frame of each camera, and one that is not, as the camera process sends them."""
    for number in range(cameras):
        made = frame(f"cam-{number}", now_ms(), number, 0, grabbed_ms=now_ms(), after_gap=True)
        trail: Trail | None = tracing.frame(made.camera, made.grabbed_ms)
        with tracing.along(trail):
            await desk.producer.send(made)
        tracing.ended(trail, "send")
    await desk.producer.send(frame("quiet", now_ms(), 5, 0, grabbed_ms=now_ms(), after_gap=True))


def of_each(receiver: Receiver) -> dict[str, list[Span]]:
    """The spans of each frame, by camera, in order."""
    roots = {span.attributes["camera"]: span for span in receiver.spans if span.name == "frame"}
    return {
        camera: sorted((one for one in receiver.of(root.trace) if one.parent == root.id), key=lambda one: one.end_ns)
        for camera, root in roots.items()
    }


async def test_a_sampled_frame_is_one_trace_from_the_camera_until_it_is_found(broker: str, tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = TraceSettings(endpoint=receiver.address, frames=1.0)
        async with desk(broker, tmp_path, partitions=1) as house:
            with traced(settings, "stream"):
                await published(house, cameras=3)
                async with working(house.worker(SceneEncoder())):
                    await asyncio.to_thread(receiver.wait_for, "visible", 3)
            found = of_each(receiver)
    assert sorted(found) == ["cam-0", "cam-1", "cam-2"]
    for camera, spans in found.items():
        assert [one.name for one in spans] == STEPS, camera
        send, broker_, *later = spans
        assert broker_.begin_ns // 1_000_000 <= send.end_ns // 1_000_000
        # Each step begins where the one before ended, so they add up.
        assert [one.begin_ns for one in later] == [one.end_ns for one in spans[1:-1]]
        assert later[-1].attributes["moment"] == later[-2].attributes["moment"]


async def test_a_worker_that_does_not_trace_takes_traced_frames_and_the_other_way_round(
    broker: str, tmp_path: Path
) -> None:
    with receiving() as receiver:
        settings = TraceSettings(endpoint=receiver.address, frames=1.0)
        async with desk(broker, tmp_path, partitions=1) as house:
            with traced(settings, "camera"):
                await published(house, cameras=2)
            async with working(house.worker(SceneEncoder())):
                await until(lambda: len(house.spans()) == 3, "moments")
    assert {one.name for one in receiver.spans} == {"frame", "send"}
