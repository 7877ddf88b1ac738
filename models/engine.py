"""Engines, which run a bundle's towers, and the canary that each must pass before it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.buckets import buckets
from models.bundle import Bundle
from models.choices import EngineName, Precision, Provider
from models.preprocess import Pictures, Pixels, PreprocessConfig, fitted
from models.tokens import Ids, TextTokenizer
from proto.errors import Broken, WatchwordError
from proto.types import Vectors

log = logging.getLogger("watchword.models")

_LEAST_COSINE = 0.99
_CONSTANT_ABOVE = 0.9999
"""If the vectors of different pictures have a higher cosine, the engine ignores its input."""


class Engine(Protocol):
    """Both towers of one bundle. Not thread-safe: one thread owns it from opening to closing.

    An engine with a true `towers_apart` also allows texts in a second thread while pictures run. One with a true
    `normalises` takes pixel values instead of normalised pictures.
    """

    name: str
    """The runtime, such as `onnxruntime/CPUExecutionProvider`."""
    best_batch: int
    """Pictures per call beyond which throughput no longer grows."""

    def embed_images(self, pictures: Pictures) -> Vectors:
        """One unit vector per picture. Transient when the engine failed and must be reopened."""

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        """One unit vector per text."""

    def close(self) -> None:
        """Release memory and devices."""


def texts_apart(engine: Engine) -> bool:
    """Whether texts may be embedded in a separate thread."""
    return bool(getattr(engine, "towers_apart", False))


def numbers_of(engine: Engine) -> type[np.float32 | np.uint8]:
    """The number type of this engine's pictures."""
    return np.uint8 if getattr(engine, "normalises", False) else np.float32


def open_engine(
    bundle: Bundle,
    *,
    engine: EngineName = "onnxruntime",
    provider: Provider = "auto",
    precision: Precision = "fp16",
    threads: int = 0,
    max_batch: int = 16,
    cache: Path | None = None,
    device: int = 0,
    compiled: bool = False,
) -> Engine:
    """The named engine with the bundle's towers, after it passed the canary.

    `threads` 0 means one per core; `device` is the GPU's number, unused on a CPU; `compiled` is for torch.
    """
    match engine:
        case "onnxruntime":
            from models.ort import OrtEngine

            return _admitted(
                lambda: OrtEngine(
                    bundle.visual,
                    bundle.textual,
                    threads=threads,
                    provider=provider,
                    device=device,
                    preprocess=bundle.preprocess,
                ),
                bundle,
            )
        case "tensorrt":
            try:
                from models.trt import TrtEngine
            except ImportError as error:
                raise Broken(f"TensorRT is not installed ({error})", todo="pip install 'watchword[gpu]'") from error
            folder = cache or bundle.folder.with_name(f"{bundle.folder.name}.engines")
            return _admitted(
                lambda: TrtEngine(bundle, precision=precision, buckets=buckets(max_batch), cache=folder, device=device),
                bundle,
            )
        case "torch":
            module = _torch(bundle)
            return _admitted(
                lambda: module.TorchEngine(
                    bundle, precision=precision, device=device, threads=threads, compiled=compiled
                ),
                bundle,
            )
        case "auto":
            return _best(
                bundle,
                provider=provider,
                precision=precision,
                threads=threads,
                max_batch=max_batch,
                cache=cache,
                device=device,
                compiled=compiled,
            )
        case _:
            raise Broken(f"there is no engine {engine!r}", todo="use auto, onnxruntime, tensorrt or torch")


def _best(bundle: Bundle, **options: Any) -> Engine:
    """The fastest engine that opens and passes the canary."""
    names: tuple[EngineName, ...] = ("tensorrt", "torch", "onnxruntime")
    reasons = []
    for name in names:
        try:
            if name == "torch" and not _torch(bundle).cuda_devices():
                raise Broken("there is no GPU for it, and on a CPU onnxruntime is the faster", todo="name it")
            chosen = open_engine(bundle, engine=name, **options)
        except WatchwordError as error:
            reasons.append(f"{name}: {error.message}")
        else:
            log.info("the engine is %s%s", chosen.name, f" ({'; '.join(reasons)})" if reasons else "")
            return chosen
    raise Broken(f"no engine runs this bundle ({'; '.join(reasons)})", todo="name one with encoder.engine to see why")


def _torch(bundle: Bundle) -> Any:
    """The module of the torch engine. Broken when the bundle has no torch part or torch is not installed."""
    if bundle.torch is None:
        raise Broken(
            "this bundle has no weights for torch",
            todo="`watchword models export` it with --torch, or use another engine",
        )
    try:
        from models import torch_engine
    except ImportError as error:
        raise Broken(f"torch is not installed ({error})", todo="pip install 'watchword[torch]'") from error
    return torch_engine


def _admitted(opening: Callable[[], Engine], bundle: Bundle) -> Engine:
    opened = opening()
    try:
        check_canary(opened, bundle)
    except BaseException:
        opened.close()
        raise
    return opened


def tokenizer_of(bundle: Bundle) -> TextTokenizer:
    """The tokenizer of the bundle's text tower."""
    return TextTokenizer(bundle.tokenizer, window=bundle.text_window, fixed=bundle.text_fixed)


def check_canary(engine: Engine, bundle: Bundle) -> None:
    """Broken unless the engine reproduces the vectors recorded when the bundle was sealed."""
    canary = bundle.manifest.canary
    pictures = engine.embed_images(canary_pictures(bundle.preprocess, numbers_of(engine)))
    texts = engine.embed_texts(*canary_texts(tokenizer_of(bundle), list(canary.texts)))
    _compare("pictures", pictures, np.array(canary.pictures, np.float32), engine)
    _compare("texts", texts, np.array(list(canary.texts.values()), np.float32), engine)


def canary_pictures(config: PreprocessConfig, numbers: type[np.float32 | np.uint8] = np.float32) -> Pictures:
    """Two pictures, drawn with integers so that they are the same on every machine."""
    height, width = config.size
    y, x = np.mgrid[:height, :width]
    waves: Pixels = np.stack([x * 3 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8)
    rings: Pixels = np.stack([(x - width // 2) ** 2 // 64 % 256, x * y // 97 % 256, y * 255 // height], axis=2).astype(
        np.uint8
    )
    pictures: Pictures = np.empty((2, 3, height, width), numbers)
    for pixels, out in zip((waves, rings), pictures, strict=True):
        fitted(pixels, config, out)
    return pictures


def canary_texts(tokenizer: TextTokenizer, texts: list[str]) -> tuple[Ids, Ids]:
    """Ids and mask of the canary's texts."""
    return tokenizer.padded([tokenizer(text) for text in texts])


def _compare(what: str, found: Vectors, recorded: Vectors, engine: Engine) -> None:
    todo = "another engine or other runtime options may run this bundle; if none does, get the bundle again"
    if found.shape != recorded.shape:
        raise Broken(f"{engine.name} gives {what} the shape {found.shape} instead of {recorded.shape}", todo=todo)
    if not np.isfinite(found).all():
        raise Broken(f"{engine.name} gives {what} vectors that are not numbers", todo=todo)
    if float(found[0] @ found[1]) > _CONSTANT_ABOVE:
        raise Broken(f"{engine.name} gives different {what} the same vector", todo=todo)
    cosine = float(np.sum(found * recorded, axis=1).min())
    if cosine < _LEAST_COSINE:
        raise Broken(f"{engine.name} gives {what} other vectors than were recorded (cosine {cosine:.3f})", todo=todo)
