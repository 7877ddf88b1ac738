"""Steps of the chain, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from catalog.media import Thumbnails
from catalog.skips import Skipped, Skips
from index.memory import MemoryStore
from proto.types import Moment, now_ms
from proto.v1.events_pb2 import DeadLetter, Frame
from stream.app import Record
from stream.chain import Batch, Chain, Item, Mark
from stream.settings import StreamSettings
from tests.stream.rig import SPACE, START_MS, SceneEncoder, span, through, until


class Bench:
    """A chain over a store in memory; remembers letters and finished offsets."""

    def __init__(self, folder: Path, settings: StreamSettings) -> None:
        self.letters: list[DeadLetter] = []
        self.done: list[int] = []
        self.store = MemoryStore(SPACE)
        self._folder = folder
        self.settings = settings
        self.skips = Skips(folder / "skipped")
        self.chain = self.fresh()

    def fresh(self) -> Chain:
        self.chain = Chain(
            encoder=SceneEncoder(),
            store=self.store,
            thumbnails=Thumbnails(self._folder),
            skips=self.skips,
            letters=self,
            settings=self.settings,
            frames_topic="frames",
            finish=self._finish,
        )
        return self.chain

    async def bury(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    async def run(self, *frames: Frame, first: int = 0) -> None:
        items = [Item(Record(0, first + at, b"gate", frame.SerializeToString())) for at, frame in enumerate(frames)]
        await through(self.chain, Batch(items))

    def spans(self) -> list[tuple[object, ...]]:
        return [span(moment)[1:] for moment in self.store._moments.values()]

    def _finish(self, marks: list[Mark]) -> None:
        self.done += [mark.offset for mark in marks]


def frame(number: int, scene: int = 0, *, age_s: float = 0.0, camera: str = "gate") -> Frame:
    published_ms = now_ms() - round(age_s * 1000)
    return Frame(
        camera=camera,
        captured_ms=START_MS + 500 * number,
        grabbed_ms=published_ms,
        published_ms=published_ms,
        jpeg=str(scene).encode(),
        sequence=number,
    )


NEWEST = StreamSettings(catch_up="newest", behind_s=60, refresh_s=1e-9)


async def test_frames_that_are_too_old_are_skipped_declared_and_done(tmp_path: Path) -> None:
    at = Bench(tmp_path, NEWEST)
    before = REGISTRY.get_sample_value("watchword_stream_frames_skipped_total") or 0.0
    await at.run(*(frame(number, age_s=100) for number in range(4)), frame(4), frame(5))
    assert [(one.reason, one.offset, one.through) for one in at.letters] == [("skipped", 0, 3)]
    assert at.done == [0, 1, 2, 3]
    assert REGISTRY.get_sample_value("watchword_stream_frames_skipped_total") == before + 4
    ((start, _, _, frames, _),) = at.spans()
    assert (start, frames) == (START_MS + 2000, 1)


async def test_what_was_skipped_is_noted_by_camera_and_time_and_once_however_often_it_is_read(tmp_path: Path) -> None:
    at = Bench(tmp_path, NEWEST)
    old = [frame(number, age_s=100, camera=camera) for number in range(3) for camera in ("gate", "dock")]
    await at.run(*old[:4])
    at.fresh()
    await at.run(*old)
    assert at.skips.within(None, None, None) == [
        Skipped(camera, START_MS, START_MS + 1000, 3) for camera in ("dock", "gate")
    ]


async def test_a_disk_that_refuses_holds_no_skipped_frame_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "skipped").write_text("no folder")
    at = Bench(tmp_path, NEWEST)
    await at.run(frame(0, age_s=100))
    assert at.done == [0]
    assert "answers will not tell of 1 frames of gate" in caplog.text


async def test_no_frame_is_skipped_unless_asked_for(tmp_path: Path) -> None:
    at = Bench(tmp_path, StreamSettings())
    await at.run(*(frame(number, age_s=1e6) for number in range(4)))
    assert at.letters == []
    assert len(at.store._moments) == 1


async def test_no_moment_reaches_across_what_was_skipped(tmp_path: Path) -> None:
    at = Bench(tmp_path, NEWEST)
    await at.run(frame(0), frame(1), frame(2, age_s=100), frame(3), frame(4))
    assert [(start - START_MS, end - START_MS, closed) for start, _, end, _, closed in at.spans()] == [
        (0, 500, True),
        (1500, 1500, False),
    ]
    assert sorted(at.done) == [0, 1, 2]


async def test_a_moment_that_was_begun_is_finished_although_its_frames_are_old_by_now(tmp_path: Path) -> None:
    at = Bench(tmp_path, NEWEST)
    for number in range(4):
        await at.run(frame(number, age_s=0), first=number)
    at.fresh()
    await at.run(*(frame(number, age_s=1000) for number in range(6)))
    assert at.spans() == [(START_MS, START_MS, START_MS + 1500, 4, True)]
    assert [(one.offset, one.through) for one in at.letters] == [(4, 5)]


async def test_runs_of_skipped_frames_are_declared_apart(tmp_path: Path) -> None:
    at = Bench(tmp_path, NEWEST)
    await at.run(frame(0, age_s=100), frame(1), frame(2, age_s=100), frame(3, age_s=100))
    assert [(one.offset, one.through) for one in at.letters] == [(0, 0), (2, 3)]


async def test_the_time_that_a_batch_takes_is_no_silence(tmp_path: Path) -> None:
    class Slow(MemoryStore):
        async def upsert(self, moments: Sequence[Moment]) -> None:
            await asyncio.sleep(0.05)
            await super().upsert(moments)

    at = Bench(tmp_path, StreamSettings(silent_s=0.01))
    at.store = Slow(SPACE)
    chain = at.fresh()
    drained_s = chain.patience.clock()
    await at.run(frame(0))
    await chain.tick(drained_s)
    assert [closed for *_, closed in at.spans()] == [False]
    await chain.tick(chain.patience.clock())
    assert [closed for *_, closed in at.spans()] == [True]


async def test_shares_that_are_none_are_a_bad_frame(tmp_path: Path) -> None:
    at = Bench(tmp_path, StreamSettings())
    bad = frame(0)
    bad.novelty = float("nan")
    await at.run(bad)
    assert [one.reason for one in at.letters] == ["bad_frame"]
    assert at.done == [0]


@pytest.mark.parametrize("hop", ["consumed", "embedded", "written", "visible"])
async def test_every_hop_of_a_new_moment_is_timed(tmp_path: Path, hop: str) -> None:
    def seen() -> float:
        return REGISTRY.get_sample_value("watchword_hop_seconds_count", {"hop": hop}) or 0.0

    at = Bench(tmp_path, StreamSettings())
    before = seen()
    await at.run(frame(0))
    await until(lambda: seen() == before + 1, f"hop {hop}")
    await at.chain.close()
