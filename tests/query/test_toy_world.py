"""The whole machinery on a toy world with known geometry: confidences learned on one part hold on another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from catalog.backgrounds import Background, Backgrounds
from catalog.store import Catalog, sqlite_url
from evals.calibrate import fit
from index.memory import MemoryStore
from index.store import Answer, Ask
from proto.errors import Poison
from proto.types import Moment, SpaceInfo, Vector, Vectors
from query.asking import Question
from query.backgrounds import BackgroundReader
from query.bank import Bank
from query.cache import VectorCache
from query.calibration import Weights
from query.confidence import FEATURES
from query.judging import Judge
from query.search import Searcher
from query.settings import QuerySettings, RedisSettings
from tests.contracts.moments import MINUTE, NOON, moment
from tests.query.fakes import WordEncoder, registry, searcher

pytestmark = pytest.mark.long

TOY = SpaceInfo("70e" * 5 + "0", 96)
CONCEPTS = 240
"""Names of things. The first half is asked for; the rest are the bank's texts."""


def unit(vectors: NDArray[np.floating[Any]]) -> Vectors:
    scaled: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


LIMIT = 40


@dataclass
class World:
    """Cameras that each have a look of their own, moments that hold some concepts, and texts that name them.

    Texts lie in a cone of their own, as in CLIP, and each has a bias: some texts are near to everything.
    """

    rng: np.random.Generator

    def __post_init__(self) -> None:
        size = TOY.dimension
        self.concepts = unit(self.rng.normal(size=(CONCEPTS, size)))
        common = unit(self.rng.normal(size=size))
        self.looks = unit(self.rng.normal(size=(12, size)))
        bias = self.rng.uniform(0.1, 0.5, size=(CONCEPTS, 1))
        self.texts = unit(self.concepts + bias * common + 0.5 * unit(self.rng.normal(size=(CONCEPTS, size))))
        self.common = common
        self.holds: dict[str, frozenset[int]] = {}
        """The concepts that each moment shows, by its id."""

    def moments(self, camera: int, numbers: range, there: Sequence[int]) -> list[Moment]:
        made = []
        for number in numbers:
            shown = frozenset(int(c) for c in self.rng.choice(there, self.rng.integers(0, 3), replace=False))
            strength = self.rng.uniform(0.2, 1.2, size=(len(shown), 1))
            parts = (strength * self.concepts[sorted(shown)]).sum(axis=0)
            noise = 0.6 * unit(self.rng.normal(size=TOY.dimension))
            vector = unit(0.8 * self.looks[camera] + 0.3 * self.common + parts + noise)
            one = moment(f"camera-{camera}", NOON + number * 10 * MINUTE, vector=vector, space=TOY)
            self.holds[one.id] = shown
            made.append(one)
        return made


class ToyEncoder(WordEncoder):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        return [self._world.texts[int(text.split()[1])] for text in texts]


class ToyStore(MemoryStore):
    async def search(self, ask: Ask) -> Answer:
        answer = await super().search(ask)
        hits = [replace(hit, vector=self._moments[hit.span.id].vector) for hit in answer.hits]
        return replace(answer, hits=hits, moments_searched=len(self._moments))


@dataclass
class Asked:
    """The hits of many questions: what was said of each, and whether it was right."""

    features: list[dict[str, float]]
    confidence: list[float]
    right: list[bool]
    unsure: list[bool]
    """By question: whether the answer was "no confident match"."""
    present: list[bool]
    """By question: whether what was asked for is there."""


async def asked(world: World, answers: Searcher, questions: Sequence[int], there: Sequence[int]) -> Asked:
    told = Asked([], [], [], [], [])
    for concept in questions:
        found = await answers.search(Question(text=f"thing {concept}", limit=LIMIT, all_moments=True), timeout_s=10)
        told.unsure.append(found.no_confident_match)
        told.present.append(concept in there)
        for hit in found.hits:
            told.features.append(dict(hit.best.features))
            told.confidence.append(hit.best.confidence)
            told.right.append(concept in world.holds[hit.best.scored.span.id])
    return told


def ece(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """The expected calibration error: how far, over bins, the confidence is from the share that is right."""
    sure, truth = np.array(confidence), np.array(right, float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    off = sum(
        (place == n).mean() * abs(sure[place == n].mean() - truth[place == n].mean())
        for n in range(bins)
        if (place == n).any()
    )
    return float(off)


def surest_of_what_is_absent(told: Asked, weights: Weights) -> float:
    """The threshold under which the answers to all absent questions stay."""
    sure = weights.confidence({name: np.array([one[name] for one in told.features]) for name in FEATURES})
    absent = np.repeat(~np.array(told.present), LIMIT)
    return float(np.clip(sure[absent].max() + 0.01, 0.5, 0.95))


async def service(world: World, folder: Path, there: Sequence[int], calibration: str) -> Searcher:
    """The query service over a new set of moments in which only some concepts occur."""
    store = ToyStore(TOY)
    catalog = Catalog(sqlite_url(folder / "catalog.db"))
    catalog.open()
    backgrounds = Backgrounds(catalog)
    for camera in range(len(world.looks)):
        await store.upsert(world.moments(camera, range(120), there))
        seen = world.moments(camera, range(120, 152), there)
        backgrounds.put(TOY.id, Background(f"camera-{camera}", 0, tuple(one.vector[None] for one in seen)))
    cache, encoder = VectorCache(RedisSettings()), ToyEncoder(world)
    bank = Bank(encoder, cache, TOY, texts=[f"thing {n}" for n in range(CONCEPTS // 2, CONCEPTS)])
    await bank.fill()
    judge = Judge(calibration, bank, BackgroundReader(backgrounds, TOY))
    return searcher(
        store,
        folder,
        encoder=encoder,
        cache=cache,
        judge=judge,
        cameras=registry(folder),
        settings=QuerySettings(explain=True),
    )


@pytest.fixture
def world() -> World:
    return World(np.random.default_rng(11))


async def test_confidences_learned_on_one_part_mean_what_they_say_on_another(world: World, tmp_path: Path) -> None:
    """Other concepts, other moments: of hits shown with 0.9, nine in ten are right."""
    folders = [tmp_path / name for name in ("train", "test")]
    for folder in folders:
        folder.mkdir()
    train_there, test_there = range(30), range(60, 90)
    train = await service(world, folders[0], train_there, "")
    learned = await asked(world, train, range(60), train_there)
    rows = np.array([[one[name] for name in FEATURES] for one in learned.features])
    model = fit(rows, np.array(learned.right, float), FEATURES)
    weights = Weights(FEATURES, tuple(model.weights.tolist()), model.bias)
    threshold = surest_of_what_is_absent(learned, weights)
    calibration = {
        "version": 1,
        "features": list(weights.features),
        "weights": list(weights.weights),
        "bias": weights.bias,
        "threshold": threshold,
        "trained_on": "a toy world",
    }
    test = await service(world, folders[1], test_there, json.dumps(calibration))
    told = await asked(world, test, range(60, 120), test_there)
    assert 0.2 < np.mean(told.right) < 0.8  # else any constant would do
    assert ece(told.confidence, told.right) <= 0.05
    unsure, present = np.array(told.unsure), np.array(told.present)
    assert unsure[~present].mean() >= 0.95
    assert unsure[present].mean() <= 0.05


async def test_the_default_is_cautious(world: World, tmp_path: Path) -> None:
    """Uncalibrated, hits are right at least as often as they are said to be."""
    there = range(30)
    told = await asked(world, await service(world, tmp_path, there, ""), range(60), there)
    sure = np.array(told.confidence) >= 0.5
    assert sure.any()
    assert np.array(told.right)[sure].mean() >= np.array(told.confidence)[sure].mean() - 0.05
    unsure, present = np.array(told.unsure), np.array(told.present)
    assert unsure[~present].mean() >= 0.95
    assert unsure[present].mean() <= 0.1
