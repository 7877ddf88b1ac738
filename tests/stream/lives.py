"""Workers that come and go on one log, and what must be true in the end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from index.memory import MemoryStore
from proto.errors import Poison, WatchwordError
from proto.types import MOST_REGIONS, Moment, Vector
from proto.v1.events_pb2 import Frame
from stream.memory import MemoryLog
from stream.settings import StreamSettings
from tests.stream.rig import LOG, SPACE, START_MS, Life, Notes, SceneEncoder, frame, span
from tests.stream.sights import Sighted, close_up, crop


class Wavering(Sighted):
    """Its vectors differ at every call, enough to move boundaries."""

    def __init__(self, seed: int, noise: float) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._noise = noise

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        found: list[Vector | Poison] = []
        for exact in await super().embed_images(images):
            assert not isinstance(exact, Poison)
            moved = exact + self._random.normal(0, self._noise, SPACE.dimension)
            found.append((moved / np.linalg.norm(moved)).astype(np.float32))
        return found


class Strict(MemoryStore):
    """Fails when a row takes back what an earlier one told."""

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        for after in moments:
            before = self._moments.get(after.id)
            if before is None:
                continue
            assert after.start_ms == before.start_ms
            assert after.first_offset == before.first_offset
            assert after.frames >= before.frames
            assert after.end_ms >= before.end_ms
            assert after.last_offset >= before.last_offset
            assert after.closed or not before.closed
            if before.closed:
                assert span(after) == span(before)
                assert close_up(after) == close_up(before)
            assert {kind for kind, _ in before.objects} <= {kind for kind, _ in after.objects}
            assert len(after.regions) <= MOST_REGIONS
            assert all(after.start_ms <= one.at_ms <= after.end_ms for one in after.regions)
        return await super().upsert(moments)


@dataclass(frozen=True)
class Look:
    """What one camera does next."""

    camera: int
    pause_ms: int
    step_ms: int
    """Its clock steps by so much."""
    scene: int
    novelty: float
    after_gap: bool = False
    lost: bool = False
    """A frame before it never reached the broker."""
    crops: tuple[int, ...] = ()
    """What moved."""
    again: int = 0
    """So many of the camera's latest frames are sent again before it."""


steps = st.one_of(
    st.just(0),
    st.just(0),
    st.just(0),
    st.just(0),
    st.integers(-5_000, 5_000),
    st.integers(-3_600_000, 3_600_000),
)
looks = st.builds(
    Look,
    camera=st.integers(0, 2),
    pause_ms=st.one_of(st.integers(1, 1_500), st.integers(1, 1_500), st.integers(1, 45_000)),
    step_ms=steps,
    scene=st.integers(0, 2),
    novelty=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    after_gap=st.sampled_from([False] * 9 + [True]),
    lost=st.sampled_from([False] * 9 + [True]),
    crops=st.lists(st.integers(0, 5), max_size=3, unique=True).map(tuple),
    again=st.sampled_from([0] * 9 + [1, 2, 3]),
)


@dataclass(frozen=True)
class Chapter:
    """One life of a worker: batches of frames, each perhaps followed by a pause in which the log is at its end."""

    batches: Sequence[tuple[int, int]]
    stored: bool
    """What was handed to the index arrives before the worker dies."""
    commits: bool


chapters = st.builds(
    Chapter,
    batches=st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0, 0, 0, 1, 10, 31])), min_size=1, max_size=6),
    stored=st.booleans(),
    commits=st.booleans(),
)
histories = st.lists(looks, min_size=1, max_size=50)
lives = st.lists(chapters, max_size=5)


def a_log(history: Sequence[Look], *, busy: bool) -> MemoryLog:
    """The frames as the broker has them. Busy: another camera never rests, so no worker ever does."""
    log = MemoryLog(LOG)
    now_ms = START_MS
    offsets: dict[int, int] = defaultdict(int)
    sequences: dict[int, int] = defaultdict(int)
    sent: dict[int, list[Frame]] = defaultdict(list)
    busy_sequence = 0
    for look in history:
        for _ in range(look.pause_ms // 1_000 if busy else 0):
            now_ms += 1_000
            restless = frame("busy", now_ms, busy_sequence // 3, busy_sequence, run=7, novelty=0.5)
            log.append(0, b"busy", restless.SerializeToString(), now_ms)
            busy_sequence += 1
        now_ms += look.pause_ms if not busy else look.pause_ms % 1_000
        offsets[look.camera] += look.step_ms
        sequences[look.camera] += 1 + look.lost
        made = frame(
            f"cam-{look.camera}",
            now_ms + offsets[look.camera],
            look.scene,
            sequences[look.camera],
            run=1 + look.camera,
            novelty=look.novelty,
            usual=0.05,
            after_gap=look.after_gap,
            crops=[crop(one) for one in look.crops],
        )
        before = sent[look.camera]
        for one in (*before[max(0, len(before) - look.again) :], made):
            log.append(0, one.camera.encode(), one.SerializeToString(), now_ms)
        before.append(made)
    return log


class History:
    """A log, an index, and workers that come and go without saying goodbye."""

    def __init__(self, log: MemoryLog, folder: Path, encoder: SceneEncoder, catch_up: str) -> None:
        self.log = log
        self.store = Strict(SPACE)
        self.coverage = Notes()
        self.encoder = encoder
        self._folder = folder
        self._settings = StreamSettings.model_validate(
            {"catch_up": catch_up, "batch_wait_ms": 0, "refresh_s": 1e-9, "batch_frames": 4, "clock_s": 1e6}
        )

    def life(self) -> Life:
        return Life(
            self.log,
            self.store,
            self._folder,
            encoder=self.encoder,
            settings=self._settings,
            coverage=self.coverage,
        )

    async def lived(self, chapter: Chapter) -> None:
        life = self.life()
        for size, quiet_s in chapter.batches:
            if not await life.read(size):
                break
            if quiet_s and life.at == self.log.ends():
                await life.quiet(quiet_s)
        if chapter.stored:
            await life.stored()
        if chapter.commits:
            await life.commit()
        await life.die()

    async def ended(self) -> None:
        """A last worker reads everything, and then nothing comes any more."""
        life = self.life()
        while await life.read(7):
            pass
        await life.quiet(31)
        await life.stored()
        await life.commit()
        await life.die()

    @property
    def moments(self) -> list[Moment]:
        return sorted(self.store._moments.values(), key=lambda moment: (moment.camera, moment.first_offset))

    def check(self) -> None:
        """Every frame is in exactly one moment, or declared; everything is closed and committed.

        What was sent again counts once, but for a frame of which the first copy was passed over.
        """
        assert self.log.committed == self.log.ends()
        assert all(moment.closed for moment in self.moments)
        offsets: dict[str, list[int]] = defaultdict(list)
        firsts: dict[int, int] = {}
        met: dict[tuple[str, int], int] = {}
        for record in self.log.read(0, 0, 10**6):
            one = Frame.FromString(record.value)
            offsets[one.camera].append(record.offset)
            firsts[record.offset] = met.setdefault((one.camera, one.sequence), record.offset)
        for camera, own in offsets.items():
            spans = [moment for moment in self.moments if moment.camera == camera]
            assert all(first.last_offset < second.first_offset for first, second in pairwise(spans))
            passed = {
                offset
                for gap in self.coverage.gaps.values()
                for offset in own
                if gap.camera == camera and gap.first_offset <= offset <= gap.last_offset
            }
            copies = {one for one in own if firsts[one] != one}
            may_count = {one for one in copies if firsts[one] in passed}
            inside = 0
            for moment in spans:
                there = {one for one in own if moment.first_offset <= one <= moment.last_offset} - passed
                assert len(there - copies) <= moment.frames <= len(there - copies | there & may_count)
                inside += len(there - copies)
            assert inside + len(passed - copies) == len(own) - len(copies)


def tried(history: History, chapters: Sequence[Chapter]) -> None:
    async def all_of_it() -> None:
        for chapter in chapters:
            await history.lived(chapter)
        await history.ended()

    asyncio.run(all_of_it())
    history.check()


def a_log_of(times_ms: Sequence[int], scenes: Sequence[int]) -> MemoryLog:
    """One camera whose clock says these times; the broker takes a frame every half second."""
    log = MemoryLog(LOG)
    for number, (captured_ms, scene) in enumerate(zip(times_ms, scenes, strict=True)):
        made = frame("cam", captured_ms, scene, number, run=1, after_gap=number == 0, novelty=0.1, usual=0.1)
        log.append(0, b"cam", made.SerializeToString(), START_MS + 500 * number)
    return log
