"""What is gone is not written: neither by a replay of the topic, nor by a writer that is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from catalog.backgrounds import Backgrounds
from catalog.known_life import KnownLife
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.errors import WatchwordError
from proto.life import DAY_MS, DEFAULT, Erasure, Gone, Rules, Stretch
from proto.types import Moment, now_ms
from proto.v1.events_pb2 import Frame
from stream.backgrounds import Sampler
from stream.consumer import Mark
from stream.fence import Fence, Lease
from stream.memory import MemoryLog
from stream.moments import Write
from stream.pictures import Pictures
from stream.writer import Parts, Writer
from tests.catalog.shared import opened
from tests.contracts.moments import HOUR, MINUTE, NOON, moment
from tests.contracts.moments import SPACE as ROWS
from tests.stream.rig import SPACE, START_MS, Life, filled, frame


class Rule:
    """Rules that change when a test says so."""

    def __init__(self, rules: Rules) -> None:
        self.now = rules

    def rules(self) -> Rules:
        return self.now


def erased(camera: str, first_ms: int, end_ms: int, number: int = 1) -> Rules:
    return Rules(number, erasures=(Erasure(number, Stretch(camera, first_ms, end_ms), "", "", 0),))


def life_of(log: MemoryLog, store: MemoryStore, folder: Path, rule: Rule) -> Life:
    life = Life(log, store, folder)
    object.__setattr__(life.worker._house, "life", KnownLife(rule, 0.0))
    life.worker._pictures = Pictures(life.worker._house.thumbnails, life.worker._house.life.as_known)
    return life


def spans(store: MemoryStore) -> list[tuple[str, float, float]]:
    """Camera, first and last second of each moment."""
    found = store._moments.values()
    return sorted((one.camera, (one.start_ms - START_MS) / 1000, (one.end_ms - START_MS) / 1000) for one in found)


def watched(*cameras: str, frames: int = 20) -> list[Frame]:
    return [frame(name, START_MS + 1000 * number, 0, number) for number in range(frames) for name in cameras]


async def test_a_replay_stores_nothing_of_what_was_erased_and_all_the_rest(tmp_path: Path) -> None:
    log, store = filled(watched("gate", "dock")), MemoryStore(SPACE)
    rule = Rule(erased("gate", START_MS + 5000, START_MS + 8000))
    life = life_of(log, store, tmp_path, rule)
    while await life.read(7):
        pass
    await life.quiet(40)
    await life.stored()
    assert spans(store) == [("dock", 0, 19), ("gate", 0, 4), ("gate", 8, 19)]
    assert life.assignment.committable() == {0: 40}
    await life.die()


async def test_what_is_erased_while_it_goes_on_ends_there_and_what_follows_is_a_moment_of_its_own(
    tmp_path: Path,
) -> None:
    log, store = filled(watched("gate")), MemoryStore(SPACE)
    rule = Rule(Rules(0))
    life = life_of(log, store, tmp_path, rule)
    await life.read(10)
    await life.stored()
    assert spans(store) == [("gate", 0, 0)]
    rule.now = erased("gate", START_MS, START_MS + 10_000)
    store._moments.clear()
    while await life.read(5):
        pass
    await life.quiet(40)
    await life.stored()
    assert spans(store) == [("gate", 10, 19)]
    assert life.assignment.committable() == {0: 20}
    await life.die()


async def test_a_late_replay_of_what_is_too_old_is_not_stored(tmp_path: Path) -> None:
    now = now_ms()
    made = [frame("gate", now - (72 - hours) * HOUR, 0, hours) for hours in range(72)]
    log, store = filled(made), MemoryStore(SPACE)
    life = life_of(log, store, tmp_path, Rule(Rules(1, {DEFAULT: 2.0}, trusted_ms=now)))
    while await life.read(20):
        pass
    await life.quiet(40)
    await life.stored()
    assert min(one.start_ms for one in store._moments.values()) > now - 2 * DAY_MS - MINUTE
    assert life.assignment.committable() == {0: 72}
    await life.die()


class Slow(MemoryStore):
    """Learns of an erasure in the middle of a write: the writer asked before."""

    rule: Rule

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        done = await super().upsert(moments)
        self.rule.now = erased("gate", NOON, NOON + MINUTE)
        return done


def write(camera: str, at_ms: int) -> Write:
    return Write(moment(camera, at_ms), b"peak", (), pictures=((at_ms, b"instant"),))


async def test_a_writer_asks_before_each_write_and_what_was_erased_is_not_written_again(tmp_path: Path) -> None:
    rule, store = Rule(Rules(0)), Slow(ROWS)
    store.rule = rule
    known = KnownLife(rule, 0.0)
    lease = Lease(45.0)
    lease.renewed(0.0)
    done: list[Write] = []
    passed: list[Write] = []

    async def refused(*_: object) -> None:
        raise AssertionError("nothing is refused here")

    pictures = Thumbnails(FolderObjects(tmp_path))
    parts = Parts(
        store, Pictures(pictures, known.as_known), Fence(lease, lambda: 0.0), refused, done.extend, known, passed.extend
    )
    writer = Writer(parts, 100)
    early, late, other = write("gate", NOON), write("gate", NOON + MINUTE // 2), write("dock", NOON)
    await writer.write([early])
    await writer.flushed()
    await writer.write([late, other])
    await writer.flushed()
    assert [one.moment.id for one in done] == [early.moment.id, other.moment.id]
    assert [one.moment.id for one in passed] == [late.moment.id]
    assert {name for name, _ in pictures.moments(0, 2**50)} == {early.moment.id, other.moment.id}
    # After an outage what was acknowledged is read back: what was erased meanwhile is not missed.
    (lane,) = writer._lanes.values()
    store._moments.clear()
    lane._away_since_s = 0.0
    assert early.moment.id in {one.moment.id for one in lane._acknowledged.all()}
    again = write("dock", NOON + HOUR)
    await writer.write([again])
    await writer.flushed()
    assert store._moments.keys() == {again.moment.id, other.moment.id}
    await writer.close()


def test_a_picture_that_was_erased_while_it_was_written_does_not_stay(tmp_path: Path) -> None:
    pictures = Thumbnails(FolderObjects(tmp_path))
    answers = [Rules(0).erased, erased("gate", NOON, NOON + 1).erased]
    hand = Pictures(pictures, lambda: answers.pop(0))._hands[0]
    assert hand._written(write("gate", NOON)) is None
    assert list(pictures.moments(0, 2**50)) == []
    assert answers == []


def test_samples_of_what_is_gone_do_not_get_into_a_background(tmp_path: Path) -> None:
    backgrounds = Backgrounds(opened(tmp_path))
    sampler = Sampler(backgrounds, ROWS.id)
    gone: Gone = erased("gate", NOON, NOON + HOUR).erased
    for one in (moment("gate", NOON), moment("gate", NOON + 2 * HOUR)):
        sampler.offer([Write(one, None, (Mark(0, 1),))])
    sampler.flush(sampler.take(), gone)
    (found,) = backgrounds.get(ROWS.id)
    assert found.moments == (moment("gate", NOON + 2 * HOUR).id,)
