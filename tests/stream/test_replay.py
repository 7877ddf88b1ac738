"""Any history of frames, clocks, deaths and loads: every frame counts once, and nothing told is taken back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.memory import MemoryStore
from proto.errors import Poison, WatchwordError
from proto.types import Moment, Vector
from proto.v1.events_pb2 import Frame
from stream.memory import MemoryLog
from stream.settings import StreamSettings
from tests.stream.rig import LOG, SPACE, START_MS, Life, Notes, SceneEncoder, frame, span, vector

HISTORIES = 500
"""Of each kind: 2,000 in all."""


class Wavering(SceneEncoder):
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


def a_log(history: Sequence[Look], *, busy: bool, repeated: Sequence[int] = ()) -> MemoryLog:
    """The frames as the broker has them. Busy: another camera never rests, so no worker ever does."""
    log = MemoryLog(LOG)
    now_ms = START_MS
    offsets: dict[int, int] = defaultdict(int)
    sequences: dict[int, int] = defaultdict(int)
    busy_sequence = 0
    for number, look in enumerate(history):
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
        )
        for _ in range(2 if number in repeated else 1):
            log.append(0, made.camera.encode(), made.SerializeToString(), now_ms)
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
        """Every frame is in exactly one moment, or declared; everything is closed and committed."""
        assert self.log.committed == self.log.ends()
        assert all(moment.closed for moment in self.moments)
        offsets: dict[str, list[int]] = defaultdict(list)
        for record in self.log.read(0, 0, 10**6):
            offsets[Frame.FromString(record.value).camera].append(record.offset)
        for camera, own in offsets.items():
            spans = [moment for moment in self.moments if moment.camera == camera]
            assert all(first.last_offset < second.first_offset for first, second in pairwise(spans))
            passed = {
                offset
                for gap in self.coverage.gaps.values()
                for offset in own
                if gap.camera == camera and gap.first_offset <= offset <= gap.last_offset
            }
            inside = 0
            for moment in spans:
                there = [one for one in own if moment.first_offset <= one <= moment.last_offset and one not in passed]
                assert moment.frames == len(there)
                inside += len(there)
            assert inside + len(passed) == len(own)


def tried(history: History, chapters: Sequence[Chapter]) -> None:
    async def all_of_it() -> None:
        for chapter in chapters:
            await history.lived(chapter)
        await history.ended()

    asyncio.run(all_of_it())
    history.check()


many = settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_rest_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=False), tmp_path, Wavering(seed, noise), "all"), lives)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_never_rest_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=True), tmp_path, Wavering(seed, noise), "all"), lives)


@given(histories, lives, st.integers(0, 2**31), st.floats(0, 0.2))
@many
def test_workers_that_are_late_account_for_every_frame_once(
    tmp_path: Path, history: list[Look], lives: list[Chapter], seed: int, noise: float
) -> None:
    tried(History(a_log(history, busy=False), tmp_path, Wavering(seed, noise), "fresh"), lives)


@given(histories, lives, lives)
@many
def test_with_the_same_vectors_deaths_change_nothing_at_all(
    tmp_path: Path, history: list[Look], lives: list[Chapter], others: list[Chapter]
) -> None:
    def moments(chapters: list[Chapter]) -> list[tuple[object, ...]]:
        one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
        tried(one, [Chapter([(size, 0) for size, _ in each.batches], each.stored, each.commits) for each in chapters])
        return [(moment.id, *span(moment)) for moment in one.moments]

    assert moments(lives) == moments(others) == moments([])


def test_a_history_in_which_something_is_passed_over_is_among_them(tmp_path: Path) -> None:
    history = [Look(camera=0, pause_ms=1_000, step_ms=0, scene=0, novelty=0.0) for _ in range(60)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "fresh")
    tried(one, [Chapter([(1, 0)], stored=True, commits=True), Chapter([(59, 0)], stored=True, commits=False)])
    assert sum(gap.frames for gap in one.coverage.gaps.values()) > 0


def test_the_same_picture_sent_twice_counts_once(tmp_path: Path) -> None:
    history = [Look(camera=0, pause_ms=500, step_ms=0, scene=0, novelty=0.0) for _ in range(10)]
    one = History(a_log(history, busy=False, repeated=[0, 4, 9]), tmp_path, SceneEncoder(), "all")

    async def all_of_it() -> None:
        await one.lived(Chapter([(6, 0)], stored=True, commits=True))
        await one.ended()

    asyncio.run(all_of_it())
    assert [moment.frames for moment in one.moments] == [10]
    assert one.log.committed == {0: 13}


async def test_frames_of_closed_moments_are_not_embedded_again(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, number // 8, 1.0 if number % 8 == 0 else 0.0) for number in range(16)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.ended()
    one.log.committed.clear()
    one.encoder.pictures = 0
    await one.ended()
    assert one.encoder.pictures == 0
    assert one.log.committed == one.log.ends()


async def test_frames_that_an_open_moment_was_told_with_are_not_embedded_again(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(15, 0)], stored=True, commits=True))
    one.encoder.pictures = 0
    await one.ended()
    assert one.encoder.pictures == 5
    assert [moment.frames for moment in one.moments] == [20]
    assert np.allclose(one.moments[0].vector, vector(0))


async def test_a_moment_whose_frames_the_broker_dropped_is_closed(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(10, 0)], stored=True, commits=True))
    one.log.expire(0, 12)
    await one.ended()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(10, True), (8, True)]
    (gap,) = one.coverage.gaps.values()
    assert (gap.camera, gap.reason, gap.frames, gap.first_offset, gap.last_offset) == ("", "expired", 12, 0, 11)


async def test_a_moment_left_open_by_a_topic_that_was_made_anew_is_closed(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(10, 0)], stored=True, commits=True))
    one.log = a_log(history, busy=False)
    one.log.name = "1" * 32
    await one.ended()
    assert [(moment.log[0], moment.frames, moment.closed) for moment in one.moments] == [
        ("0", 10, True),
        ("1", 20, True),
    ]


def a_log_of(times_ms: Sequence[int], scenes: Sequence[int]) -> MemoryLog:
    """One camera whose clock says these times; the broker takes a frame every half second."""
    log = MemoryLog(LOG)
    for number, (captured_ms, scene) in enumerate(zip(times_ms, scenes, strict=True)):
        made = frame("cam", captured_ms, scene, number, run=1, after_gap=number == 0, novelty=0.1, usual=0.1)
        log.append(0, b"cam", made.SerializeToString(), START_MS + 500 * number)
    return log


@pytest.mark.parametrize("killed_after", [None, 15, 21, 22, 30])
def test_a_clock_that_steps_back_two_seconds_costs_no_frame_and_leaves_nothing_open(
    tmp_path: Path, killed_after: int | None
) -> None:
    before = [START_MS + 500 * number for number in range(21)]
    times = [*before, *(before[-1] - 2_000 + 500 * number for number in range(1, 20))]
    one = History(a_log_of(times, [1] * 40), tmp_path, SceneEncoder(), "all")
    tried(one, [Chapter([(killed_after, 0)], stored=True, commits=True)] if killed_after else [])
    assert [(moment.first_offset, moment.last_offset, moment.frames) for moment in one.moments] == [
        (0, 20, 21),
        (21, 39, 19),
    ]


def test_an_hour_back_and_a_restart_ten_minutes_later_every_frame_is_still_looked_at(tmp_path: Path) -> None:
    first = [START_MS + 5_000 * number for number in range(720)]
    second = [START_MS + 60_137 + 5_000 * number for number in range(720)]
    scenes = [number // 2 for number in range(720)]
    encoder = SceneEncoder()
    one = History(a_log_of([*first, *second], [*scenes, *scenes]), tmp_path, encoder, "all")
    tried(one, [Chapter([(840, 0)], stored=True, commits=True)])
    assert sum(moment.frames for moment in one.moments) == 1440
    assert 1440 <= encoder.pictures <= 1442


async def test_a_worker_that_read_one_frame_of_an_open_moment_takes_nothing_back(tmp_path: Path) -> None:
    one = History(
        a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40), tmp_path, SceneEncoder(), "all"
    )
    await one.lived(Chapter([(30, 0)], stored=True, commits=True))
    told = [span(moment) for moment in one.moments]
    assert told[0][4] == 30
    await one.lived(Chapter([(1, 0)], stored=True, commits=True))
    assert [span(moment) for moment in one.moments] == told


async def test_a_broker_that_is_away_for_longer_than_silence_closes_nothing(tmp_path: Path) -> None:
    log = a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40)
    one = History(log, tmp_path, SceneEncoder(), "all")
    life = one.life()
    await life.read(20)
    for second in (0.0, 1.0, 35.0, 36.0):
        life.assignment.saw_ends({0: 20} if second != 35.0 else {}, second)
    await life.read(20)
    await life.stored()
    await life.assignment.pipeline.refresh()
    await life.stored()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(40, False)]
    await life.die()


async def test_an_open_moment_whose_state_is_damaged_goes_on_from_its_row_alone(tmp_path: Path) -> None:
    log = a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40)
    one = History(log, tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(30, 0)], stored=True, commits=True))
    (told,) = one.moments
    one.store._moments[told.id] = replace(told, resume="damaged")
    await one.ended()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(40, True)]
