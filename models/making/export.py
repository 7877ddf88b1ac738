"""Turns an open_clip model into a bundle. Besides models/engines/torch_engine.py the only module that imports torch.

Weights come from safetensors files only, or are drawn at random from a seed, for tests and speed measurements.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import default_bpe
from safetensors.torch import save_file
from torch import nn

from models.bundle import (
    CONFIG,
    PREPROCESS,
    TEXTUAL,
    TOKENIZER,
    TORCH_CONFIG,
    TORCH_TEXT,
    TORCH_WEIGHTS,
    VISUAL,
    Bundle,
    load_bundle,
)
from models.engines import torch_engine
from models.engines.canary import canary_pictures, canary_texts, tokenizer_of
from models.engines.opening import open_engine
from models.making.onnx_rules import check_file
from models.making.sealing import CANARY_TEXTS, new_folder, seal
from models.making.vocabulary import clip_tokenizer, published_tokenizer, window_of
from proto.errors import Broken, Invalid
from proto.types import Vectors

OPSET = 17
LEAST_COSINE = 0.9999
_MOST_BYTES = 2_000_000_000
"""An ONNX file is one protobuf message, which is limited to 2 GiB."""
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npy", ".npz"}
_CONFIG_FILE, _WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
_VISIBLE = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")

Say = Callable[[str], None]
Fetch = Callable[[str, list[str], Path], None]
"""Fetches files of a hub's repository into a folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: its configuration, and its weights or a seed."""

    name: str
    config: Mapping[str, Any]
    """open_clip's `model_cfg`."""
    preprocess: Mapping[str, Any]
    weights: Path | None
    seed: int
    provenance: str


def find_source(model: str, *, weights: str | None, seed: int | None, cache: Path, fetch: Fetch) -> Source:
    """Find a model: one of open_clip's names, `hf-hub:OWNER/NAME`, or a folder with `open_clip_config.json`.

    `weights` is one of open_clip's tags or a safetensors file. Give exactly one of `weights` and `seed`, unless the
    model's folder or repository contains its weights.
    """
    if model.startswith("hf-hub:"):
        repository = model.removeprefix("hf-hub:")
        folder = cache / repository.replace("/", "--")
        fetch(repository, [_CONFIG_FILE] + ([_WEIGHTS_FILE] if weights is None and seed is None else []), folder)
        return _from_folder(folder, repository.split("/")[-1], weights, seed, f"the hub's {repository}")
    if (Path(model) / _CONFIG_FILE).is_file():
        return _from_folder(Path(model), Path(model).resolve().name, weights, seed, "a local folder")
    config = open_clip.get_model_config(model)
    if config is None:
        raise Invalid(
            f"open_clip has no model {model!r}", todo="`python -c 'import open_clip; print(open_clip.list_models())'`"
        )
    if weights is None:
        return Source(
            model, config, {}, None, _needed(seed, model), f"open_clip {open_clip.__version__}, weights at random"
        )
    if Path(weights).exists():
        return Source(
            model, config, {}, _safetensors(Path(weights)), 0, f"open_clip {open_clip.__version__}, a local file"
        )
    return _from_tag(model, config, weights, cache, fetch)


def _from_tag(model: str, config: dict[str, Any], tag: str, cache: Path, fetch: Fetch) -> Source:
    known = open_clip.get_pretrained_cfg(model, tag)
    if not known:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise Invalid(f"{model} has no weights {tag!r}", todo=f"name a safetensors file, or one of: {tags}")
    repository = str(known.get("hf_hub", "")).strip("/")
    if repository.count("/") != 1:
        raise Invalid(
            f"the weights {tag} of {model} are published as a pickle only, which could run a program",
            todo="choose other weights, or convert them to safetensors in a place that may be lost",
        )
    folder = cache / repository.replace("/", "--")
    fetch(repository, [_WEIGHTS_FILE], folder)
    if known.get("quick_gelu"):
        config["quick_gelu"] = True
    return Source(model, config, known, folder / _WEIGHTS_FILE, 0, f"open_clip {open_clip.__version__}, {repository}")


def _from_folder(folder: Path, name: str, weights: str | None, seed: int | None, origin: str) -> Source:
    try:
        described = json.loads((folder / _CONFIG_FILE).read_bytes())
        config = described["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{folder / _CONFIG_FILE} describes no model ({error})", todo="name another folder") from error
    chosen: Path | None = None
    if weights is not None:
        chosen = _safetensors(Path(weights))
    elif seed is None:
        found = sorted(folder.glob("*.safetensors"))
        if len(found) != 1:
            raise Invalid(
                f"{folder} holds {len(found)} safetensors files", todo="name one with --weights, or give --random SEED"
            )
        chosen = found[0]
    return Source(name, config, described.get("preprocess_cfg") or {}, chosen, seed or 0, origin)


def _needed(seed: int | None, model: str) -> int:
    if seed is None:
        raise Invalid(f"{model} has no weights yet", todo="give --weights TAG or FILE.safetensors, or --random SEED")
    return seed


def _safetensors(file: Path) -> Path:
    if file.suffix in _PICKLES:
        raise Invalid(
            f"{file.name} may run a program when it is read",
            todo="convert it to safetensors in a place that may be lost",
        )
    if file.suffix != ".safetensors" or not file.is_file():
        raise Invalid(f"{file} is no safetensors file", todo="name one")
    return file


def build_model(source: Source) -> nn.Module:
    """The torch model, in evaluation mode."""
    preprocess = _preprocessing(source.preprocess)
    return torch_engine.build_model(source.name, source.config, preprocess, weights=source.weights, seed=source.seed)


def _preprocessing(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in _VISIBLE if given.get(key) is not None}


def export_bundle(
    source: Source, target: Path, *, licence: str, cache: Path, fetch: Fetch, say: Say, with_torch: bool = False
) -> Bundle:
    """Write the model as a bundle to `target`, and compare it with the original model.

    `with_torch` also stores the torch engine's files; the bundle's space stays the same.
    """
    say(f"building {source.name}")
    model = build_model(source)
    with new_folder(target) as work:
        (work / "visual").mkdir()
        (work / "textual").mkdir()
        (work / CONFIG).write_text(json.dumps(source.config, indent=2) + "\n")
        described = open_clip.get_model_preprocess_cfg(model)
        (work / PREPROCESS).write_text(json.dumps(_preprocessing(described), indent=2) + "\n")
        _write_tokenizer(source, work / TOKENIZER, cache, fetch)
        if with_torch:
            _write_torch(model, source, work, say)
        _write_towers(model, source, work, say)
        say("comparing it with open_clip, and sealing it")
        provenance = [source.provenance, f"torch {torch.__version__}, ONNX opset {OPSET}"]
        bundle = seal(work, name=target.name, licence=licence, provenance=provenance)
        for tower, cosine in compare(model, bundle).items():
            if not cosine >= LEAST_COSINE:
                raise Broken(
                    f"the {tower} tower answers other than open_clip (cosine {cosine:.5f})", todo="choose another model"
                )
            say(f"the {tower} tower agrees with open_clip (cosine {cosine:.7f})")
        if with_torch:
            say("opening it with torch")
            open_engine(bundle, engine="torch", precision="fp32").close()
    return load_bundle(target)


def compare(model: nn.Module, bundle: Bundle) -> dict[str, float]:
    """The smallest cosine between the bundle's recorded vectors and the model's own, by tower."""
    pictures = torch.from_numpy(canary_pictures(bundle.preprocess))
    ids, _ = canary_texts(tokenizer_of(bundle), list(CANARY_TEXTS))
    canary = bundle.manifest.canary
    with torch.no_grad():
        images = _Visual(model)(pictures).numpy()
        texts = _Textual(model)(torch.from_numpy(ids)).numpy()
    return {
        "image": _least_cosine(images, np.array(canary.pictures, np.float32)),
        "text": _least_cosine(texts, np.array(list(canary.texts.values()), np.float32)),
    }


def _least_cosine(left: Vectors, right: Vectors) -> float:
    return float((left * right).sum(axis=1).min()) if left.shape == right.shape else float("nan")


def _write_tokenizer(source: Source, target: Path, cache: Path, fetch: Fetch) -> None:
    text = source.config["text_cfg"]
    named = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if not named:
        clip_tokenizer(Path(default_bpe()), text).save(str(target))
        return
    folder = Path(named)
    if not folder.is_dir():
        folder = cache / named.replace("/", "--")
        fetch(named, ["tokenizer.json", "tokenizer_config.json"], folder)
    try:
        content = (folder / "tokenizer.json").read_bytes()
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Broken(
            f"{folder} holds no usable tokenizer ({error})", todo="it needs tokenizer.json and tokenizer_config.json"
        ) from error
    published_tokenizer(content, settings, text).save(str(target))


def _write_torch(model: Any, source: Source, work: Path, say: Say) -> None:
    """Write open_clip's files of a local model, and the configuration of its Hugging Face text tower, if any."""
    say("the weights for torch")
    weights = {name: values.clone(memory_format=torch.contiguous_format) for name, values in model.state_dict().items()}
    described = {"model_cfg": source.config, "preprocess_cfg": _preprocessing(source.preprocess)}
    (work / TORCH_WEIGHTS).parent.mkdir()
    save_file(weights, work / TORCH_WEIGHTS)
    (work / TORCH_CONFIG).write_text(json.dumps(described, indent=2) + "\n")
    if source.config["text_cfg"].get("hf_model_name"):
        (work / TORCH_TEXT).parent.mkdir()
        facts = json.loads(model.text.config.to_json_string(use_diff=False))
        facts.pop("_name_or_path", None)  # a path on the exporting machine
        (work / TORCH_TEXT).write_text(json.dumps(facts, indent=2) + "\n")


def _write_towers(model: Any, source: Source, work: Path, say: Say) -> None:
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    height, width = (size, size) if isinstance(size, int) else size
    image_bytes = _bytes_of(model.visual)
    unused = _bytes_of(model.text_decoder) if hasattr(model, "text_decoder") else 0
    text_bytes = _bytes_of(model) - image_bytes - unused
    pictures = torch.zeros(2, 3, height, width)
    ids = torch.ones(2, window_of(source.config["text_cfg"]), dtype=torch.int32)
    for tower, example, name, path, size_bytes in (
        (_Visual(torch_engine.folded(model)), pictures, "image", work / VISUAL, image_bytes),
        (_Textual(model), ids, "text", work / TEXTUAL, text_bytes),
    ):
        if size_bytes > _MOST_BYTES:
            raise Invalid(
                f"the {name} tower has {size_bytes / 1e9:.1f} GB of weights, more than one ONNX file can hold",
                todo="choose a smaller model; a bundle's towers are single files",
            )
        say(f"the {name} tower ({size_bytes / 1e6:.0f} MB)")
        _write_onnx(tower, example, name, path)
        check_file(path)


def _bytes_of(module: nn.Module) -> int:
    return sum(values.numel() * values.element_size() for values in (*module.parameters(), *module.buffers()))


def _write_onnx(tower: nn.Module, example: torch.Tensor, name: str, path: Path) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention has no ONNX form
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The tracing exporter: for these towers its graph is as exact as the newer exporter's. It is ten times
            # faster and needs no further package.
            torch.onnx.export(
                tower.eval(),
                (example,),
                path,
                input_names=[name],
                output_names=["unit_vector"],
                opset_version=OPSET,
                dynamic_axes={name: {0: "batch"}, "unit_vector": {0: "batch"}},
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise Broken(f"torch cannot write the {name} tower as ONNX: {error}", todo="choose another model") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Visual(nn.Module):
    """Pictures to unit vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(image, normalize=True)  # type: ignore[no-any-return]


class _Textual(nn.Module):
    """Token ids to unit vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(text, normalize=True)  # type: ignore[no-any-return]
