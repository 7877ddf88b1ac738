"""What every engine keeps, in one suite: ONNX Runtime, TensorRT over a double of its GPU, torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.choices import EngineName
from models.engines.canary import check_canary, tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.engines.ort import OrtEngine
from models.preprocess import Pictures, fitted
from proto.errors import Broken, Transient
from tests.models.gpu import install
from tests.models.small import CONFIGS, export

pytestmark = pytest.mark.long

ENGINES: list[EngineName] = ["onnxruntime", "tensorrt", "torch"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("exports"), CONFIGS["clip"])


@pytest.fixture(params=[*ENGINES, "onnxruntime as on a GPU"])
def engine(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    opened: Engine
    match request.param:
        case "onnxruntime as on a GPU":
            opened = OrtEngine(bundle.visual, bundle.textual, threads=0, fixed=True, preprocess=bundle.preprocess)
            assert opened.abilities.takes_pixels
        case name:
            if name == "tensorrt":
                install(monkeypatch)
            opened = open_engine(bundle, engine=name, max_batch=4, cache=tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Iterator[Engine]:
    opened = open_engine(bundle, threads=1)
    yield opened
    opened.close()


def _pictures(bundle: Bundle, count: int, engine: Engine) -> Pictures:
    """The same pictures for every engine, as it takes them."""
    taken: Pictures = np.empty((count, 3, *bundle.preprocess.size), engine.abilities.numbers)
    for pixels, out in zip(np.random.default_rng(1).integers(0, 256, (count, 40, 60, 3), np.uint8), taken, strict=True):
        fitted(pixels, bundle.preprocess, out)
    return taken


@pytest.mark.parametrize("count", [1, 2, 4, 5, 11])
def test_every_engine_gives_one_unit_vector_a_picture_in_order(
    engine: Engine, reference: Engine, bundle: Bundle, count: int
) -> None:
    vectors = engine.embed_images(_pictures(bundle, count, engine))
    assert vectors.shape == (count, bundle.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, reference.embed_images(_pictures(bundle, count, reference)), atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_every_engine_gives_one_unit_vector_a_text(engine: Engine, reference: Engine, bundle: Bundle) -> None:
    tokenizer = tokenizer_of(bundle)
    ids, mask = tokenizer.padded(
        [tokenizer(text) for text in ("a red truck", "two dogs", "the gate", "night", "a yard")]
    )
    vectors = engine.embed_texts(ids, mask)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, reference.embed_texts(ids, mask), atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_every_engine_passes_the_canary(engine: Engine, bundle: Bundle) -> None:
    check_canary(engine, bundle)


def test_a_call_leaves_nothing_of_the_call_before(engine: Engine, bundle: Bundle) -> None:
    pictures = _pictures(bundle, 7, engine)
    first, second = pictures[:5], pictures[5:]
    alone = engine.embed_images(second)
    kept = alone.copy()
    engine.embed_images(first)
    assert np.array_equal(alone, kept)
    assert np.array_equal(engine.embed_images(second), alone)


def test_every_engine_takes_pictures_that_may_not_be_written_to(
    engine: Engine, reference: Engine, bundle: Bundle
) -> None:
    pictures = _pictures(bundle, 3, engine)[::-1]
    pictures.setflags(write=False)
    expected = reference.embed_images(_pictures(bundle, 3, reference)[::-1])
    assert np.allclose(engine.embed_images(pictures), expected, atol=1e-5)


def test_every_engine_declares_the_numbers_of_its_pictures_and_takes_them(engine: Engine, bundle: Bundle) -> None:
    pictures = _pictures(bundle, 2, engine)
    assert pictures.dtype == (np.uint8 if engine.abilities.takes_pixels else np.float32)
    assert np.isfinite(engine.embed_images(pictures)).all()


def test_an_engine_that_declares_its_towers_apart_takes_texts_while_pictures_run(
    reference: Engine, bundle: Bundle
) -> None:
    assert reference.abilities.texts_apart
    tokenizer = tokenizer_of(bundle)
    text = tokenizer.padded([tokenizer("a red truck")])
    pictures = _pictures(bundle, 4, reference)
    alone, still = reference.embed_texts(*text), reference.embed_images(pictures)
    with ThreadPoolExecutor(1) as other:
        running = [other.submit(reference.embed_images, pictures) for _ in range(20)]
        texts = [reference.embed_texts(*text) for _ in range(20)]
    assert all(np.allclose(found, alone, atol=1e-6) for found in texts)
    assert all(np.allclose(found.result(), still, atol=1e-6) for found in running)


def test_an_engine_without_a_detector_declares_it_and_refuses_to_look(engine: Engine) -> None:
    assert engine.abilities.detects == 0
    with pytest.raises(Broken, match="no detector") as met:
        engine.detect([])
    assert met.value.todo


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_refused_when_its_vectors_are_others_than_were_recorded(
    name: EngineName, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "tensorrt":
        install(monkeypatch)
    canary = bundle.manifest.canary.model_copy(update={"pictures": bundle.manifest.canary.pictures[::-1]})
    turned = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"canary": canary}))
    with pytest.raises(Broken, match="pictures other vectors"):
        open_engine(turned, engine=name, max_batch=4, cache=tmp_path)


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_a_call_that_the_vendor_refuses_is_transient(name: EngineName, bundle: Bundle) -> None:
    opened = open_engine(bundle, engine=name)
    with pytest.raises(Transient, match=f"{name} failed") as met:
        opened.embed_images(np.zeros((1, 3, 8, 8), opened.abilities.numbers))
    opened.close()
    assert met.value.todo
