"""The sweeper: removes what is gone from every store, in one process at a time.

What is gone is hidden and not written by everybody else already (proto/life.py), so the sweeper may be late, and may
end at any step: it begins again, and every step can be repeated. Pictures go before the rows that name them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from index.filters import Filter
from index.removal import Holding
from life.clock import doubt
from life.finding import all_gone, erased_only, holdings_of, in_batches, unowned
from life.measuring import Measuring
from life.settings import RetentionSettings
from life.stores import Leases, Life, Notes, Pictures, Recorded, Rows, Signs
from proto.errors import Transient, WatchwordError
from proto.life import DEFAULT, Erasure, Gone, Rules
from proto.metrics import SWEEP_BEHIND, SWEEP_REFUSED, SWEPT
from proto.types import now_ms

log = logging.getLogger("watchword.life")

LEASE = "life/sweeper"
RECORDINGS = "recordings"
_HERE = ("index", "pictures", "coverage", "backgrounds")
"""What the sweeper itself looks after."""
_LEASE_MS = 60_000
_TRUST_MS = 60_000
"""How often it is noted that the clock is right."""
_ROWS_AT_ONCE = 500
_AGAIN_MS = 3_600_000
"""What was erased is looked for again so often: a process that could not read the catalog may have written it."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What a sweeper works on."""

    rows: Rows
    pictures: Pictures
    gaps: Notes
    backgrounds: Notes
    life: Life
    leases: Leases
    signs: Signs
    recorded: Recorded
    longest_ms: int
    """No moment is longer."""


class NotMine(Transient):
    """Another process sweeps."""


class Sweeper:
    """One candidate for the job. `run` never raises what a store does: it tries again."""

    def __init__(
        self,
        stores: Stores,
        settings: RetentionSettings,
        holder: str,
        *,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`holder` names this process and no other one."""
        self._at = stores
        self._settings = settings
        self._holder = holder
        self._clock = clock
        self._pause = pause
        self._expired_ms = -math.inf
        self._looked_ms = -math.inf
        self._measured_ms = -math.inf
        self._measured: Mapping[str, int] | None = None
        """The limits in bytes by which was measured last."""
        self._measuring = Measuring(stores.rows, stores.pictures)
        self._refused = ""

    async def run(self) -> None:
        """Sweep for ever, until cancelled."""
        fails = False
        while True:
            try:
                await self.round()
            except NotMine:
                SWEEP_BEHIND.set(0)
            except WatchwordError as error:
                if not fails:
                    log.warning("what is gone is hidden, and not removed for now: %s", error)
                fails = True
            except Exception:
                # Were it to end, nothing would be removed until this process is started anew.
                log.exception("the sweeper met a fault of its own; it is tried again")
            else:
                fails = False
            await self._pause(self._settings.check_s)

    async def round(self) -> None:
        """One look at everything that is to be done. Raises NotMine while another process does it."""
        await self._hold()
        rules = await asyncio.to_thread(self._at.life.rules)
        # Before the stores are asked: while one is away, this is what tells of it.
        pending = [one.asked_ms for one in rules.erasures if one.done_ms == 0]
        SWEEP_BEHIND.set(max((self._clock() - asked_ms for asked_ms in pending), default=0) / 1000)
        await self._trust(rules)
        for erasure in rules.erasures:
            if erasure.done_ms == 0:
                await self._erase(rules, erasure)
        if self._is_due(self._looked_ms, _AGAIN_MS):
            await self._look_again(rules.erased)
            self._looked_ms = self._clock()
        if self._refused:
            return
        raised = False
        if self._measured != rules.bytes or self._is_due(self._measured_ms, self._settings.measure_s * 1000):
            begun_ms = self._clock()
            raised = await self._measure(rules)
            self._measured, self._measured_ms = rules.bytes, begun_ms
        if raised or self._is_due(self._expired_ms, self._settings.expire_s * 1000):
            rules = await asyncio.to_thread(self._at.life.rules)
            begun_ms = self._clock()
            await self._expire(rules.gone(begun_ms))
            self._expired_ms = begun_ms

    def _is_due(self, last_ms: float, every_ms: float) -> bool:
        """Also when the clock was set back meanwhile."""
        return not 0 <= self._clock() - last_ms < every_ms

    async def _trust(self, rules: Rules) -> None:
        """Note that the clock is right, or why nothing goes for its age."""
        at_ms = self._clock()
        store_ms = await asyncio.to_thread(self._at.life.clock_ms)
        newest_ms = 0 if rules.trusted_ms else await asyncio.to_thread(self._at.signs.newest_ms)
        why = doubt(at_ms, rules.trusted_ms, store_ms, newest_ms) or ""
        if why and not self._refused:
            log.error("nothing is removed for its age: %s; if it is right: watchword retention trust-clock", why)
        if self._refused and not why:
            log.info("the clock is trusted again; what is too old is removed")
        self._refused = why
        SWEEP_REFUSED.set(bool(why))
        if not why and at_ms - rules.trusted_ms >= _TRUST_MS:
            await asyncio.to_thread(self._at.life.trust, at_ms)

    async def _erase(self, rules: Rules, erasure: Erasure) -> None:
        """Carry it out as far as that is possible now, and note when it is done everywhere."""
        # Recordings are others' work and may take days: nothing is looked for here again meanwhile.
        here = await asyncio.to_thread(self._is_done_here, erasure) or await self._erase_here(rules, erasure)
        if here and await asyncio.to_thread(self._is_done, erasure):
            await asyncio.to_thread(self._at.life.done, erasure.number, self._clock())

    async def _erase_here(self, rules: Rules, erasure: Erasure) -> bool:
        """Remove it from the stores that the sweeper looks after; whether that is all."""
        at, number, begun_ms = self._at, erasure.number, self._clock()
        erased = rules.spared(erasure)
        gone, which = Gone(erased=(erased,)), erased_only(erased)
        settle_ms = self._settings.settle_s * 1000
        settled = begun_ms - erasure.asked_ms >= settle_ms
        found = await at.rows.holdings()
        moments = pictures = 0
        for holding in holdings_of(found.known, erased, at.longest_ms):
            more, shown = await self._remove(holding, which)
            moments, pictures = moments + more, pictures + shown
        if settled and not found.missing:
            lost = [one async for some in unowned(at, erased, begun_ms - settle_ms) for one in some]
            pictures += await self._without_pictures(lost)
        gaps = await asyncio.to_thread(at.gaps.forget_gone, gone)
        samples = await asyncio.to_thread(at.backgrounds.forget_gone, gone)
        whole = settled and not found.missing
        removed = dict(zip(_HERE, (moments, pictures, gaps, samples), strict=True))
        await self._hold()
        for store, count in removed.items():
            await asyncio.to_thread(at.life.worked, number, store, count, begun_ms, done=whole)
        return whole

    async def _look_again(self, gone: Gone) -> None:
        """Remove what was written although it was erased before, all at once."""
        if not gone.erased:
            return
        at, which, late = self._at, Filter(only=gone), 0
        for holding in (await at.rows.holdings()).known:
            if any(holdings_of([holding], one, at.longest_ms) for one in gone.erased):
                late += (await self._remove(holding, which))[0]
        await asyncio.to_thread(at.gaps.forget_gone, gone)
        await asyncio.to_thread(at.backgrounds.forget_gone, gone)
        if late:
            log.warning("%d moments were stored after they had been erased; they are removed", late)

    def _is_done_here(self, erasure: Erasure) -> bool:
        return set(_HERE) <= {one.store for one in self._at.life.work(erasure.number) if one.done_ms}

    def _is_done(self, erasure: Erasure) -> bool:
        """Whether every store is done with it: also those that other processes look after."""
        work = self._at.life.work(erasure.number)
        if self._at.recorded.is_recorded(erasure.stretch.camera) and RECORDINGS not in {one.store for one in work}:
            return False
        return all(one.done_ms for one in work)

    async def _measure(self, rules: Rules) -> bool:
        """Let the cameras begin where their bytes say; whether any begins later than before."""
        if not rules.bytes:
            return False
        cameras = await asyncio.to_thread(self._at.recorded.names) if DEFAULT in rules.bytes else frozenset()
        found, now_ms = await self._at.rows.holdings(), self._clock()
        self._measuring.forget(found.known)
        later = {}
        for camera in sorted(cameras | rules.bytes.keys() - {DEFAULT}):
            await self._hold()
            # A shard that is away makes it less than it is: the floor stays for now.
            floor_ms = await self._measuring.floor(found.known, camera, rules, now_ms)
            if floor_ms > rules.floors.get(camera, 0):
                later[camera] = floor_ms
        if later:
            await asyncio.to_thread(self._at.life.raise_floors, later)
            log.info("%d cameras took more bytes than they may: what is oldest goes", len(later))
        return bool(later)

    async def _expire(self, gone: Gone) -> None:
        """Remove what is too old, or beyond the bytes of its camera."""
        if not gone.ceiling_ms:
            return
        aged = Gone(gone.before_ms, gone.own, (), gone.held)
        found = await self._at.rows.holdings()
        whole = [one for one in found.known if all_gone(one, aged, self._at.longest_ms)]
        if whole:
            await self._drop(whole)
        for holding in found.known:
            if holding not in whole and holding.bucket.start_ms < aged.ceiling_ms:
                await self._remove(holding, Filter(only=aged))
        SWEPT.labels(part="coverage").inc(await asyncio.to_thread(self._at.gaps.forget_gone, aged))
        SWEPT.labels(part="backgrounds").inc(await asyncio.to_thread(self._at.backgrounds.forget_gone, aged))
        for missing in found.missing.values():
            raise missing

    async def _drop(self, whole: Sequence[Holding]) -> None:
        """Drop buckets in which everything is too old, after the pictures of their time."""
        buckets = {one.bucket for one in whole}
        first_ms, last_ms = min(b.start_ms for b in buckets), max(b.end_ms for b in buckets) - 1
        async for some in in_batches(self._at.pictures, first_ms, last_ms):
            old = [moment for moment, start_ms, _ in some if any(bucket.holds(start_ms) for bucket in buckets)]
            await self._without_pictures(old)
        for holding in whole:
            await self._hold()
            await self._at.rows.drop(holding)
            log.info("dropped the moments of %s to %s: too old", holding.bucket.start_ms, holding.bucket.end_ms)
            SWEPT.labels(part="buckets").inc()

    async def _remove(self, holding: Holding, which: Filter) -> tuple[int, int]:
        """Remove the rows that pass and their pictures; how many moments and pictures they were."""
        moments = pictures = 0
        before: set[str] = set()
        while rows := await self._at.rows.rows(holding, which, _ROWS_AT_ONCE):
            ids = {row.id for row in rows}
            if ids <= before:
                raise Transient(f"the index ({holding.shard}) keeps rows that were deleted", todo="look at its log")
            before |= ids
            of_moments = sorted({row.moment for row in rows})
            pictures += await self._without_pictures(of_moments)
            await self._at.rows.remove(holding, sorted(ids))
            moments += len(of_moments)
            SWEPT.labels(part="index").inc(len(of_moments))
        return moments, pictures

    async def _without_pictures(self, moments: Sequence[str]) -> int:
        removed = 0
        for first in range(0, len(moments), _ROWS_AT_ONCE):
            some = moments[first : first + _ROWS_AT_ONCE]
            removed += await asyncio.to_thread(self._at.pictures.remove, some)
            await self._pause(len(some) / self._settings.moments_per_s)
            await self._hold()
        SWEPT.labels(part="pictures").inc(removed)
        return removed

    async def _hold(self) -> None:
        """Renew the lease, or stop: another process sweeps."""
        if not await asyncio.to_thread(self._at.leases.take, LEASE, self._holder, self._clock(), _LEASE_MS):
            raise NotMine("another process sweeps", todo="nothing: one is enough")
