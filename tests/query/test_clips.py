"""Clips as a client meets them, over real gRPC and real video."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.recordings import Clip, Recordings
from index.memory import MemoryStore
from proto.errors import Invalid, Overloaded, Unknown, WatchwordError
from proto.life import Gone
from proto.types import Recording
from proto.v1 import query_pb2
from query.client import QueryClient
from query.clips import ClipReader
from query.service import serve_query
from query.settings import QuerySettings
from tests.cameras.filming import film, numbers, tapped
from tests.contracts.moments import NOON, SPACE
from tests.query.fakes import MOMENTS, searcher

ANY = "127.0.0.1:0"
BEGAN_MS = NOON - 5_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of the gate, a key frame each second, from five seconds before noon."""
    folder = tmp_path_factory.mktemp("recordings")
    writer = Segments(folder / "recordings", RecordingSettings(segment_s=10, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9)}
    for fragment in tapped([film(folder / "a.ts", 30)], start_ms=BEGAN_MS):
        writer.write(fragment, NOON)
    writer.close()
    return folder / "recordings"


@pytest.fixture
async def client(tmp_path: Path, recorded: Path) -> AsyncIterator[QueryClient]:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    reader = ClipReader(Recordings(recorded), 3600)
    server = await serve_query(searcher(store, tmp_path), QuerySettings(), ANY, reader)
    async with QueryClient(server.address, 10.0) as client:
        yield client
    await server.stop(0)


async def clip(client: QueryClient, **wanted: Any) -> tuple[query_pb2.ClipHead, bytes]:
    parts = [part async for part in client.clip(**wanted)]
    assert [part.WhichOneof("part") for part in parts] == ["head"] + ["data"] * (len(parts) - 1)
    return parts[0].head, b"".join(part.data for part in parts[1:])


async def test_a_clip_says_what_it_is_and_plays(client: QueryClient) -> None:
    head, data = await clip(client, camera="gate", start_ms=NOON, end_ms=NOON + 3_000)
    # Half a second before the time, and from the key frame before that.
    assert (head.camera, head.start_ms - NOON, head.end_ms - NOON) == ("gate", -1_000, 3_000)
    assert [(span.start_ms, span.end_ms) for span in head.spans] == [(head.start_ms, head.end_ms)]
    assert (len(data), head.bytes) == (head.bytes, len(data))
    assert head.mime == f'video/mp4; codecs="{head.codec}"' and head.codec.startswith("avc1.")
    assert not head.missing
    assert numbers(data) == list(range(40, 80))


async def test_a_moment_has_a_clip(client: QueryClient) -> None:
    moment = MOMENTS[0]
    head, data = await clip(client, moment_id=moment.id)
    assert head.start_ms <= moment.start_ms - 500 and moment.end_ms <= head.end_ms
    assert numbers(data)


async def test_what_is_missing_is_said(client: QueryClient) -> None:
    head, _ = await clip(client, camera="gate", start_ms=NOON + 20_000, end_ms=NOON + 60_000)
    (missing,) = head.missing
    assert (missing.start_ms, missing.end_ms, missing.reason) == (NOON + 25_000, NOON + 60_000, "not recorded")


async def test_hits_say_whether_they_were_recorded(client: QueryClient) -> None:
    reply = await client.search(text="red truck")
    told = {(hit.camera, hit.at_ms): hit.recorded for hit in reply.hits}
    assert told == {(one.camera, one.peak_ms): one.id == MOMENTS[0].id for one in MOMENTS}


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        ({"camera": "gaet", "start_ms": NOON, "end_ms": NOON + 1}, Unknown, "'gaet': known here: gate"),
        ({"camera": "dock", "start_ms": NOON, "end_ms": NOON + 1}, Unknown, "nothing of dock is recorded"),
        ({"camera": "gate", "start_ms": 0, "end_ms": 1}, Unknown, "there are recordings from"),
        ({"camera": "gate", "start_ms": NOON, "end_ms": NOON}, Invalid, "the start first"),
        ({"camera": "gate", "start_ms": -1, "end_ms": NOON}, Invalid, "milliseconds since 1970"),
        ({"camera": "gate", "start_ms": NOON, "end_ms": NOON + 3_600_001}, Invalid, "query.max_clip_s"),
        ({}, Invalid, "either a camera and a time, or a moment_id"),
        ({"camera": "gate", "moment_id": MOMENTS[0].id}, Invalid, "either a camera and a time, or a moment_id"),
        ({"moment_id": "f" * 32}, Unknown, "there is no moment"),
        ({"moment_id": "../etc"}, Invalid, "32 hex digits"),
        ({"camera": "../../etc", "start_ms": NOON, "end_ms": NOON + 1}, Unknown, "no camera is named"),
    ],
)
async def test_a_clip_that_cannot_be_given_says_why(
    client: QueryClient, wanted: dict[str, Any], error: type[WatchwordError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await clip(client, **wanted)


async def test_players_that_go_away_leave_their_places(client: QueryClient) -> None:
    answered = 0
    for _ in range(1_000):
        parts = client.clip(camera="gate", start_ms=NOON, end_ms=NOON + 3_000)
        try:
            answered += (await anext(parts)).head.camera == "gate"
        except Overloaded:
            await asyncio.sleep(0.01)
        finally:
            await parts.aclose()
        if answered == 100:  # more than there are places
            return
    raise AssertionError("their places are never free")


class Stuck:
    """A disk that does not answer."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def clip(self, camera: str, start_ms: int, end_ms: int, gone: Gone) -> Clip:
        self.free.wait(20)
        raise Unknown("nothing")

    def has(self, camera: str, at_ms: int) -> bool:
        return self.free.wait(20)


async def test_a_disk_that_hangs_holds_up_no_search() -> None:
    stuck = Stuck()
    reader = ClipReader(stuck, 3600)
    assert await reader.recorded([("gate", NOON)]) == frozenset()
    stuck.free.set()
