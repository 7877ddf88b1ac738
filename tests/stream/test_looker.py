"""Looks through the whole pipeline: what the encoder is asked, and what rests in the index."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.errors import Broken, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.retry import Backoff
from proto.types import Box as Rectangle
from proto.types import Moment, Vector
from proto.v1.events_pb2 import Frame
from stream.embedding import Embedding
from stream.frames import Part
from stream.looker import Looker, most_at_once
from stream.looks import Found, Look
from stream.patience import Patience
from stream.regions import RESERVED
from stream.settings import StreamSettings
from tests.stream.bench import Bench
from tests.stream.rig import SPACE, START_MS, Box, Life, SceneEncoder, filled, frame, vector
from tests.stream.sights import Sighted, crop
from workers.client import Seen


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.patience._PAUSES", Backoff(1e-4, 1e-3))


def moving(count: int, novelty: float = 0.5, crops: Mapping[str, object] | None = None) -> list[Frame]:
    """A scene in which something else moves in every frame; `crops` says what is otherwise with these."""
    return [
        frame(
            "gate",
            START_MS + 500 * number,
            0,
            number,
            run=7,
            novelty=novelty,
            usual=novelty,
            crops=[crop(number % 8, **(crops or {}))],
        )
        for number in range(count)
    ]


class World:
    """One worker on a log, and what comes of it."""

    def __init__(
        self, folder: Path, frames: Sequence[Frame], encoder: SceneEncoder, settings: StreamSettings | None = None
    ) -> None:
        self.store, self.box, self.encoder = MemoryStore(SPACE), Box(), encoder
        self.thumbnails = Thumbnails(FolderObjects(folder))
        self.life = Life(filled(frames), self.store, folder, encoder=encoder, settings=settings, letters=self.box)

    async def ended(self) -> list[Moment]:
        """Everything is read, and then nothing comes any more."""
        while await self.life.read(16):
            pass
        await self.life.quiet(31)
        await self.life.stored()
        await self.life.commit()
        await self.life.die()
        assert self.life.log.committed == self.life.log.ends()
        moments = list(self.store._moments.values())
        assert all(one.closed for one in moments)
        return moments


async def test_what_moved_and_what_is_seen_are_regions_of_the_moment(tmp_path: Path) -> None:
    world = World(tmp_path, moving(18), Sighted())
    moments = await world.ended()
    kinds = {region.kind for one in moments for region in one.regions}
    assert kinds - {""}
    assert any(one.objects for one in moments)


async def test_objects_in_a_crop_are_where_the_crop_is_in_the_picture(tmp_path: Path) -> None:
    class Whole(Sighted):
        """Sees one person, in the upper left quarter of whatever it is shown."""

        async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
            return [[Seen("person", 0.9, Rectangle(0.0, 0.0, 0.5, 0.5), vector(5))] for _ in images]

    frames = moving(8, crops={"jpeg": b"3", "left": 0.5, "top": 0.5, "right": 0.75, "bottom": 1.0})
    (moment,) = await World(tmp_path, frames, Whole()).ended()
    person = next(one for one in moment.regions if one.kind)
    assert (person.box.left, person.box.top, person.box.right, person.box.bottom) == (0.5, 0.5, 0.625, 0.75)
    assert moment.objects == (("person", 1),)


async def test_every_region_has_the_picture_that_shows_it(tmp_path: Path) -> None:
    world = World(tmp_path, moving(18), Sighted())
    (moment,) = await world.ended()
    assert moment.regions
    assert {world.thumbnails.get(moment.id, one.at_ms) for one in moment.regions} == {b"0"}
    instants = tmp_path.rglob(f"{moment.id}/*.jpg")
    assert {int(path.stem) for path in instants} == {one.at_ms for one in moment.regions}


@pytest.mark.parametrize("crops", [{"jpeg": b"no picture"}, {"right": 0.0}, {"jpeg": b""}, {"jpeg": b"1" * (1 << 21)}])
async def test_a_crop_that_cannot_be_used_is_dropped_and_its_frame_is_not(
    tmp_path: Path, crops: dict[str, object]
) -> None:
    world = World(tmp_path, moving(3, crops=crops), Sighted())
    (moment,) = await world.ended()
    assert (moment.frames, moment.regions, world.box.letters) == (3, (), [])


async def test_an_encoder_without_a_detector_is_asked_for_vectors_of_crops_alone(tmp_path: Path) -> None:
    (moment,) = await World(tmp_path, moving(18), SceneEncoder()).ended()
    assert moment.regions
    assert {one.kind for one in moment.regions} == {""}
    assert moment.objects == ()


async def test_regions_can_be_switched_off(tmp_path: Path) -> None:
    encoder = Sighted()
    settings = StreamSettings(catch_up="all", batch_wait_ms=0, regions=False)
    (moment,) = await World(tmp_path, moving(18), encoder, settings).ended()
    assert (moment.regions, moment.objects, encoder.cost) == ((), (), 18)


@pytest.mark.parametrize(("novelty", "most"), [(0.5, 2.0), (0.02, 1.5)])
async def test_looks_cost_no_more_than_their_share_of_the_frames(tmp_path: Path, novelty: float, most: float) -> None:
    encoder = Sighted()
    await World(tmp_path, moving(200, novelty=novelty), encoder).ended()
    assert 200 < encoder.cost <= most * 200


@pytest.mark.parametrize(("late_s", "looks"), [(0.0, True), (0.34, True), (0.36, False), (5.0, False)])
async def test_a_worker_that_is_behind_gives_up_looks_before_frames(tmp_path: Path, late_s: float, looks: bool) -> None:
    live = moving(8)
    for one in live:
        one.recorded = False
    at = Bench(tmp_path, live)
    waiting = await at.waiting()
    await at.pipeline.build(await at.pipeline.embed(waiting), late_s)
    await at.pipeline.looked_at()
    assert (at.encoder.pictures > 8) == looks
    await at.life.die()


async def test_an_old_recording_is_looked_at_up_close_however_late_its_frames_are(tmp_path: Path) -> None:
    at = Bench(tmp_path, [])
    for one in moving(8):
        at.log.append(0, b"gate", one.SerializeToString(), one.captured_ms + 3_600_000)
    at.log.make(0)
    life = Life(at.log, at.store, tmp_path, encoder=at.encoder, settings=StreamSettings(batch_wait_ms=0))
    await life.begin()
    frames = await life.assignment._arrived(at.log.read(0, 0, 100))
    recalled, _ = await life.assignment.pipeline.recall(frames)
    await life.assignment.pipeline.build(await life.assignment.pipeline.embed(recalled), 60.0)
    await life.assignment.pipeline.looked_at()
    assert at.encoder.pictures > 8
    await life.die()


class Ill(Sighted):
    """Its detector fails always."""

    def __init__(self, error: WatchwordError) -> None:
        super().__init__()
        self._error = error

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        raise self._error


@pytest.mark.parametrize(
    "error", [Broken("ill"), Transient("away"), Overloaded("full")], ids=lambda e: type(e).__name__
)
async def test_a_detector_that_fails_holds_up_no_moment_and_is_told_once(
    tmp_path: Path, error: WatchwordError, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        moments = await World(tmp_path, moving(60), Ill(error)).ended()
    assert sum(one.frames for one in moments) == 60
    assert sum("without a closer look" in one.getMessage() for one in caplog.records) == 1


async def test_an_encoder_of_another_space_ends_the_worker_from_a_look_too(tmp_path: Path) -> None:
    world = World(tmp_path, moving(18), Ill(Mismatch("another space")))
    with pytest.raises(Mismatch):
        await world.ended()
    await world.life.die()


async def test_what_moved_has_its_rows_and_costs_once_while_the_detector_fails(tmp_path: Path) -> None:
    encoder = Ill(Transient("away"))
    moments = await World(tmp_path, moving(60), encoder).ended()
    assert any(one.regions for one in moments)
    assert encoder.pictures <= 2 * 60


async def test_a_look_is_tried_thrice_and_only_once_while_those_before_failed() -> None:
    class Away(SceneEncoder):
        calls = 0

        async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
            self.calls += 1
            raise Transient("away")

    async def saw(answers: Sequence[tuple[Look, Found]]) -> None:
        assert all(not found.regions for _, found in answers)

    encoder = Away()
    looker = Looker(Embedding(encoder, MemoryStore(SPACE), Patience(), 3), Patience(), saw)
    for calls in (3, 4, 5):
        looker.add([Look((0, "gate"), "m", 0, START_MS, b"1", (Part(Rectangle(0, 0, 0.5, 0.5), b"1"),), None)])
        await looker.answered()
        assert encoder.calls == calls
    await looker.close()


async def test_a_crowd_costs_no_more_than_what_was_embedded_for_it(tmp_path: Path) -> None:
    class Crowd(Sighted):
        async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
            self.detections += len(images)
            return [[Seen("person", 0.9, Rectangle(0.1, 0.1, 0.2, 0.2), vector(3))] * 16 for _ in images]

    world = World(tmp_path, moving(60), encoder := Crowd())
    for _ in range(8):
        await world.life.read(8)
        await world.life.assignment.pipeline.looked_at()
    (builder,) = world.life.assignment.pipeline._builders.values()
    assert encoder.detections > 0
    assert builder._attention._account.surplus <= 7 - RESERVED
    await world.life.die()


class Slow(Sighted):
    """Its detector answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        await self.may.wait()
        return await super().detect_objects(images)


async def test_frames_do_not_wait_for_looks_and_a_moment_is_closed_when_they_are_answered(tmp_path: Path) -> None:
    frames = [*moving(8), frame("gate", START_MS + 4000, 1, 8, run=7, novelty=1.0, after_gap=True)]
    encoder = Slow()
    world = World(tmp_path, frames, encoder)
    while await world.life.read(3):
        pass
    await world.life.assignment.pipeline.flushed()
    assert [(one.start_ms - START_MS, one.closed) for one in world.store._moments.values()] == [
        (0, False),
        (4000, False),
    ]
    assert world.life.assignment.committable() == {}
    encoder.may.set()
    await world.life.stored()
    assert [one.closed for one in world.store._moments.values()] == [True, False]
    assert world.life.assignment.committable() == {0: 8}
    await world.life.die()


async def test_a_worker_that_leaves_does_not_wait_for_a_detector_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.pipeline._LAST_LOOKS_S", 0.01)
    world = World(tmp_path, moving(8), Slow())
    await world.life.read(8)
    await world.life.assignment.pipeline.refresh()
    await world.life.assignment.pipeline.flushed()
    (moment,) = world.store._moments.values()
    assert (moment.frames, moment.closed) == (8, False)
    await world.life.die()


def test_slow_answers_make_requests_small_and_quick_ones_large_again() -> None:
    sizes = [8]
    for took_s in (0.4, 0.3, 0.3, 0.3, *[0.1] * 9):
        sizes.append(most_at_once(sizes[-1], sizes[-1], took_s))
    assert sizes == [8, 4, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert most_at_once(8, 1, 0.4) == 1
