"""Restarts in the middle, with an encoder whose vectors differ each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.media import Thumbnails
from catalog.skips import Skips
from index.memory import MemoryStore
from index.store import Answer, Ask
from proto.types import Moment, Vector, moment_id
from proto.v1.events_pb2 import DeadLetter, Frame
from stream.app import Record
from stream.chain import Batch, Chain, Item
from stream.ledger import Ledger
from stream.moments import Told
from stream.patience import Patience
from stream.recall import Known, Recall
from stream.settings import StreamSettings
from tests.stream.rig import SPACE, START_MS, SceneEncoder, span, through

HOUR_MS = 3_600_000


class Wavering(SceneEncoder):
    """Its vectors differ at every call, enough to move boundaries."""

    def __init__(self, random: np.random.Generator, noise: float) -> None:
        super().__init__()
        self._random = random
        self._noise = noise

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector]:  # type: ignore[override]
        found = []
        for exact in await super().embed_images(images):
            moved = exact + self._random.normal(0, self._noise, SPACE.dimension)
            found.append((moved / np.linalg.norm(moved)).astype(np.float32))
        self.pictures += len(images)
        return found


class NoLetters:
    async def bury(self, letter: DeadLetter) -> None:
        raise AssertionError(f"nothing here is poison: {letter.reason}")


class Bench:
    """One partition's records, the store, and workers that come and go without saying goodbye."""

    def __init__(self, records: list[Record], folder: Path, encoder: SceneEncoder) -> None:
        self.records = records
        self.store = MemoryStore(SPACE)
        self.committed = 0
        self._folder = folder
        self._encoder = encoder

    async def work(self, batches: Sequence[int], *, then_silence: bool = False) -> None:
        """A new worker reads from the committed offset and dies after so many batches of these sizes."""
        ledger, at = Ledger(), self.committed
        chain = Chain(
            encoder=self._encoder,
            store=self.store,
            thumbnails=Thumbnails(self._folder),
            skips=Skips(self._folder / "skipped"),
            letters=NoLetters(),
            settings=StreamSettings(refresh_s=1e-9),
            frames_topic="frames",
            finish=lambda marks: [ledger.done(mark.offset) for mark in marks] and None,
        )
        for size in batches:
            taken = self.records[at : at + size]
            at += len(taken)
            assert all(ledger.taken(record.offset) for record in taken)
            await through(chain, Batch([Item(record) for record in taken]))
            if then_silence and at == len(self.records):
                await chain.tick(chain.patience.clock() + 1e6)
        await chain.close()
        self.committed = ledger.committable() or self.committed

    @property
    def moments(self) -> list[Moment]:
        return sorted(self.store._moments.values(), key=lambda moment: (moment.camera, moment.start_ms))


def a_partition(scenes: Sequence[int], cameras: int) -> list[Record]:
    """Frames of several cameras, interleaved; `scenes` is walked through by each from a place of its own."""
    records = []
    for number in range(len(scenes)):
        for camera in range(cameras):
            frame = Frame(
                camera=f"cam-{camera}",
                captured_ms=START_MS + 500 * number + camera,
                jpeg=str(scenes[(number + 7 * camera) % len(scenes)]).encode(),
                novelty=0.5,
                usual=0.1,
                sequence=number,
                after_gap=number == 0,
            )
            records.append(Record(0, len(records), frame.camera.encode(), frame.SerializeToString()))
    return records


def check_whole(bench: Bench) -> None:
    """Every frame is in exactly one moment, and no two moments of a camera overlap."""
    frames = [Frame.FromString(record.value) for record in bench.records]
    for camera in {frame.camera for frame in frames}:
        spans = [moment for moment in bench.moments if moment.camera == camera]
        assert all(first.end_ms < second.start_ms for first, second in pairwise(spans))
        times = [frame.captured_ms for frame in frames if frame.camera == camera]
        for moment in spans:
            assert moment.frames == sum(moment.start_ms <= time <= moment.end_ms for time in times)
        assert sum(moment.frames for moment in spans) == len(times)


deaths = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=5)


@given(st.lists(st.integers(0, 2), min_size=5, max_size=40), st.integers(1, 3), deaths, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_often_workers_die_and_however_vectors_differ_each_frame_is_in_one_moment(
    tmp_path: Path, scenes: list[int], cameras: int, deaths: list[list[int]], seed: int
) -> None:
    async def drill() -> None:
        encoder = Wavering(np.random.default_rng(seed), noise=0.15)
        bench = Bench(a_partition(scenes, cameras), tmp_path, encoder)
        for batches in deaths:
            before = {moment.id: moment for moment in bench.moments}
            await bench.work(batches)
            after = {moment.id: moment for moment in bench.moments}
            assert before.keys() <= after.keys()
            for name, moment in before.items():
                if moment.closed:
                    assert span(after[name]) == span(moment)
        await bench.work([len(bench.records)], then_silence=True)
        check_whole(bench)
        assert all(moment.closed for moment in bench.moments)

    asyncio.run(drill())


@given(st.lists(st.integers(0, 2), min_size=5, max_size=40), deaths, deaths)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_the_same_vectors_restarts_change_nothing_at_all(
    tmp_path: Path, scenes: list[int], deaths: list[list[int]], more: list[list[int]]
) -> None:
    async def moments(lives: list[list[int]]) -> list[tuple[object, ...]]:
        bench = Bench(a_partition(scenes, 2), tmp_path, SceneEncoder())
        for batches in lives:
            await bench.work(batches)
        await bench.work([len(bench.records)], then_silence=True)
        return [span(moment) for moment in bench.moments]

    assert asyncio.run(moments(deaths)) == asyncio.run(moments(more)) == asyncio.run(moments([]))


async def test_frames_of_closed_moments_are_not_embedded_again(tmp_path: Path) -> None:
    encoder = SceneEncoder()
    bench = Bench(a_partition([0] * 8 + [1] * 8, 1), tmp_path, encoder)
    await bench.work([16], then_silence=True)
    bench.committed = encoder.pictures = 0
    await bench.work([16])
    assert encoder.pictures == 0
    assert bench.committed == 16


async def test_a_moment_whose_beginning_the_broker_lost_is_closed_and_not_stored_twice(tmp_path: Path) -> None:
    bench = Bench(a_partition([0] * 20, 1), tmp_path, SceneEncoder())
    await bench.work([1] * 10)
    (told,) = bench.moments
    bench.committed = 5
    await bench.work([5, 10], then_silence=True)
    first, second = bench.moments
    assert (first.id, first.frames, first.closed) == (told.id, 10, True)
    assert (second.frames, second.closed) == (10, True)


def moment(start_ms: int, end_ms: int, *, closed: bool) -> Moment:
    return Moment(
        id=moment_id(SPACE.id, "gate", start_ms),
        space=SPACE.id,
        camera="gate",
        start_ms=start_ms,
        peak_ms=start_ms,
        end_ms=end_ms,
        frames=1,
        closed=closed,
        vector=np.eye(1, SPACE.dimension, dtype=np.float32)[0],
    )


def test_what_is_known_of_a_time_follows_from_the_moment_around_it() -> None:
    known = Known(None, [moment(10, 20, closed=True), moment(30, 40, closed=False)])
    assert {at: known.told(at) for at in (9, 10, 20, 25, 30, 35, 40, 41)} == {
        9: Told.NOTHING,
        10: Told.DONE,
        20: Told.DONE,
        25: Told.NOTHING,
        30: Told.BEGINS,
        35: Told.WITHIN,
        40: Told.WITHIN,
        41: Told.NOTHING,
    }
    assert not known.exhausted(40)
    assert known.exhausted(41)
    assert not Known(100, []).exhausted(41)
    assert not Known(100, []).reaches(100)


class Counting(MemoryStore):
    """Counts questions; `hides` that many searches show one hit less than there is."""

    def __init__(self, hides: int = 0) -> None:
        super().__init__(SPACE)
        self.hides = hides
        self.counts = 0

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        self.counts += 1
        return await super().count(cameras, start_ms, end_ms)

    async def search(self, ask: Ask) -> Answer:
        answer = await super().search(ask)
        self.hides -= 1
        return Answer(answer.hits[:-1]) if self.hides >= 0 else answer


async def test_the_index_is_asked_once_per_camera() -> None:
    store = Counting()
    recall = Recall(store, Patience())
    for at in range(0, 1000, 10):
        assert await recall.told([("gate", at), ("yard", at)]) == [Told.NOTHING] * 2
    assert store.counts == 2
    recall.forget()
    await recall.told([("gate", 1000)])
    assert store.counts == 3


async def test_a_search_that_lags_behind_is_asked_again() -> None:
    store = Counting(hides=2)
    await store.upsert([moment(10, 20, closed=True), moment(30, 40, closed=False)])
    assert await Recall(store, Patience()).told([("gate", 15), ("gate", 30)]) == [Told.DONE, Told.BEGINS]


async def test_a_replay_of_many_hours_asks_for_some_hours_at_a_time() -> None:
    store = Counting()
    minutes = range(0, 30 * HOUR_MS, HOUR_MS // 60)
    await store.upsert([moment(at, at + 1, closed=True) for at in minutes])
    recall = Recall(store, Patience())
    told = [(await recall.told([("gate", at)]))[0] for at in minutes]
    assert set(told) == {Told.DONE}
    assert (await recall.told([("gate", 31 * HOUR_MS)]))[0] is Told.NOTHING
    assert store.counts < 100
