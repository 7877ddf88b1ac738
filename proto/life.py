"""How long what cameras saw may be kept: limits, erasures and holds, as one rule that every store is asked by. Pure.

A moment is *gone* when it is older than its camera's limit, when newer ones take all the bytes that its camera may
have (then it starts before the camera's *floor*), or when it touches a time that was erased. It may still be stored:
what is gone is never shown, never written, and removed in the background. A hold keeps what it touches from being
removed: whatever its age, and from erasures that are asked for later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

from proto.errors import Invalid

One = TypeVar("One")

DEFAULT = ""
"""Stands for the cameras without a limit of their own, where limits are by camera."""
DAY_MS = 86_400_000
MINUTE_MS = 60_000
LEAST_DAYS = 1 / 24
"""A moment lasts up to an hour: a shorter limit would end it while it goes on."""
MOST_DAYS = 36_500.0
LEAST_BYTES = 10_000_000
"""A busy camera writes as much in an hour or less, and its latest hour always stays."""
MOST_BYTES = 10**15
"""Stands for no limit: for a camera that is to have none although others do."""
ALWAYS_MS = 2**53
"""The end of a time without an end."""
LONGEST_MS = 7 * DAY_MS
"""No moment is longer."""
MOST_LEAP_MS = 3 * DAY_MS
"""A clock that is farther from the last time that was known to be right is in doubt."""


def check_days(days: float) -> float:
    """The limit, or Invalid when nothing can be kept for so long."""
    if not LEAST_DAYS <= days <= MOST_DAYS:  # also refuses NaN
        raise Invalid(
            f"a retention of {days:g} days cannot be kept",
            todo=f"give one hour (0.042) to {MOST_DAYS:g} days; `watchword erase` removes what is there now",
        )
    return days


def check_bytes(size: int) -> int:
    """The limit, or Invalid when nothing can be kept within so little."""
    if not LEAST_BYTES <= size <= MOST_BYTES:
        raise Invalid(
            f"moments cannot be kept within {size} bytes",
            todo=f"give {LEAST_BYTES // 10**6}MB or more, such as 20GB; `watchword retention clear` ends a limit",
        )
    return size


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time of one camera: [start_ms, end_ms)."""

    camera: str
    start_ms: int
    end_ms: int

    def touches(self, start_ms: int, end_ms: int) -> bool:
        """Whether a moment with these ends, both inclusive, lies in it at any instant."""
        return end_ms >= self.start_ms and start_ms < self.end_ms


@dataclass(frozen=True, slots=True)
class Hold:
    """What must be kept, as a court or a quarrel asks for."""

    number: int
    """Orders holds and erasures: an erasure spares what an earlier hold covers."""
    stretch: Stretch
    reason: str
    placed_ms: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was asked to be erased. It stays in force for ever."""

    number: int
    stretch: Stretch
    moment: str
    """The moment's id where it was asked for by that; its time is the stretch."""
    reason: str
    asked_ms: int
    done_ms: int = 0
    """When it was carried out everywhere; 0 before."""


@dataclass(frozen=True, slots=True)
class Erased:
    """An erased time, and the times in it that an earlier hold spares."""

    stretch: Stretch
    unless: tuple[Stretch, ...] = ()

    def covers(self, start_ms: int, end_ms: int) -> bool:
        """Whether a moment of its camera with these ends is erased."""
        return self.stretch.touches(start_ms, end_ms) and not _touched(self.unless, start_ms, end_ms)


@dataclass(frozen=True)
class Gone:
    """What may not be shown at one time."""

    before_ms: int = 0
    """Moments that start before this are expired, of cameras that are not in `own`."""
    own: tuple[tuple[int, frozenset[str]], ...] = ()
    """The same for cameras with limits of their own, each in one set."""
    erased: tuple[Erased, ...] = ()
    held: tuple[Stretch, ...] = ()
    """What these touch is not expired."""

    @cached_property
    def _before(self) -> Mapping[str, int]:
        return {camera: before_ms for before_ms, cameras in self.own for camera in cameras}

    @cached_property
    def _erased(self) -> Mapping[str, tuple[Erased, ...]]:
        return _by_camera((one.stretch.camera, one) for one in self.erased)

    @cached_property
    def _held(self) -> Mapping[str, tuple[Stretch, ...]]:
        return _by_camera((one.camera, one) for one in self.held)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing that may not be shown."""
        return not (self.before_ms or self.own or self.erased)

    @property
    def floor_ms(self) -> int:
        """Everything that starts before this is gone, of any camera, but for what is held."""
        return min(self.before_ms, *(before_ms for before_ms, _ in self.own)) if self.own else self.before_ms

    @property
    def ceiling_ms(self) -> int:
        """Nothing that starts then or later is expired."""
        return max(self.before_ms, *(before_ms for before_ms, _ in self.own)) if self.own else self.before_ms

    def before_of(self, camera: str) -> int:
        """What of the camera starts before this is expired, but for what is held."""
        return self._before.get(camera, self.before_ms)

    def covers(self, camera: str, start_ms: int, end_ms: int) -> bool:
        """Whether a moment of the camera with these ends, both inclusive, is gone."""
        return self.expired(camera, start_ms, end_ms) or any(
            one.covers(start_ms, end_ms) for one in self._erased.get(camera, ())
        )

    def expired(self, camera: str, start_ms: int, end_ms: int) -> bool:
        """Whether it is gone for its age."""
        return start_ms < self.before_of(camera) and not _touched(self._held.get(camera, ()), start_ms, end_ms)

    def may_cover(self, start_ms: int) -> bool:
        """Whether a moment that starts then, of any camera, could be gone: then it must be looked at."""
        return start_ms < self.ceiling_ms or any(
            one.stretch.touches(start_ms, start_ms + LONGEST_MS) for one in self.erased
        )

    def may_be_of(self, camera: str, start_ms: int) -> bool:
        """Whether a moment of the camera that starts then could be gone, however long it lasts."""
        return self.covers(camera, start_ms, start_ms) or any(
            one.stretch.touches(start_ms, start_ms + LONGEST_MS) for one in self._erased.get(camera, ())
        )

    def parts(self, camera: str, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
        """What is left of a time of the camera, both ends inclusive; of camera "", which may be any, of its age."""
        if not camera:
            return [] if end_ms < self.floor_ms else [(max(start_ms, self.floor_ms), end_ms)]
        if not _touched(self._held.get(camera, ()), start_ms, end_ms):
            start_ms = max(start_ms, self.before_of(camera))
        left = [(start_ms, end_ms)] if start_ms <= end_ms else []
        for one in self._erased.get(camera, ()):
            for first_ms, last_ms in _without(one):
                left = [part for begin, end in left for part in _cut(begin, end, first_ms, last_ms)]
        return left

    def among(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> Gone:
        """As much of it as matters for moments of these cameras (None: any) that overlap [start_ms, end_ms)."""
        first_ms, last_ms = start_ms or 0, (ALWAYS_MS if end_ms is None else end_ms) - 1

        def asked(stretch: Stretch) -> bool:
            return (cameras is None or stretch.camera in cameras) and stretch.touches(first_ms, last_ms)

        erased = tuple(one for one in self.erased if asked(one.stretch))
        held = tuple(one for one in self.held if asked(one))
        if cameras is None:
            return Gone(self.before_ms, self.own, erased, held)
        groups = defaultdict[int, set[str]](set)
        for camera in cameras:
            groups[self.before_of(camera)].add(camera)
        if len(groups) == 1:  # the usual question: one line for all that are asked about
            return Gone(next(iter(groups)), (), erased, held)
        return Gone(0, tuple((before_ms, frozenset(some)) for before_ms, some in sorted(groups.items())), erased, held)


NOTHING = Gone()


class GoneNow(Protocol):
    """Says what is gone at the time it is asked."""

    async def gone(self) -> Gone:
        """What may not be shown."""

    async def unwritable(self) -> Gone:
        """What may not be written."""

    def as_known(self) -> Gone:
        """What may not be written, as far as is known without asking anybody. Safe for threads."""


class AllKept:
    """Nothing is gone: for where nothing has a limit."""

    async def gone(self) -> Gone:
        return NOTHING

    async def unwritable(self) -> Gone:
        return NOTHING

    def as_known(self) -> Gone:
        return NOTHING


@dataclass(frozen=True)
class Rules:
    """The limits, erasures and holds in force. They change seldom; what is gone by them changes with the time."""

    version: int = -1
    """Counts their changes."""
    days: Mapping[str, float] = field(default_factory=dict)
    """How long each camera's moments are kept; DEFAULT: those of all others. A camera that is missing: for ever."""
    erasures: tuple[Erasure, ...] = ()
    holds: tuple[Hold, ...] = ()
    trusted_ms: int = 0
    """The last time of which it is known that the clock was right; 0 when it was never looked at."""
    bytes: Mapping[str, int] = field(default_factory=dict)
    """How much the moments and pictures of each camera may take; DEFAULT: of each other one. Missing: any amount."""
    floors: Mapping[str, int] = field(default_factory=dict)
    """Where each camera begins, by its bytes as they were measured. A floor never goes back: what was gone stays so."""

    def limit(self, camera: str) -> int | None:
        """How many bytes the camera may take. None: any amount."""
        size = self.bytes.get(camera, self.bytes.get(DEFAULT, MOST_BYTES))
        return None if size >= MOST_BYTES else size

    def gone(self, now_ms: int) -> Gone:
        """What may not be shown now. Ages count in whole minutes, so that it stays the same for one."""
        own = defaultdict[int, set[str]](set)
        default = self.days.get(DEFAULT)
        for camera in (self.days.keys() | self.floors.keys()) - {DEFAULT}:
            days = self.days.get(camera, default)
            own[max(0 if days is None else _before(now_ms, days), self.floors.get(camera, 0))].add(camera)
        if default is None:
            # Kept for ever, as cameras without a line are: a line that says so would only be long.
            own.pop(0, None)
        return Gone(
            0 if default is None else _before(now_ms, default),
            tuple((before_ms, frozenset(cameras)) for before_ms, cameras in sorted(own.items())),
            self.erased.erased,
            tuple(hold.stretch for hold in self.holds),
        )

    def clock_doubt(self, now_ms: int) -> bool:
        """Whether this may be a wrong time: then nothing is removed, or left out, for its age."""
        return abs(now_ms - self.trusted_ms) > MOST_LEAP_MS

    @cached_property
    def erased(self) -> Gone:
        """What is gone whatever its age."""
        return Gone(erased=_merged(self.spared(one) for one in self.erasures))

    def spared(self, erasure: Erasure) -> Erased:
        """The erasure, without what earlier holds cover."""
        mine = erasure.stretch
        return Erased(
            mine,
            tuple(
                hold.stretch
                for hold in self.holds
                if hold.number < erasure.number and hold.stretch.camera == mine.camera
            ),
        )


def _before(now_ms: int, days: float) -> int:
    return max(0, -((round(days * DAY_MS) - now_ms) // MINUTE_MS) * MINUTE_MS)


def _touched(stretches: Iterable[Stretch], start_ms: int, end_ms: int) -> bool:
    return any(one.touches(start_ms, end_ms) for one in stretches)


def _by_camera(pairs: Iterable[tuple[str, One]]) -> Mapping[str, tuple[One, ...]]:
    found = defaultdict[str, list[One]](list)
    for camera, one in pairs:
        found[camera].append(one)
    return {camera: tuple(some) for camera, some in found.items()}


def _merged(erased: Iterable[Erased]) -> tuple[Erased, ...]:
    """As few as can be: many erasures of one camera become one time."""
    found: list[Erased] = []
    for one in sorted(erased, key=lambda one: (one.stretch.camera, repr(one.unless), one.stretch.start_ms)):
        last = found[-1] if found else None
        if (
            last is not None
            and (last.stretch.camera, last.unless) == (one.stretch.camera, one.unless)
            and one.stretch.start_ms <= last.stretch.end_ms
        ):
            end_ms = max(last.stretch.end_ms, one.stretch.end_ms)
            found[-1] = Erased(Stretch(last.stretch.camera, last.stretch.start_ms, end_ms), one.unless)
        else:
            found.append(one)
    return tuple(found)


def _without(erased: Erased) -> list[tuple[int, int]]:
    """The erased times, both ends inclusive, without what is spared."""
    left = [(erased.stretch.start_ms, erased.stretch.end_ms - 1)]
    for one in erased.unless:
        left = [part for begin, end in left for part in _cut(begin, end, one.start_ms, one.end_ms - 1)]
    return left


def _cut(begin_ms: int, end_ms: int, first_ms: int, last_ms: int) -> list[tuple[int, int]]:
    """A time without another one; all ends inclusive."""
    if end_ms < first_ms or begin_ms > last_ms:
        return [(begin_ms, end_ms)]
    left = [(begin_ms, first_ms - 1), (last_ms + 1, end_ms)]
    return [(begin, end) for begin, end in left if begin <= end]
