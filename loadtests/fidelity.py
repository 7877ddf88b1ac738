"""Does a bundle give open_clip's vectors, at real size? `python -m loadtests.fidelity [--models NAME ...]`.

Exports each model with random weights (fixed seed; nothing is fetched) and compares it with the original torch model:
both towers on the same inputs, texts token by token, and the whole path of a picture, our preprocessing and engine
against open_clip's transform and model, on JPEGs of many sizes. Goals: towers 0.9999, whole path 0.999.

The JPEGs show frames of the demo's clips, several side by side in larger ones, so that there is detail at every scale,
where scaling methods differ. The cosine between frames of different clips is printed too, because random weights
separate pictures less than trained ones. Needs the extra `torch`.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file

from loadtests.encoder_parts import reader, table
from models.bundle import Bundle, load_bundle
from models.engines.canary import tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.making.export import Source, build_model, export_bundle, find_source
from models.preprocess import Pixels
from proto.types import Vectors
from tests.clips import CLIPS
from tests.models.parts import frames, jpeg
from tests.models.small import write_sentencepiece

MODELS = ("ViT-B-32", "MobileCLIP2-S0", "ViT-B-16-SigLIP2")
SIZES = ((640, 360), (462, 260), (1280, 720), (1920, 1080), (4032, 3024), (1080, 1920), (272, 640))
TEXTS = (
    "a red truck at the gate",
    "A   Red\tTRUCK!!",
    "the café's front door is open & it's raining",
    "🚒 fire engine",
    "ＦＵＬＬ ｗｉｄｔｈ ﬁne “quotes”",
    "&amp;lt; 3.14159",
    "word " * 200,
    "こんにちは 世界 العربية שלום",
)
_SEED = 7
_EVERY = 11
_AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="open_clip's names")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "watchword-loadtest")
    parser.add_argument("--images", type=int, default=6, help="pictures of each size")
    chosen = parser.parse_args()
    clips = [frames(name, every=_EVERY) for name in CLIPS]
    shown = {size: [jpeg(_filled(clips, *size, first)) for first in range(chosen.images)] for size in SIZES}
    for name in chosen.models:
        source = drawn(name, chosen.cache, clips)
        bundle = exported(source, chosen.cache)
        model, engine = build_model(source), open_engine(bundle, engine="onnxruntime")
        fed = f"{bundle.preprocess.interpolation}, {bundle.preprocess.resize_mode}"
        print(f"{name} ({fed}), {chosen.images} pictures of each size")
        table([*_towers(model, engine, bundle, clips), *_texts(source, bundle), *_whole(model, engine, bundle, shown)])
        engine.close()


def drawn(name: str, cache: Path, clips: Sequence[Sequence[Pixels]]) -> Source:
    """The model with random weights, and the preprocessing of its published weights."""
    folder = cache / "fidelity" / name
    source = find_source(name, weights=None, seed=_SEED, cache=folder, fetch=_no_hub)
    text = dict(source.config["text_cfg"])
    if "hf_tokenizer_name" in text:  # its own is on a hub
        text["hf_tokenizer_name"] = str(write_sentencepiece(folder / "words"))
    tags = open_clip.list_pretrained_tags_by_model(name)
    published = open_clip.get_pretrained_cfg(name, tags[-1]) if tags else {}
    source = replace(source, config={**source.config, "text_cfg": text}, preprocess=published)
    weights = folder / "weights.safetensors"
    if not weights.exists():
        print(f"drawing {name}")
        folder.mkdir(parents=True, exist_ok=True)
        model = build_model(source)
        _settle(model, [pixels for clip in clips for pixels in clip])
        save_file({key: values.clone() for key, values in model.state_dict().items()}, weights)
    return replace(source, weights=weights)


def exported(source: Source, cache: Path) -> Bundle:
    """The source's bundle, made once."""
    folder = cache / "fidelity" / source.name
    if not (folder / "bundle").exists():
        export_bundle(source, folder / "bundle", licence="none", cache=folder, fetch=_no_hub, say=print)
    return load_bundle(folder / "bundle")


def _settle(model: Any, shown: Sequence[Pixels]) -> None:
    """Run pictures through the batch norms, so that the vectors depend on the picture."""
    norms = [part for part in model.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    transform = _transform(model)
    with torch.no_grad():
        for first in range(0, len(shown) if norms else 0, _AT_ONCE):
            model.visual(torch.stack([transform(Image.fromarray(each)) for each in shown[first : first + _AT_ONCE]]))
    model.eval()


def _towers(model: Any, engine: Engine, bundle: Bundle, clips: Sequence[Sequence[Pixels]]) -> Iterator[tuple[str, str]]:
    pictures = torch.stack([_transform(model)(Image.fromarray(pixels)) for clip in clips for pixels in clip[:4]])
    tokenizer = tokenizer_of(bundle)
    ids, mask = tokenizer.padded([tokenizer(text) for text in TEXTS])
    with torch.no_grad():
        images = model.encode_image(pictures, normalize=True).numpy()
        texts = model.encode_text(torch.from_numpy(ids), normalize=True).numpy()
    yield "image tower, least cosine", f"{_least(engine.embed_images(pictures.numpy()), images):.6f}"
    yield "text tower, least cosine", f"{_least(engine.embed_texts(ids, mask), texts):.6f}"
    yield "between frames of other clips, cosine", f"{float(images[0] @ images[4]):.6f}"


def _texts(source: Source, bundle: Bundle) -> Iterator[tuple[str, str]]:
    if "hf_tokenizer_name" in source.config["text_cfg"]:
        yield "texts with equal tokens", "its tokenizer is on a hub; tests train one of its kind"
        return
    tokenizer = tokenizer_of(bundle)
    ours, _ = tokenizer.padded([tokenizer(text) for text in TEXTS])
    theirs = SimpleTokenizer(context_length=bundle.text_window)(list(TEXTS)).numpy()
    yield "texts with equal tokens", f"{int((ours == theirs).all(axis=1).sum())} of {len(TEXTS)}"


def _whole(
    model: Any, engine: Engine, bundle: Bundle, shown: Mapping[tuple[int, int], Sequence[bytes]]
) -> Iterator[tuple[str, str]]:
    read, transform = reader(bundle), _transform(model)
    for (width, height), jpegs in shown.items():
        with torch.no_grad():
            inputs = torch.stack([transform(Image.open(io.BytesIO(each))) for each in jpegs])
            theirs = model.encode_image(inputs, normalize=True).numpy()
        ours = engine.embed_images(np.stack([read(each) for each in jpegs]))
        cosines = (ours * theirs).sum(axis=1)
        yield f"JPEG {width}x{height}, cosine", f"{cosines.min():.6f} least, {statistics.median(cosines):.6f} median"


def _filled(clips: Sequence[Sequence[Pixels]], width: int, height: int, first: int) -> Pixels:
    """A picture of this size: a frame scaled down, or smaller frames side by side."""
    clip = clips[first % len(clips)]
    tall, wide = clip[0].shape[:2]
    if tall >= height and wide >= width:
        scale = max(height / tall, width / wide)
        image = Image.fromarray(clip[first]).resize(
            (round(wide * scale), round(tall * scale)), Image.Resampling.LANCZOS
        )
        return np.asarray(image.crop((0, 0, width, height)))
    down, across = -(-height // tall), -(-width // wide)
    rows = [
        np.concatenate([clip[(first + row * across + column) % len(clip)] for column in range(across)], axis=1)
        for row in range(down)
    ]
    return np.concatenate(rows)[:height, :width]


def _transform(model: Any) -> Callable[[Image.Image], torch.Tensor]:
    described = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    found: Callable[[Image.Image], torch.Tensor] = open_clip.transform.image_transform_v2(described, is_train=False)
    return found


def _least(left: Vectors, right: Vectors) -> float:
    return float((left * right).sum(axis=1).min())


def _no_hub(repository: str, *_: object) -> None:
    raise SystemExit(f"{repository} would have to be fetched; choose other --models")


if __name__ == "__main__":
    main()
