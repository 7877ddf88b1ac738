from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects, Stored
from proto.errors import Broken, Transient, WatchwordError
from proto.types import WHOLE, Region
from stream.moments import Write
from stream.pictures import Pictures
from tests.contracts.moments import NOON
from tests.stream.rig import until
from tests.stream.test_writer import write


@dataclass
class Bucket:
    """Objects in memory, which may be away, hang or refuse."""

    objects: dict[str, bytes] = field(default_factory=dict)
    trouble: WatchwordError | None = None
    open: threading.Event = field(default_factory=threading.Event)
    order: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    def put(self, name: str, data: bytes) -> None:
        assert self.open.wait(60)
        if self.trouble:
            raise self.trouble
        self.objects[name] = data
        self.order.append(data)

    def get(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def list(self, folder: str) -> Sequence[Stored]:
        return [Stored(name, 0) for name in self.objects if name.startswith(f"{folder}/")]

    def remove(self, names: Collection[str]) -> None:
        for name in names:
            self.objects.pop(name, None)


def pictures(bucket: Bucket, **more: float) -> Pictures:
    return Pictures(Thumbnails(bucket), **{"patience_s": 30.0, **more})  # type: ignore[arg-type]


def shown(at_ms: int, jpeg: bytes) -> Write:
    return write("gate", at_ms=NOON + at_ms, thumbnail=jpeg)


async def test_pictures_are_there_when_put_returns() -> None:
    bucket = Bucket()
    await pictures(bucket).put([shown(number, b"%d" % number) for number in range(20)])
    assert len(bucket.objects) == 20


async def test_a_write_without_pictures_waits_for_nobody() -> None:
    bucket = Bucket()
    bucket.open.clear()
    await pictures(bucket).put([write("gate")])
    bucket.open.set()


async def test_a_store_that_hangs_is_waited_for_once_and_then_nobody_waits() -> None:
    bucket = Bucket()
    bucket.open.clear()
    putting = pictures(bucket, patience_s=0.01)
    await putting.put([shown(0, b"0")])
    assert bucket.objects == {}
    putting._patience_s = 60.0
    await putting.put([shown(1, b"1")])
    bucket.open.set()
    await putting.finish(60)
    assert len(bucket.objects) == 2
    await putting.put([shown(2, b"2")])
    assert len(bucket.objects) == 3


async def test_a_store_that_is_away_is_tried_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bucket = Bucket(trouble=Transient("away"))
    putting = pictures(bucket, patience_s=0.01)
    for number in range(5):
        await putting.put([shown(number, b"%d" % number)])
    bucket.trouble = None
    await putting.finish(60)
    assert len(bucket.objects) == 5
    assert caplog.text.count("not kept") <= 4  # once a thread


async def test_what_a_store_refuses_is_left_out() -> None:
    bucket = Bucket(trouble=Broken("full"))
    putting = pictures(bucket)
    await putting.put([shown(0, b"0")])
    bucket.trouble = None
    await putting.put([shown(1, b"1")])
    assert list(bucket.objects.values()) == [b"1"]


async def test_the_newest_of_a_moments_pictures_is_written_last() -> None:
    bucket = Bucket()
    bucket.open.clear()
    putting = pictures(bucket, patience_s=0.0)
    for number in range(20):
        await putting.put([shown(0, b"%d" % number)])
    bucket.open.set()
    await putting.finish(60)
    assert bucket.order == [b"%d" % number for number in range(20)]


async def test_of_too_many_that_wait_the_oldest_are_left_out() -> None:
    bucket = Bucket()
    bucket.open.clear()
    putting = pictures(bucket, patience_s=0.0, threads=1, most_waiting=3)
    for number in range(10):
        await putting.put([shown(number, b"%d" % number)])
        await until(lambda: putting._hands[0].waiting <= 3, "it is bounded")
    bucket.open.set()
    await putting.finish(60)
    assert set(bucket.objects.values()) >= {b"7", b"8", b"9"}
    assert len(bucket.objects) <= 4


async def test_a_caller_that_is_cancelled_leaves_the_pictures_to_be_written() -> None:
    bucket = Bucket()
    bucket.open.clear()
    putting = pictures(bucket)
    asked = asyncio.create_task(putting.put([shown(0, b"0")]))
    await until(lambda: putting._hands[int(shown(0, b"").moment.id, 16) % 4].waiting == 1, "it waits")
    asked.cancel()
    bucket.open.set()
    await putting.finish(60)
    assert list(bucket.objects.values()) == [b"0"]


async def test_a_picture_that_comes_takes_the_place_of_one_that_is_shown_no_longer(tmp_path: Path) -> None:
    thumbnails = Thumbnails(FolderObjects(tmp_path))
    putting, one = Pictures(thumbnails, patience_s=30.0), shown(0, b"peak")

    def told(at_ms: int, seen: Sequence[int]) -> Write:
        regions = tuple(Region(NOON + n, WHOLE, one.moment.vector) for n in seen)
        moment = replace(one.moment, regions=regions)
        return replace(one, moment=moment, pictures=((NOON + at_ms, b"%d" % at_ms),))

    for number in range(4):
        await putting.put([told(number, range(number + 1))])
    await putting.put([told(4, (0, 1, 3, 4))])
    found = [thumbnails.get(one.moment.id, NOON + number) for number in range(5)]
    assert found == [b"0", b"1", b"peak", b"3", b"4"]
