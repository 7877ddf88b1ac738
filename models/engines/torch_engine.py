"""The torch engine, and building an open_clip model. Besides models/making/export.py the only module that imports
torch, open_clip and timm.

It fetches and unpickles nothing: the architecture comes from a configuration, the weights from safetensors.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from timm.models import reparameterize_model
from torch import nn

from models.bundle import TORCH_CONFIG, TORCH_TEXT, TORCH_WEIGHTS, Bundle
from models.choices import Precision
from models.engines.engine import Abilities, Engine
from models.preprocess import Pictures, normalising
from models.tokens import Ids
from proto.errors import Broken, Transient, WatchwordError
from proto.types import Vectors

_GPU_BATCH, _CPU_BATCH = 64, 8
_VENDOR_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError)
_NUMBERS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_GET_AGAIN = "export the bundle again, with --torch"
_building = threading.Lock()


def cuda_devices() -> int:
    """How many GPUs torch can use here."""
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


class TorchEngine(Engine):
    """Both towers in torch, on a GPU if there is one, else on the CPU. One thread owns it."""

    abilities = Abilities(takes_pixels=True)

    def __init__(
        self, bundle: Bundle, *, precision: Precision, device: int = 0, threads: int = 0, compiled: bool = False
    ) -> None:
        """`threads` 0 means one per core; `device` is the GPU's number; `compiled` compiles the towers, for minutes.

        The weights are cast to `precision`. On a CPU fp16 becomes fp32: few processors support fp16.
        """
        assert bundle.torch is not None, "open_engine asks first"
        self._device = _device(device)
        on_gpu = self._device.type == "cuda"
        self._numbers = _numbers(precision, on_gpu)
        self.name = f"torch/{self._device}/{str(self._numbers).removeprefix('torch.')}{'/compiled' * compiled}"
        self.best_batch = _GPU_BATCH if on_gpu else _CPU_BATCH
        with _translated(Broken, "cannot be opened", "encoder.engine=onnxruntime runs everywhere"):
            if on_gpu:
                torch.cuda.set_device(self._device)  # for this thread, which owns the engine
            else:
                torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
            model = folded(_saved_model(bundle.torch, bundle.name)).to(self._device, self._numbers)
            factor, less = normalising(bundle.preprocess)
            self._factor, self._less = (torch.from_numpy(values).to(self._device) for values in (factor, less))
        towers: list[Callable[[torch.Tensor], torch.Tensor]] = [model.encode_image, model.encode_text]
        self._visual, self._textual = [torch.compile(tower) if compiled else tower for tower in towers]
        if compiled:
            # torch compiles for the first batch size, then for any size at the second, and separately for 1. If that
            # happened in callers' requests, the engine would count as hung.
            for count in (2, 3, 1):
                self.embed_images(np.zeros((count, 3, *bundle.preprocess.size), np.uint8))
                ids = np.ones((count, bundle.text_window), np.int64)
                self.embed_texts(ids, ids)

    def embed_images(self, pictures: Pictures) -> Vectors:
        def normalised(pixels: torch.Tensor) -> torch.Tensor:
            # In fp32: half precision cannot tell all neighbouring pixel values apart.
            return (pixels.float() * self._factor - self._less).to(self._numbers)

        return self._run(lambda pixels: self._visual(normalised(pixels)), pictures)

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:  # noqa: ARG002 - these towers know their padding by its id
        return self._run(self._textual, ids)

    def close(self) -> None:
        del self._visual, self._textual
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, tower: Callable[[torch.Tensor], torch.Tensor], values: NDArray[Any]) -> Vectors:
        with _translated(Transient, "failed", "the worker opens its engine again; try again"), torch.inference_mode():
            vectors = tower(self._placed(values)).float()  # in half precision the length would not be 1
            unit: Vectors = nn.functional.normalize(vectors, dim=-1).cpu().numpy()
        return unit

    def _placed(self, values: NDArray[Any]) -> torch.Tensor:
        given = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        if self._device.type == "cpu":
            return given
        # Copies from pinned memory run at full speed.
        return given.pin_memory().to(self._device, non_blocking=True)


def build_model(
    name: str, config: Mapping[str, Any], preprocess: Mapping[str, Any], *, weights: Path | None, seed: int = 0
) -> nn.Module:
    """The open_clip model of this configuration, with weights from a safetensors file or at random, in eval mode."""
    with _building, tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        described = {"model_cfg": dict(config), "preprocess_cfg": dict(preprocess)}
        (Path(folder) / Path(TORCH_CONFIG).name).write_text(json.dumps(described))
        if weights is not None:
            (Path(folder) / Path(TORCH_WEIGHTS).name).symlink_to(weights.resolve())
        try:
            model = open_clip.create_model(
                f"local-dir:{folder}",
                pretrained_image=False,
                pretrained_text=False,
                require_pretrained=weights is not None,
            )
        except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
            raise Broken(
                f"open_clip cannot build {name}: {error}", todo="do the weights belong to this model?"
            ) from error
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()  # type: ignore[no-any-return]


def folded(model: Any) -> Any:
    """The model with its training-time branches folded into one, if it has any."""
    if not hasattr(model.visual, "trunk"):
        return model
    lean = copy.copy(model)
    lean._modules = dict(model._modules)
    lean.visual = copy.copy(model.visual)
    lean.visual._modules = dict(model.visual._modules)
    lean.visual.trunk = reparameterize_model(model.visual.trunk)
    return lean


def _saved_model(folder: Path, name: str) -> nn.Module:
    """The model in a bundle's torch part. Broken when open_clip would fetch something from a hub."""
    try:
        described = json.loads((folder / Path(TORCH_CONFIG).name).read_bytes())
        config = described["model_cfg"]
        text, picture_tower = config["text_cfg"], str(config["vision_cfg"].get("timm_model_name") or "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Broken(f"{TORCH_CONFIG} describes no model ({error})", todo=_GET_AGAIN) from error
    if ":" in picture_tower:
        raise Broken(f"the picture tower {picture_tower} is described on a hub only", todo="use another engine")
    if text.get("hf_model_name"):
        tower = folder / Path(TORCH_TEXT).parent.name
        if not (tower / "config.json").is_file():
            raise Broken(f"{TORCH_TEXT} is missing, which describes the text tower", todo=_GET_AGAIN)
        config["text_cfg"] = {**text, "hf_model_name": str(tower)}
    weights = folder / Path(TORCH_WEIGHTS).name
    return build_model(name, config, described.get("preprocess_cfg") or {}, weights=weights)


def _device(number: int) -> torch.device:
    there = cuda_devices()
    if there and number >= there:
        raise Broken(f"there is no GPU {number} here, they end at {there - 1}", todo="name another GPU")
    return torch.device("cuda", number) if there else torch.device("cpu")


def _numbers(precision: Precision, on_gpu: bool) -> torch.dtype:
    if precision not in _NUMBERS:
        raise Broken(f"torch does not compute in {precision}", todo="use bf16, fp16 or fp32, or another engine")
    return torch.float32 if precision == "fp16" and not on_gpu else _NUMBERS[precision]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip, which logs to the root logger directly. Other loggers do not pass that logger's filters."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(nothing)
    try:
        yield
    finally:
        root.removeFilter(nothing)


@contextmanager
def _translated(kind: type[WatchwordError], what: str, todo: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Broken(
            f"the GPU's memory is too small ({error})", todo="lower encoder.max_batch, or use bf16 or fp16"
        ) from error
    except _VENDOR_ERRORS as error:
        raise kind(f"torch {what}: {error}", todo=todo) from error
