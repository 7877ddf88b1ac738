from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.bundle import Bundle
from models.engines.buckets import buckets
from models.engines.canary import canary_pictures, canary_texts, check_canary, tokenizer_of
from models.engines.engine import Abilities, Engine
from models.engines.opening import open_engine
from models.preprocess import Pictures
from models.tokens import Ids
from proto.errors import Broken, Transient
from proto.types import Vectors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def engine(builtin: Bundle) -> Engine:
    return open_engine(builtin, threads=1)


class Bent(Engine):
    """A real engine whose picture vectors are bent on their way out."""

    name = "bent"
    best_batch = 4
    abilities = Abilities()

    def __init__(self, engine: Engine, bend: str) -> None:
        self._engine = engine
        self._bend = bend

    def embed_images(self, pictures: Pictures) -> Vectors:
        vectors = self._engine.embed_images(pictures)
        match self._bend:
            case "constant":
                return np.repeat(vectors[:1], len(vectors), axis=0)
            case "swapped":
                return vectors[::-1]
            case "not numbers":
                return vectors * np.float32(np.nan)
            case _:
                return vectors[:, 1:]

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        return self._engine.embed_texts(ids, mask)

    def close(self) -> None:
        """Nothing to give back."""


@pytest.mark.parametrize(
    ("bend", "sentence"),
    [
        ("constant", "the same vector"),
        ("swapped", "other vectors than were recorded"),
        ("not numbers", "are not numbers"),
        ("short", "the shape"),
    ],
)
def test_an_engine_that_answers_wrongly_does_not_pass_the_canary(
    builtin: Bundle, engine: Engine, bend: str, sentence: str
) -> None:
    with pytest.raises(Broken, match=sentence) as met:
        check_canary(Bent(engine, bend), builtin)

    assert met.value.todo


def test_a_bundle_whose_record_is_of_other_texts_is_not_opened(builtin: Bundle) -> None:
    canary = builtin.manifest.canary
    turned = dict(zip(canary.texts, reversed(canary.texts.values()), strict=True))
    manifest = builtin.manifest.model_copy(update={"canary": canary.model_copy(update={"texts": turned})})

    with pytest.raises(Broken, match="texts other vectors"):
        open_engine(dataclasses.replace(builtin, manifest=manifest), threads=1)


def test_an_unknown_engine_is_named_in_the_error(builtin: Bundle) -> None:
    with pytest.raises(Broken, match="'abacus'"):
        open_engine(builtin, engine="abacus")  # type: ignore[arg-type]  # what a config file could hold


def test_auto_takes_the_best_engine_there_is_and_says_why_not_the_others(
    builtin: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "watchword.models"):
        chosen = open_engine(builtin, engine="auto", threads=1)
    chosen.close()

    assert chosen.name == "onnxruntime/CPUExecutionProvider"
    assert "tensorrt: TensorRT is not installed" in caplog.text


def test_auto_ends_in_an_error_that_names_every_engine_when_none_passes_the_canary(builtin: Bundle) -> None:
    canary = builtin.manifest.canary.model_copy(update={"pictures": builtin.manifest.canary.pictures[::-1]})
    manifest = builtin.manifest.model_copy(update={"canary": canary})

    with pytest.raises(Broken, match=r"tensorrt: .*; onnxruntime: .*other vectors"):
        open_engine(dataclasses.replace(builtin, manifest=manifest), engine="auto", threads=1)


def test_a_provider_that_this_build_lacks_is_broken(builtin: Bundle) -> None:
    with pytest.raises(Broken, match="ROCMExecutionProvider"):
        open_engine(builtin, provider="rocm")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_lanes_give_each_picture_its_own_vector_in_order(builtin: Bundle, engine: Engine, count: int) -> None:
    several = open_engine(builtin, threads=3)
    shades = np.linspace(0.2, 1, 9, dtype=np.float32)[:count, None, None, None]
    pictures = canary_pictures(builtin.preprocess)[:1] * shades

    found, expected = several.embed_images(pictures), engine.embed_images(pictures)
    several.close()

    assert np.allclose(found, expected, atol=1e-4)


def test_batches_are_made_ready_in_powers_of_two_and_at_their_most() -> None:
    assert [buckets(most) for most in (1, 2, 6, 16)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8, 16]]


def test_vectors_have_unit_length_and_the_spaces_dimension(builtin: Bundle, engine: Engine) -> None:
    pictures = engine.embed_images(canary_pictures(builtin.preprocess))
    texts = engine.embed_texts(*canary_texts(tokenizer_of(builtin), ["a truck", "a dog at the gate"]))

    assert pictures.shape == texts.shape == (2, builtin.dimension)
    assert np.linalg.norm([*pictures, *texts], axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_company_in_a_batch_does_not_change_a_vector(builtin: Bundle, engine: Engine) -> None:
    pictures = np.repeat(canary_pictures(builtin.preprocess), 4, axis=0)
    tokenizer = tokenizer_of(builtin)
    texts = ["dog", "a person riding a bicycle along the fence in the rain"]

    alone = [engine.embed_images(pictures[[0]])[0], engine.embed_texts(*canary_texts(tokenizer, texts[:1]))[0]]
    together = [engine.embed_images(pictures)[0], engine.embed_texts(*canary_texts(tokenizer, texts))[0]]

    assert np.sum(np.multiply(alone, together), axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_a_failure_inside_the_vendor_is_transient(engine: Engine) -> None:
    with pytest.raises(Transient, match="onnxruntime failed"):
        engine.embed_images(np.zeros((1, 3, 8, 8), np.float32))
