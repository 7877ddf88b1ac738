from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.errors import Broken, Denied, Invalid, Late, Mismatch, Overloaded, Transient, WatchwordError
from proto.retry import Backoff
from proto.types import Moment
from stream.consumer import Mark
from stream.fence import Fence, Lease
from stream.moments import Write
from stream.pictures import Pictures
from stream.writer import Parts, Writer
from tests.contracts.moments import NOON, SPACE, moment
from tests.stream.rig import until


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.writer._PAUSES", Backoff(1e-4, 1e-3))


class Shards(MemoryStore):
    """Cameras a-1, a-2 live on shard a, b-1 on shard b. A shard may be away, be held up, or refuse moments."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.away: dict[str, WatchwordError] = {}
        self.refuses: dict[str, WatchwordError] = {}
        """By a moment's id."""
        self.held: dict[str, asyncio.Event] = {}
        self.homes: dict[str, str] = {}
        """Cameras that were moved."""
        self.calls: list[list[tuple[str, int]]] = []
        """The cameras and frames of the moments in each call."""

    def shard_of(self, camera: str) -> str:
        return self.homes.get(camera, camera[0])

    def hold(self, shard: str) -> asyncio.Event:
        """Its calls do not end until this is set."""
        self.held[shard] = asyncio.Event()
        return self.held[shard]

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        (shard,) = {self.shard_of(one.camera) for one in moments}
        self.calls.append([(one.camera, one.frames) for one in moments])
        if shard in self.held:
            await self.held[shard].wait()
        if shard in self.away:
            raise self.away[shard]
        failed = {one.id: self.refuses[one.id] for one in moments if one.id in self.refuses}
        return {**failed, **await super().upsert([one for one in moments if one.id not in failed])}


class Desk:
    """A writer, and what it says of the moments it was given."""

    def __init__(self, folder: Path, most: int = 100) -> None:
        self.store = Shards()
        self.lease = Lease(45.0)
        self.lease.renewed(0.0)
        self.fence = Fence(self.lease, lambda: 0.0)
        self.thumbnails = Thumbnails(FolderObjects(folder))
        self.refused: list[tuple[str, tuple[Mark, ...], str]] = []
        self.letters = 0
        self.letters_may_go = asyncio.Event()
        self.letters_may_go.set()
        self.stored: list[Write] = []
        parts = Parts(self.store, Pictures(self.thumbnails), self.fence, self._refused, self.stored.extend)
        self.writer = Writer(parts, most)

    async def _refused(self, refused: Moment, marks: Sequence[Mark], reason: WatchwordError) -> None:
        self.letters += 1
        await self.letters_may_go.wait()
        self.refused.append((refused.camera, tuple(marks), reason.message))

    @property
    def done(self) -> list[int]:
        return [mark.offset for write in self.stored for mark in write.finishes]

    def frames(self) -> dict[str, int]:
        """Of the moments in the index, by camera."""
        return {one.camera: one.frames for one in self.store._moments.values()}


@asynccontextmanager
async def desk(folder: Path, most: int = 100) -> AsyncIterator[Desk]:
    at = Desk(folder, most)
    yield at
    await at.writer.close()


def write(
    camera: str,
    frames: int = 1,
    *finishes: int,
    at_ms: int = NOON,
    closed: bool = False,
    thumbnail: bytes | None = None,
) -> Write:
    told = moment(camera, at_ms, frames=frames, closed=closed)
    return Write(told, thumbnail, tuple(Mark(0, offset) for offset in finishes))


async def ended(waiting: asyncio.Task[None]) -> bool:
    """Whether it ends without anything else happening."""
    for _ in range(20):
        await asyncio.sleep(0)
    return waiting.done()


async def test_a_moment_is_stored_with_its_picture_and_then_its_frames_are_done(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        one = write("a-1", 3, 5, 6, 7, closed=True, thumbnail=b"peak")
        await at.writer.write([one])
        await at.writer.flushed()
        assert at.frames() == {"a-1": 3}
        assert at.thumbnails.get(one.moment.id) == b"peak"
        assert at.done == [5, 6, 7]


@pytest.mark.parametrize("error", [Transient("away"), Overloaded("full"), Late("slow")], ids=lambda e: type(e).__name__)
async def test_while_one_shard_is_away_the_others_go_on_and_it_gets_its_moments_when_it_is_back(
    tmp_path: Path, error: WatchwordError
) -> None:
    async with desk(tmp_path) as at:
        at.store.away["a"] = error
        for number in range(3):
            await at.writer.write([write("a-1", 1, number, at_ms=NOON + 60_000 * number)])
            await at.writer.write([write("b-1", 1, 10 + number, at_ms=NOON + 60_000 * number)])
            await until(lambda number=number: at.done == [10, 11, 12][: number + 1], "the other shard")  # type: ignore[misc]
        await until(lambda: len(at.store.calls) > 20, "it is tried again")
        assert at.writer.cameras_waiting() == {"a-1"}
        del at.store.away["a"]
        await at.writer.flushed()
        assert sorted(at.done) == [0, 1, 2, 10, 11, 12]
        assert at.writer.cameras_waiting() == set()


async def test_a_shard_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.store.hold("a")
        await at.writer.write([write("a-1"), write("b-1", 1, 4)])
        await until(lambda: at.done == [4], "the other shard")
        assert at.frames() == {"b-1": 1}


async def test_of_a_camera_that_moves_to_another_shard_no_telling_overtakes_an_earlier_one(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        await at.writer.write([write("a-1", 1)])
        await until(lambda: at.store.calls == [[("a-1", 1)]], "the first call")
        at.store.homes["a-1"] = "b"
        await at.writer.write([write("a-1", 2), write("a-1", 7, at_ms=NOON + 60_000)])
        await until(lambda: at.frames() == {"a-1": 7}, "another moment of it goes to its new shard")
        free.set()
        await at.writer.flushed()
        assert at.store.calls == [[("a-1", 1)], [("a-1", 7)], [("a-1", 2)]]


async def test_only_the_newest_row_of_a_moment_is_sent_with_what_the_older_ones_still_had_to_say(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        await at.writer.write([write("a-0")])
        await until(lambda: len(at.store.calls) == 1, "the lane is busy")
        began = replace(write("a-1", 1, 5, thumbnail=b"first"), began=object())  # type: ignore[arg-type]
        for one in (began, write("a-1", 2, 6), write("a-1", 4, 7, closed=True)):
            await at.writer.write([one])
        free.set()
        await at.writer.flushed()
        assert at.store.calls[1:] == [[("a-1", 4)]]
        assert at.done == [5, 6, 7]
        assert at.thumbnails.get(began.moment.id) == b"first"
        assert at.stored[-1].began is began.began


async def test_a_newer_picture_takes_the_place_of_an_older_one_that_waited(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.lease.revoked()
        first = write("a-1", 1, thumbnail=b"first")
        await at.writer.write([first])
        await at.writer.write([write("a-1", 2, thumbnail=b"second")])
        at.lease.renewed(0.0)
        await at.writer.flushed()
        assert at.thumbnails.get(first.moment.id) == b"second"


async def test_a_row_that_failed_is_not_sent_again_once_a_newer_one_waits(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        at.store.away["a"] = Transient("away")
        await at.writer.write([write("a-1", 1, 5)])
        await until(lambda: len(at.store.calls) == 1, "the first row is under way")
        await at.writer.write([write("a-1", 2, 6)])
        free.set()
        await until(lambda: len(at.store.calls) > 3, "it is tried again")
        assert {call[0] for call in at.store.calls[1:]} == {("a-1", 2)}
        del at.store.away["a"]
        await at.writer.flushed()
        assert at.done == [5, 6]
        assert at.frames() == {"a-1": 2}


async def test_a_shard_is_asked_one_call_at_a_time_so_that_no_row_overtakes_another(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        for frames in range(1, 6):
            await at.writer.write([write("a-1", frames), write("a-2", frames)])
            await asyncio.sleep(0)
        assert len(at.store.calls) == 1
        free.set()
        await at.writer.flushed()
        assert at.store.calls == [[("a-1", 1), ("a-2", 1)], [("a-1", 5), ("a-2", 5)]]


async def test_of_a_call_only_what_failed_is_sent_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        good, bad = write("a-1", 1, 5), write("a-2", 1, 6)
        at.store.refuses[bad.moment.id] = Broken("this collection is damaged")
        await at.writer.write([good, bad])
        await until(lambda: len(at.store.calls) > 3, "it is tried again")
        assert at.done == [5]
        assert at.store.calls[1:] == [[("a-2", 1)]] * (len(at.store.calls) - 1)
        at.store.refuses.clear()
        await at.writer.flushed()
        assert at.done == [5, 6]


async def test_a_moment_that_the_index_never_takes_is_given_up_and_the_others_are_stored(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        good, bad = write("a-1", 1, 5), write("a-2", 1, 6, 7, closed=True)
        at.store.refuses[bad.moment.id] = Invalid("too long")
        await at.writer.write([good, bad])
        await at.writer.flushed()
        assert at.refused == [("a-2", (Mark(0, 6), Mark(0, 7)), "too long")]
        assert at.done == [5]
        assert len(at.store.calls) == 1


async def test_whoever_hands_over_waits_while_too_much_waits_for_one_shard(tmp_path: Path) -> None:
    async with desk(tmp_path, most=3) as at:
        free = at.store.hold("a")
        await at.writer.write([write("a-1")])
        await at.writer.write([write("a-1", at_ms=NOON + 60_000)])
        writing = asyncio.create_task(at.writer.write([write("a-1", at_ms=NOON + 120_000)]))
        assert not await ended(writing)
        free.set()
        async with asyncio.timeout(5):
            await writing


async def test_however_often_a_moment_is_told_it_waits_once(tmp_path: Path) -> None:
    async with desk(tmp_path, most=3) as at:
        at.store.hold("a")
        async with asyncio.timeout(5):
            for frames in range(1, 20):
                await at.writer.write([write("a-1", frames)])
        assert at.writer.cameras_waiting() == {"a-1"}


async def test_flushing_waits_for_what_is_under_way_and_for_what_waits(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        await at.writer.write([write("a-1", 1)])
        await until(lambda: len(at.store.calls) == 1, "under way")
        await at.writer.write([write("a-1", 2)])
        flushing = asyncio.create_task(at.writer.flushed())
        assert not await ended(flushing)
        free.set()
        async with asyncio.timeout(5):
            await flushing
        assert at.frames() == {"a-1": 2}


async def test_closing_drops_what_waits_and_what_is_under_way_ends_by_itself(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        free = at.store.hold("a")
        await at.writer.write([write("a-1", 1, 5)])
        await until(lambda: len(at.store.calls) == 1, "under way")
        await at.writer.write([write("a-2", 1, 6)])
        async with asyncio.timeout(5):
            await at.writer.close()
        free.set()
        async with asyncio.timeout(5):
            await at.fence.written()
        assert at.frames() == {"a-1": 1}
        assert at.done == []
        assert len(at.store.calls) == 1


async def test_whoever_waits_for_room_in_vain_can_be_cancelled_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with desk(tmp_path, most=1) as at:
        at.store.hold("a")
        before = asyncio.all_tasks()
        writing = asyncio.create_task(at.writer.write([write("a-1")]))
        assert not await ended(writing)
        writing.cancel()
        await asyncio.wait({writing})
        await at.writer.close()
        await ended(writing)
        left = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}  # type: ignore[union-attr]
        assert not any("Event.wait" in name for name in left)


async def test_a_worker_without_its_lease_writes_neither_rows_nor_pictures_until_it_has_it_again(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        at.lease.revoked()
        one = write("a-1", 1, 5, thumbnail=b"peak")
        await at.writer.write([one])
        flushing = asyncio.create_task(at.writer.flushed())
        assert not (await asyncio.wait({flushing}, timeout=0.05))[0]
        assert at.store.calls == []
        assert list(tmp_path.rglob("*.jpg")) == []
        assert at.done == []
        at.lease.renewed(0.0)
        await flushing
        assert at.frames() == {"a-1": 1}
        assert at.thumbnails.get(one.moment.id) == b"peak"


async def test_a_call_that_hangs_shows_for_how_long_and_one_that_is_refused_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("stream.writer.time", SimpleNamespace(monotonic=lambda: now_s))
    async with desk(tmp_path) as at:
        assert at.writer.waiting_s == 0.0
        free = at.store.hold("a")
        await at.writer.write([write("a-1"), write("b-1")])
        await until(lambda: at.frames() == {"b-1": 1}, "the other shard")
        now_s = 170.0
        assert at.writer.waiting_s == 70.0
        at.store.away["a"] = Transient("away")
        free.set()
        await until(lambda: len(at.store.calls) > 5, "it is tried again")
        assert at.writer.waiting_s == 0.0


async def test_a_letter_that_waits_for_the_broker_is_no_call_that_hangs(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        one = write("a-1", 1, 5)
        at.store.refuses[one.moment.id] = Invalid("too long")
        at.letters_may_go.clear()
        await at.writer.write([one])
        await until(lambda: at.letters == 1, "a letter is on its way")
        assert at.writer.waiting_s == 0.0
        assert at.writer.cameras_waiting() == {"a-1"}
        at.letters_may_go.set()
        await at.writer.flushed()
        assert [camera for camera, *_ in at.refused] == ["a-1"]


async def test_what_ends_the_worker_is_raised_to_whoever_hands_over_next_also_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.store.away["a"] = Mismatch("a vector of another space")
        await at.writer.write([write("a-1")])
        with pytest.raises(Mismatch):
            await at.writer.flushed()
        with pytest.raises(Mismatch):
            await at.writer.write([])
        assert at.done == []


@pytest.mark.parametrize("error", [Denied("no"), Broken("damaged")], ids=lambda e: type(e).__name__)
async def test_a_shard_that_denies_its_moments_is_tried_again(tmp_path: Path, error: WatchwordError) -> None:
    async with desk(tmp_path) as at:
        one = write("a-1", 1, 5)
        at.store.refuses[one.moment.id] = error
        await at.writer.write([one])
        await until(lambda: len(at.store.calls) > 3, "it is tried again")
        at.store.refuses.clear()
        await at.writer.flushed()
        assert at.done == [5]
        assert at.refused == []


async def test_a_disk_that_refuses_pictures_holds_no_moment_up_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    async with desk(tmp_path / "file") as at:
        for number in range(3):
            await at.writer.write([write("a-1", 1, number, at_ms=NOON + number, thumbnail=b"peak")])
            await at.writer.flushed()
        assert at.done == [0, 1, 2]
    assert caplog.text.count("pictures of moments are not kept") == 1


async def test_a_moment_that_cannot_be_stored_waits_longer_and_longer_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_s = 1000.0
    monkeypatch.setattr("stream.writer.time", SimpleNamespace(monotonic=lambda: at_s))
    async with desk(tmp_path) as at:
        at.store.away["a"] = Transient("away")
        await at.writer.write([write("a-1"), write("b-1", 1, 4)])
        at_s += 30.0
        await at.writer.write([write("a-2")])
        await until(lambda: at.done == [4] and len(at.store.calls) > 5, "the shard is tried again")
        at_s += 30.0
        assert at.writer.late_s == 60.0
        del at.store.away["a"]
        await at.writer.flushed()
        assert at.writer.late_s == 0.0


async def test_a_moment_that_is_told_again_while_it_is_sent_waits_since_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_s = 1000.0
    monkeypatch.setattr("stream.writer.time", SimpleNamespace(monotonic=lambda: at_s))
    async with desk(tmp_path) as at:
        first = at.store.hold("a")
        await at.writer.write([write("a-1", 1)])
        await until(lambda: len(at.store.calls) == 1, "it is sent")
        at_s += 10.0
        await at.writer.write([write("a-1", 2)])
        assert at.writer.late_s == 10.0
        second = at.store.hold("a")
        first.set()
        await until(lambda: len(at.store.calls) == 2, "it is sent again")
        assert at.writer.late_s == 0.0
        second.set()
