"""Whether a restored index holds what the backup holds: by hash, by count, and by searches that are compared with exact
ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backup.giving import Target, chosen, rules_of, why_not
from backup.manifest import File, Manifest
from backup.packing import moments_unpacked, pictures_unpacked
from backup.place import Place
from backup.taking import Say
from index.store import Ask, MomentStore, fullness
from proto.life import Rules
from proto.types import Moment, SpaceInfo, Vector, Vectors, now_ms

QUESTIONS = 100
_BEST = 10
_AT_ONCE = 500
_CLOSE = 1e-4
"""Scores this near are equal: stores compute them in other orders."""
_TRIES = 5
"""A store finds a moment a moment after it was stored."""


@dataclass
class Verified:
    """What was compared."""

    files: int = 0
    """Whose hash is that of the manifest."""
    moments: int = 0
    """That must be there: those of the backup that are not gone."""
    missing: int = 0
    differ: int = 0
    """There, as full, and with another vector or other regions."""
    pictures: int = 0
    questions: int = 0
    right: int = 0
    """Questions answered as exact search over the backup would."""

    @property
    def good(self) -> bool:
        """Whether the index is what the backup says. A graph that finds nearly all is good enough."""
        return not (self.missing or self.differ) and self.right >= 0.95 * self.questions


@dataclass
class _Question:
    vector: Vector
    best: list[tuple[float, str]]


async def check_files(place: Place, manifest: Manifest, say: Say = lambda *_: None) -> Verified:
    """Read every file and compare its hash. Broken at the first that is missing or damaged."""
    found = Verified()
    for file in manifest.files:
        data = await place.read(file)
        if file.kind == "moments":
            space = SpaceInfo(file.of, manifest.spaces[file.of])
            found.moments += len(await asyncio.to_thread(moments_unpacked, data, space, file.name))
        elif file.kind == "pictures":
            found.pictures += len(await asyncio.to_thread(pictures_unpacked, data, file.name))
        found.files += 1
        say("files", found.files, len(manifest.files))
    return found


async def verify(
    place: Place,
    target: Target,
    *,
    spaces: Sequence[str] = (),
    say: Say = lambda *_: None,
    clock: Callable[[], int] = now_ms,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Verified:
    """Compare what is there with the backup."""
    manifest = await place.manifest()
    theirs, rules = await rules_of(place, manifest), await asyncio.to_thread(target.life.rules)
    found = Verified()
    total = sum(one.count for one in manifest.files if one.kind == "moments")
    for space in chosen(manifest, spaces):
        store = await target.store(space)
        files = [one for one in manifest.files if one.kind == "moments" and one.of == space.id]
        share = round(QUESTIONS * sum(one.count for one in files) / max(1, total))
        asked = await _questions(place, files, space, max(1, share))
        for file in files:
            moments = moments_unpacked(await place.read(file), space, file.name)
            shown = [one for one in moments if not why_not(one, rules, theirs, clock())]
            _rank(asked, shown)
            await _compare(store, shown, found)
            found.files += 1
            say("moments", found.moments, total)
        await _search(store, asked, rules, found, clock, pause)
    return found


async def _questions(place: Place, files: Sequence[File], space: SpaceInfo, count: int) -> list[_Question]:
    """Questions that are moments of the backup, and a little beside them; the same at every run."""
    chance = random.Random(0)  # noqa: S311 - a sample
    counts = [file.count for file in files]
    chosen_files = sorted(chance.choices(range(len(files)), weights=counts, k=count)) if files else []
    noise = np.random.default_rng(0)
    asked = []
    moments: list[Moment] = []
    read = -1
    for number in chosen_files:
        if number != read:
            moments = moments_unpacked(await place.read(files[number]), space, files[number].name)
            read = number
        aside = noise.normal(size=space.dimension).astype(np.float32)
        vector = chance.choice(moments).vector + 0.2 * aside / np.linalg.norm(aside)
        asked.append(_Question((vector / np.linalg.norm(vector)).astype(np.float32), []))
    return asked


def _rank(asked: Sequence[_Question], moments: Sequence[Moment]) -> None:
    """Have the questions know their nearest moments, by comparing with every row."""
    if not asked or not moments:
        return
    rows: Vectors = np.stack([row for one in moments for row in (one.vector, *(part.vector for part in one.regions))])
    starts = np.cumsum([0, *(1 + len(one.regions) for one in moments[:-1])])
    scores = np.maximum.reduceat(rows @ np.stack([one.vector for one in asked]).T, starts, axis=0)
    for question, of_one in zip(asked, scores.T, strict=True):
        near = np.argsort(-of_one)[:_BEST]
        found = [*question.best, *((float(of_one[number]), moments[number].id) for number in near)]
        question.best = sorted(found, key=lambda one: (-one[0], one[1]))[:_BEST]


async def _compare(store: MomentStore, moments: Sequence[Moment], found: Verified) -> None:
    for first in range(0, len(moments), _AT_ONCE):
        some = moments[first : first + _AT_ONCE]
        there = {one.id: one for one in await store.fetch([one.id for one in some])}
        found.moments += len(some)
        found.missing += sum(one.id not in there for one in some)
        found.differ += sum(_differ(one, there[one.id]) for one in some if one.id in there)


def _differ(backed: Moment, there: Moment) -> bool:
    """Whether the copy is less than the backup has, or as full and another one. A moment that went on may differ."""
    if fullness(there)[1:] > fullness(backed)[1:]:
        return False
    return (
        fullness(there)[1:] < fullness(backed)[1:]
        or not np.allclose(there.vector, backed.vector, atol=1e-5)
        or len(there.regions) != len(backed.regions)
    )


async def _search(
    store: MomentStore,
    asked: Sequence[_Question],
    rules: Rules,
    found: Verified,
    clock: Callable[[], int],
    pause: Callable[[float], Awaitable[None]],
) -> None:
    found.questions += len(asked)
    for tries in range(_TRIES):
        wrong = [one for one in asked if not await _is_right(store, one, rules, clock())]
        if not wrong or tries == _TRIES - 1:
            break
        await pause(1.0)
    found.right += len(asked) - len(wrong)


async def _is_right(store: MomentStore, question: _Question, rules: Rules, now: int) -> bool:
    answer = await store.search(Ask(question.vector, _BEST, without=rules.gone(now)))
    ids = {hit.span.id for hit in answer.hits}
    worst = answer.hits[-1].score if len(answer.hits) == _BEST else -2.0
    return not answer.unsearched and all(one in ids for score, one in question.best if score > worst + _CLOSE)
