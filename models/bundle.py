"""A bundle: an image tower and a text tower in one folder, with a manifest that pins every file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.detector import Detector, DetectorConfig, read_words
from models.preprocess import PreprocessConfig
from models.tokens import COLOURS_FILE
from proto.errors import Broken
from proto.types import SpaceInfo

MANIFEST = "bundle.json"
VISUAL = "visual/model.onnx"
PREPROCESS = "visual/preprocess_cfg.json"
TEXTUAL = "textual/model.onnx"
TOKENIZER = "textual/tokenizer.json"
COLOURS = f"textual/{COLOURS_FILE}"
"""The words of colours, where the towers know them."""
CONFIG = "config.json"
NEEDED = frozenset({VISUAL, PREPROCESS, TEXTUAL, TOKENIZER, CONFIG})

# The same towers for torch: open_clip's own files of a local model, and the configuration of a Hugging Face text tower.
TORCH_CONFIG = "torch/open_clip_config.json"
TORCH_WEIGHTS = "torch/open_clip_model.safetensors"
TORCH_TEXT = "torch/text/config.json"

# What finds objects in pictures: all three files, or none.
DETECTOR = "detector/model.onnx"
DETECTOR_CONFIG = "detector/detector.json"
DETECTOR_WORDS = "detector/words.f32"
DETECTOR_FILES = frozenset({DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS})

CALIBRATION = "calibration.json"
"""How scores become confidence. It changes no vector."""
OPTIONAL = frozenset({TORCH_CONFIG, TORCH_WEIGHTS, TORCH_TEXT, COLOURS, CALIBRATION}) | DETECTOR_FILES

_PIPELINE = "1"
"""Raise it when a change to the code around the models (decoding, scaling, padding, unit length) changes vectors."""
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024
_MOST_CALIBRATION_BYTES = 16 * 1024
_GET_AGAIN = "remove the folder and get the bundle again"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class RecordedObject(_Strict):
    """An object that the detector found when the bundle was sealed."""

    kind: str
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in shares of the picture."""


class Canary(_Strict):
    """What was recorded when the bundle was sealed; every engine must reproduce it."""

    pictures: list[list[float]] = Field(min_length=2)
    """Vectors of the pictures that `models.engines.canary.canary_pictures` draws."""
    texts: dict[str, list[float]] = Field(min_length=2)
    """Vectors of texts."""
    objects: list[RecordedObject] = []
    """The surest objects in the picture that `models.engines.scene.canary_scene` draws; empty without a detector."""


class Manifest(_Strict):
    """`bundle.json`."""

    name: str = Field(min_length=1, max_length=200)
    dimension: int = Field(ge=2, le=65_536)
    licence: str = Field(min_length=1)
    provenance: list[str]
    """Where each part came from, for people."""
    sources: dict[str, str] = {}
    """Digests, by name, of the parts that the towers were assembled from. If given, they replace the towers in the
    space's id, because assembling on another processor gives towers that differ in their last bits."""
    files: dict[str, str]
    """SHA-256 of every file, by its path inside the folder."""
    canary: Canary


class _TextConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    context_length: int = Field(77, ge=2, le=8192)
    fixed_length: bool = True
    """False: the model accepts texts of any length up to the window."""


class _Config(BaseModel):
    """The part of open_clip's `config.json` that describes the towers' input."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text_cfg: _TextConfig = _TextConfig()


class _Calibration(BaseModel):
    """`calibration.json`: confidence = logistic(weights . features + bias)."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    version: Literal[1]
    features: list[str] = Field(min_length=1)
    weights: list[float]
    bias: float
    threshold: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _paired(self) -> _Calibration:
        if len(self.features) != len(self.weights):
            raise ValueError(f"it has {len(self.features)} features and {len(self.weights)} weights")
        return self


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    folder: Path
    manifest: Manifest
    preprocess: PreprocessConfig
    text_window: int
    text_fixed: bool
    detector: Detector | None = None
    calibration: str = ""
    """The JSON of how scores become confidence; empty when the bundle was not calibrated."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def licence(self) -> str:
        return self.manifest.licence

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    @property
    def image_side(self) -> int:
        """Pixels of the model's input, on the short side."""
        return min(self.preprocess.size)

    @property
    def visual(self) -> Path:
        return self.folder / VISUAL

    @property
    def textual(self) -> Path:
        return self.folder / TEXTUAL

    @property
    def tokenizer(self) -> Path:
        return self.folder / TOKENIZER

    @property
    def torch(self) -> Path | None:
        """The folder with the torch engine's files; None when the bundle has none."""
        there = {TORCH_CONFIG, TORCH_WEIGHTS} <= self.manifest.files.keys()
        return (self.folder / TORCH_CONFIG).parent if there else None

    @cached_property
    def space(self) -> SpaceInfo:
        """The space of its vectors: the same for every bundle that gives the same vectors, whatever its name.

        The torch part does not count: it holds the weights that the ONNX towers were exported from.
        """
        towers = {path: self.manifest.files[path] for path in (VISUAL, TEXTUAL)}
        facts = {
            "towers": self.manifest.sources or towers,
            "tokenizer": self.manifest.files[TOKENIZER],
            "preprocess": self.preprocess.model_dump(mode="json"),
            "text": [self.text_window, self.text_fixed],
            "pipeline": _PIPELINE,
            **({"colours": self.manifest.files[COLOURS]} if COLOURS in self.manifest.files else {}),
            **self._detector_facts(),
        }
        words = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        return SpaceInfo(hashlib.blake2b(words, digest_size=8).hexdigest(), self.dimension)

    def _detector_facts(self) -> dict[str, Any]:
        """What determines the vectors of objects. A bundle without a detector has none."""
        if self.detector is None:
            return {}
        files = self.manifest.files
        # The words come from the text tower, so they differ in their last bits where the towers do.
        words = "" if self.manifest.sources else files[DETECTOR_WORDS]
        left_out = {"cost"} if self.detector.config.colours else {"cost", "colours"}
        return {"detector": [files[DETECTOR], self.detector.config.model_dump(mode="json", exclude=left_out), words]}


def load_bundle(folder: Path) -> Bundle:
    """Load and verify the bundle in `folder`: Broken unless it has exactly the files that its manifest pins."""
    manifest = _parsed(Manifest, folder, MANIFEST, most_bytes=_MOST_MANIFEST_BYTES)
    if missing := NEEDED - manifest.files.keys():
        raise Broken(f"the bundle {folder} has no {', '.join(sorted(missing))}", todo=_GET_AGAIN)
    for path, digest in manifest.files.items():
        _check(folder, path, digest)
    present = {found.relative_to(folder).as_posix() for found in folder.rglob("*") if not found.is_dir()}
    if strange := present - manifest.files.keys() - {MANIFEST}:
        # A tower could load such a file as external weights.
        raise Broken(f"the bundle {folder} holds files it does not name: {', '.join(sorted(strange))}", todo=_GET_AGAIN)
    config = _parsed(_Config, folder, CONFIG)
    return Bundle(
        folder=folder,
        manifest=manifest,
        preprocess=_parsed(PreprocessConfig, folder, PREPROCESS),
        text_window=config.text_cfg.context_length,
        text_fixed=config.text_cfg.fixed_length,
        detector=_detector(folder, manifest),
        calibration=_calibration(folder, manifest),
    )


def _detector(folder: Path, manifest: Manifest) -> Detector | None:
    there = DETECTOR_FILES & manifest.files.keys()
    if not there:
        return None
    if missing := DETECTOR_FILES - there:
        raise Broken(f"the detector of the bundle {folder} has no {', '.join(sorted(missing))}", todo=_GET_AGAIN)
    if not manifest.canary.objects:
        raise Broken(f"the bundle {folder} records nothing that its detector finds", todo=_GET_AGAIN)
    return read_detector(folder, manifest.dimension)


def read_detector(folder: Path, dimension: int) -> Detector:
    """The detector in `folder`, sealed or not. Broken when its files cannot be used."""
    config = _parsed(DetectorConfig, folder, DETECTOR_CONFIG)
    return Detector(folder / DETECTOR, config, read_words(folder / DETECTOR_WORDS, len(config.kinds), dimension))


def _calibration(folder: Path, manifest: Manifest) -> str:
    if CALIBRATION not in manifest.files:
        return ""
    _parsed(_Calibration, folder, CALIBRATION, most_bytes=_MOST_CALIBRATION_BYTES)
    return (folder / CALIBRATION).read_text(encoding="utf-8")


def file_digest(path: Path) -> str:
    """The file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(folder: Path, path: str, digest: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or pure.as_posix() != path:
        raise Broken(f"the bundle {folder} names the path {path!r}, which could lie outside it", todo=_GET_AGAIN)
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise Broken(f"{path} of the bundle {folder} is a link that leads out of it", todo=_GET_AGAIN)
    try:
        found = file_digest(file)
    except OSError as error:
        raise Broken(f"cannot read {path} of the bundle {folder}: {error.strerror}", todo=_GET_AGAIN) from error
    if found != digest:
        raise Broken(f"{path} of the bundle {folder} is not the file its manifest names", todo=_GET_AGAIN)


_Model = TypeVar("_Model", bound=BaseModel)


def _parsed(kind: type[_Model], folder: Path, path: str, *, most_bytes: int = _MOST_MANIFEST_BYTES) -> _Model:
    file = folder / path
    try:
        if file.stat().st_size > most_bytes:
            raise Broken(f"{path} of the bundle {folder} is far too large", todo=_GET_AGAIN)
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise Broken(f"{folder} is no bundle: cannot read {path} ({error.strerror})", todo=_GET_AGAIN) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Broken(f"{path} of the bundle {folder} is wrong at {place!r}: {first['msg']}", todo=_GET_AGAIN) from error
