"""Opens an engine by name; each must pass the canary before it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import Bundle, RecordedObject
from models.choices import EngineName, Precision, Provider
from models.detector import Detector
from models.engines.buckets import buckets
from models.engines.canary import check_canary, check_detector
from models.engines.engine import Detecting, Engine
from proto.errors import Broken, WatchwordError

if TYPE_CHECKING:
    from models.engines.ort import OrtDetector

log = logging.getLogger("watchword.models")


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
    """The named engine with the bundle's towers, and its detector if it has one, after both passed the canary.

    `threads` 0 means one per core; `device` is the GPU's number, unused on a CPU; `compiled` is for torch.
    """
    match engine:
        case "onnxruntime":
            from models.engines.ort import OrtEngine

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
                threads,
            )
        case "tensorrt":
            try:
                from models.engines.trt import TrtEngine
            except ImportError as error:
                raise Broken(f"TensorRT is not installed ({error})", todo="pip install 'watchword[gpu]'") from error
            folder = cache or bundle.folder.with_name(f"{bundle.folder.name}.engines")
            return _admitted(
                lambda: TrtEngine(bundle, precision=precision, buckets=buckets(max_batch), cache=folder, device=device),
                bundle,
                threads,
            )
        case "torch":
            module = _torch(bundle)
            return _admitted(
                lambda: module.TorchEngine(
                    bundle, precision=precision, device=device, threads=threads, compiled=compiled
                ),
                bundle,
                threads,
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


def open_detector(detector: Detector, recorded: list[RecordedObject], *, threads: int) -> OrtDetector:
    """The detector, after it found what was recorded. It runs on the CPU, whatever engine the towers run on."""
    from models.engines.ort import OrtDetector

    finder = OrtDetector(detector, threads=threads)
    try:
        check_detector(detector, finder, recorded)
    except BaseException:
        finder.close()
        raise
    return finder


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
        from models.engines import torch_engine
    except ImportError as error:
        raise Broken(f"torch is not installed ({error})", todo="pip install 'watchword[torch]'") from error
    return torch_engine


def _admitted(opening: Callable[[], Engine], bundle: Bundle, threads: int) -> Engine:
    opened = opening()
    try:
        check_canary(opened, bundle)
        if bundle.detector is not None:
            opened = Detecting(opened, open_detector(bundle.detector, bundle.manifest.canary.objects, threads=threads))
    except BaseException:
        opened.close()
        raise
    return opened
