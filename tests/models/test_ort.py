"""Fixed places for pictures, as on a GPU, in the memory of the CPU, where ONNX Runtime takes them too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.engines.ort import OrtEngine
from proto.errors import Transient
from tests.models.toy import toy_bundle

COUNTS = (5, 1, 64, 7, 70, 8)
"""Whole buckets, parts of one, and more than the largest; larger and smaller ones by turns."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture
def engines(bundle: Bundle) -> Iterator[tuple[OrtEngine, OrtEngine]]:
    towers: tuple[Path, Path] = bundle.visual, bundle.textual
    opened = OrtEngine(*towers, threads=1, fixed=True), OrtEngine(*towers, threads=1)
    yield opened
    for engine in opened:
        engine.close()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)


def test_fixed_places_give_the_vectors_of_the_plain_way(engines: tuple[OrtEngine, OrtEngine]) -> None:
    fixed, plain = engines
    answers = [fixed.embed_images(pictures(count)) for count in COUNTS]

    for count, answer in zip(COUNTS, answers, strict=True):
        assert answer.shape[0] == count
        assert np.allclose(answer, plain.embed_images(pictures(count)), atol=1e-6)
        assert np.linalg.norm(answer, axis=1) == pytest.approx(np.ones(count), abs=1e-5)


def test_pictures_that_are_spread_in_memory_are_taken_too(engines: tuple[OrtEngine, OrtEngine]) -> None:
    fixed, plain = engines
    spread = pictures(8)[::2]

    assert np.allclose(fixed.embed_images(spread), plain.embed_images(spread), atol=1e-6)


def test_what_does_not_fit_is_transient_and_leaves_the_places_as_they_were(
    engines: tuple[OrtEngine, OrtEngine],
) -> None:
    fixed, plain = engines
    with pytest.raises(Transient, match="onnxruntime failed"):
        fixed.embed_images(np.zeros((4, 2, 32, 32), np.float32))

    assert np.allclose(fixed.embed_images(pictures(4)), plain.embed_images(pictures(4)), atol=1e-6)
