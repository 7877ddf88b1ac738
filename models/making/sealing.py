"""Turns a folder of towers into a bundle: records the canary and pins every file."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.bundle import (
    CONFIG,
    DETECTOR,
    MANIFEST,
    NEEDED,
    OPTIONAL,
    PREPROCESS,
    TEXTUAL,
    TOKENIZER,
    VISUAL,
    Bundle,
    Canary,
    Manifest,
    RecordedObject,
    file_digest,
    load_bundle,
    read_detector,
)
from models.engines.canary import canary_pictures, canary_texts, check_canary, recorded_objects
from models.engines.ort import OrtDetector, OrtEngine
from models.making.vocabulary import window_of
from models.preprocess import PreprocessConfig
from models.tokens import TextTokenizer
from proto.errors import Broken, Invalid

CANARY_TEXTS = ("a person riding a bicycle", "a red truck at the gate")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that is renamed to `target` when the block succeeds, and removed when it raises."""
    if target.exists():
        raise Invalid(f"{target} is already there", todo="remove it, or choose another --name")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        work.replace(target)
    except OSError as error:
        raise Broken(f"cannot write {target}: {error.strerror}", todo="is the disk full?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def seal(
    folder: Path,
    *,
    name: str,
    licence: str,
    provenance: Sequence[str],
    sources: Mapping[str, str] | None = None,
) -> Bundle:
    """Write the manifest of the towers in `folder` and return the verified bundle.

    The canary is recorded with ONNX Runtime now, so a caller with a reference must compare afterwards. `sources` are
    the digests of the parts of assembled towers, whose last bits differ between machines.
    """
    if missing := sorted(path for path in NEEDED if not (folder / path).is_file()):
        raise Broken(f"there is no {', '.join(missing)}", todo="get the model from somewhere else")
    text = _text_config(folder)
    tokenizer = TextTokenizer(folder / TOKENIZER, window=window_of(text), fixed=text.get("fixed_length", True))
    engine = OrtEngine(folder / VISUAL, folder / TEXTUAL, threads=0)
    try:
        pictures = engine.embed_images(canary_pictures(preprocess_of(folder)))
        texts = engine.embed_texts(*canary_texts(tokenizer, list(CANARY_TEXTS)))
        if pictures.shape != texts.shape:
            sizes = f"pictures become {pictures.shape[1]} numbers and texts {texts.shape[1]}"
            raise Broken(sizes, todo="these towers do not pair")
        manifest = Manifest(
            name=name,
            dimension=pictures.shape[1],
            licence=licence,
            provenance=list(provenance),
            sources=dict(sources or {}),
            files={path: file_digest(folder / path) for path in sorted(NEEDED | _there(folder))},
            canary=Canary(
                pictures=pictures.tolist(),
                texts=dict(zip(CANARY_TEXTS, texts.tolist(), strict=True)),
                objects=_objects(folder, pictures.shape[1]),
            ),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        bundle = load_bundle(folder)
        check_canary(engine, bundle)  # do not seal a bundle that would refuse to serve
    finally:
        engine.close()
    return bundle


def _there(folder: Path) -> set[str]:
    return {path for path in OPTIONAL if (folder / path).is_file()}


def _objects(folder: Path, dimension: int) -> list[RecordedObject]:
    """What the detector in `folder`, if any, finds in the drawn scene."""
    if not (folder / DETECTOR).is_file():
        return []
    detector = read_detector(folder, dimension)
    finder = OrtDetector(detector, threads=0)
    try:
        found = recorded_objects(detector, finder)
    finally:
        finder.close()
    if not found:
        raise Broken("the detector sees nothing in the drawn scene", todo="is its configuration that of its model?")
    return found


def preprocess_of(folder: Path) -> PreprocessConfig:
    """The preprocessing of the towers in `folder`, sealed or not."""
    try:
        return PreprocessConfig.model_validate_json((folder / PREPROCESS).read_bytes())
    except (OSError, ValidationError) as error:
        raise Broken(f"{PREPROCESS} cannot be used: {error}", todo="get the model from somewhere else") from error


def _text_config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        text: Mapping[str, Any] = config["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Broken(f"{CONFIG} does not say how texts are fed", todo="get the model from somewhere else") from error
    return text
