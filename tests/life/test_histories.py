"""Whatever happens in whatever order: nothing that is gone is ever answered, and nothing else is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from life.sweeper import NotMine
from proto.errors import Transient
from proto.life import DAY_MS, DEFAULT, Rules, Stretch
from proto.metrics import SWEEP_BEHIND
from proto.types import Moment
from tests.contracts.moments import HOUR, MINUTE, NOON, moment
from tests.histories import examples
from tests.life.twins import House, MemoryLife, directly

CAMERAS = ("gate", "dock")
PLACES = st.tuples(st.sampled_from(CAMERAS), st.integers(0, 71))
TIMES = st.tuples(st.sampled_from(CAMERAS), st.integers(0, 71), st.integers(1, 24))


def at(place: tuple[str, int]) -> Moment:
    camera, hours = place
    return moment(camera, NOON - hours * HOUR, length_ms=MINUTE)


def stretch(camera: str, hours: int, length: int) -> Stretch:
    return Stretch(camera, NOON - hours * HOUR, NOON - (hours - length) * HOUR)


STEPS = st.one_of(
    st.tuples(st.just("write"), PLACES),
    st.tuples(st.just("replay"), st.just(0)),
    st.tuples(st.just("late"), PLACES),
    st.tuples(st.just("erase"), TIMES),
    st.tuples(st.just("hold"), TIMES),
    st.tuples(st.just("lift"), st.integers(0, 3)),
    st.tuples(st.just("keep"), st.tuples(st.sampled_from([DEFAULT, *CAMERAS]), st.sampled_from([1.0, 2.0, 36_500.0]))),
    st.tuples(st.just("fit"), st.tuples(st.sampled_from(CAMERAS), st.integers(0, 71))),
    st.tuples(st.just("sweep"), st.none() | st.integers(0, 40)),
    st.tuples(st.just("wait"), st.sampled_from([MINUTE, HOUR, 7 * HOUR])),
)


class History:
    """A house, and what was written and gone so far."""

    def __init__(self) -> None:
        self.house = House()
        self.sweepers = [self.house.sweeper("one"), self.house.sweeper("two")]
        self.written: dict[str, Moment] = {}
        self.ever_gone: set[str] = set()
        self.stale: Rules = self.house.life.now

    async def do(self, step: tuple[str, object]) -> None:
        house, life = self.house, self.house.life
        match step:
            case "write", place:
                await self._write(at(place))  # type: ignore[arg-type]
            case "replay", _:
                for one in list(self.written.values()):
                    await self._write(one)
            case "late", place:
                # A worker that has not heard of the latest change yet.
                await self._write(at(place), self.stale)  # type: ignore[arg-type]
            case "erase", times:
                self.stale = life.now
                life.erase(stretch(*times), house.now_ms)  # type: ignore[misc]
            case "hold", times:
                life.hold(stretch(*times))  # type: ignore[misc]
            case "lift", int(which) if which < len(life.now.holds):
                life.lift(life.now.holds[which].number)
            case "keep", (str(camera), float(days)):
                self.stale = life.now
                life.change(days={**life.now.days, camera: days})
            case "fit", (str(camera), int(hours)):
                # As a sweeper does that measured the camera.
                self.stale = life.now
                life.raise_floors({camera: NOON - hours * HOUR})
            case "sweep", fails_in:
                await self._sweep(fails_in)  # type: ignore[arg-type]
            case "wait", int(length):
                house.now_ms += length
        await self.check()

    async def check(self) -> None:
        gone = self.house.life.now.gone(self.house.now_ms)
        self.ever_gone |= {m.id for m in self.written.values() if gone.covers(m.camera, m.start_ms, m.end_ms)}
        shown = await self.house.shown()
        assert not {name for name in shown if self._is_gone(name)}
        assert shown >= self.written.keys() - self.ever_gone

    async def end(self) -> None:
        """What comes to rest is clean: rows and pictures of what is gone are nowhere."""
        for _ in range(3):
            self.house.now_ms += 2 * HOUR
            for sweeper in self.sweepers:
                with suppress(NotMine):
                    await sweeper.round()
            self.house.leases.held = None
        await self.check()
        assert not {name for name in self.house.stored() if self._is_gone(name)}
        assert not {name for name in self.house.pictured() if self._is_gone(name)}
        assert self.house.stored() == await self.house.shown() <= self.house.pictured()
        assert all(one.done_ms for one in self.house.life.now.erasures)

    def _is_gone(self, name: str) -> bool:
        one = self.written[name]
        return self.house.life.now.gone(self.house.now_ms).covers(one.camera, one.start_ms, one.end_ms)

    async def _write(self, one: Moment, rules: Rules | None = None) -> None:
        if await self.house.write(one, rules):
            self.written[one.id] = one
            self.ever_gone.discard(one.id)

    async def _sweep(self, fails_in: int | None) -> None:
        self.house.fails_in = fails_in
        for sweeper in self.sweepers:
            with suppress(NotMine, Transient):
                await sweeper.round()
        self.house.fails_in = None


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_nothing_that_is_gone_is_answered_and_nothing_else_is_lost(steps: list[tuple[str, object]]) -> None:
    async def live() -> None:
        history = History()
        for place in range(0, 72, 7):
            await history.do(("write", (CAMERAS[place % 2], place)))
        for step in steps:
            await history.do(step)
        await history.end()

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())


def test_a_clock_a_year_ahead_removes_nothing_and_the_right_one_goes_on() -> None:
    async def live() -> None:
        house = House()
        house.life.change(days={DEFAULT: 2.0})
        kept, old = at(("gate", 3)), moment("gate", NOON - 3 * DAY_MS)
        house.life.now, rules = Rules(trusted_ms=NOON), house.life.now
        for one in (kept, old):
            await house.write(one)
        house.life.now = rules
        house.now_ms += 365 * DAY_MS
        await house.sweeper().round()
        assert house.stored() == {kept.id, old.id}
        assert house.life.now.trusted_ms == NOON
        house.now_ms -= 365 * DAY_MS
        house.leases.held = None
        await house.sweeper().round()
        assert house.stored() == {kept.id} == house.pictured()

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())


def test_an_erasure_is_not_done_before_the_recordings_are() -> None:
    async def live() -> None:
        house = House()
        house.recorded = {"gate"}
        number = house.life.erase(Stretch("gate", 0, NOON), NOON)
        sweeper = house.sweeper()
        house.now_ms += MINUTE
        await sweeper.round()
        assert not house.life.now.erasures[0].done_ms
        house.life.worked(number, "recordings", 3, house.now_ms, place="here", done=True)
        await sweeper.round()
        assert house.life.now.erasures[0].done_ms

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())


def test_while_a_store_is_away_it_is_told_how_far_behind_erasures_are() -> None:
    async def live() -> None:
        house = House()
        await house.write(at(("gate", 3)))
        house.life.erase(Stretch("gate", 0, NOON), NOON)
        house.now_ms += 2 * HOUR
        house.fails_in = 1  # the rules are read, and the index does not answer
        SWEEP_BEHIND.set(0)
        with pytest.raises(Transient):
            await house.sweeper().round()
        assert SWEEP_BEHIND._value.get() == 2 * HOUR / 1000

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())


def test_a_fault_of_the_sweeper_does_not_end_it() -> None:
    async def live() -> None:
        house, rounds = House(), 0
        one = at(("gate", 3))
        await house.write(one)
        house.life.erase(Stretch("gate", 0, NOON), NOON)

        async def pause(_: float) -> None:
            nonlocal rounds
            rounds += 1
            house.life.rules = MemoryLife.rules.__get__(house.life)  # type: ignore[method-assign]
            if not house.stored():
                raise asyncio.CancelledError

        house.life.rules = mock.Mock(side_effect=ZeroDivisionError)  # type: ignore[method-assign]
        sweeper = house.sweeper()
        sweeper._pause = pause
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sweeper.run(), 10)
        assert rounds > 1 and not house.stored()

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())


def test_an_erasure_that_waits_for_recordings_does_not_read_all_names_of_pictures_each_time() -> None:
    async def live() -> None:
        house = House()
        house.recorded = {"gate"}
        await house.write(at(("gate", 3)))
        house.life.erase(Stretch("gate", 0, NOON), NOON)
        sweeper = house.sweeper()
        house.now_ms += MINUTE
        await sweeper.round()
        assert not house.pictured()
        house.objects.list = mock.Mock(side_effect=AssertionError)  # type: ignore[method-assign]
        await sweeper.round()
        assert not house.life.now.erasures[0].done_ms

    with mock.patch("asyncio.to_thread", directly):
        asyncio.run(live())
