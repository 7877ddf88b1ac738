"""Our path from JPEG to vector on a CPU, against the usual loop: `python -m loadtests.encoder_naive`.

Usual: for each picture, PIL opens it, open_clip's transform scales it, and the torch model embeds it. Ours: the same
weights, exported as a bundle, with our preprocessing in threads and ONNX Runtime in batches; in fp32, and in int8 if an
int8 bundle is worth making. All take turns on the same JPEGs; torch is tried with one thread and with many.
Goal: 3x at cosine 0.995.

The model has random weights, which take as long as trained ones. Needs the extra `torch`.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from loadtests.encoder_parts import frames, reader, seconds, spread, table
from models.bundle import Bundle, load_bundle
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.making.export import Source, build_model, export_bundle, find_source
from models.making.quantize import quantize_bundle
from proto.types import Vectors

_DECODERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="one of open_clip's")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "watchword-loadtest")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=0, help="short side of the JPEGs; otherwise as cameras send them")
    chosen = parser.parse_args()
    source = find_source(chosen.model, weights=None, seed=7, cache=chosen.cache, fetch=_no_hub)
    bundle = _exported(source, chosen.cache)
    ways = _ways(source, bundle, _in_int8(bundle, chosen.cache))
    _compare(ways, frames(chosen.images, chosen.size or bundle.image_side), chosen.rounds, chosen.model)


def _compare(ways: dict[str, Callable[[list[bytes]], Vectors]], jpegs: list[bytes], rounds: int, model: str) -> None:
    found = {name: way(jpegs) for name, way in ways.items()}
    usual = next(iter(ways))
    clock: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in sorted(ways.items(), reverse=bool(number % 2)):
            cpu = time.process_time()
            clock[name].append(seconds(lambda way=way: way(jpegs)) / len(jpegs) * 1000)  # type: ignore[misc]
            work[name].append((time.process_time() - cpu) / len(jpegs) * 1000)
    print(f"{model}, {len(jpegs)} JPEGs of {sum(map(len, jpegs)) // len(jpegs):,} bytes, {rounds} rounds")
    for name in ways:
        times = [one / other for one, other in zip(clock[usual], clock[name], strict=True)]
        cosines = np.sum(found[name] * found[usual], axis=1)
        table(
            [
                (f"{name}: ms an image", spread(clock[name])),
                (f"{name}: processor ms an image", spread(work[name])),
                (f"{name}: times as fast", spread(times)),
                (f"{name}: cosine, least and median", f"{cosines.min():8.5f} {statistics.median(cosines):8.5f}"),
            ]
        )


def _ways(source: Source, bundle: Bundle, int8: Bundle | None) -> dict[str, Callable[[list[bytes]], Vectors]]:
    model = build_model(source)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), is_train=False
    )
    ways: dict[str, Callable[[list[bytes]], Vectors]] = {
        f"0 open_clip, {count} threads": lambda jpegs, count=count: _usual(model, transform, jpegs, count)  # type: ignore[misc]
        for count in sorted({1, torch.get_num_threads()}, reverse=True)
    }
    for name, each in (("1 ours, fp32", bundle), ("2 ours, int8", int8)):
        if each:
            engine, read = open_engine(each, engine="onnxruntime"), reader(each)
            ways[name] = lambda jpegs, engine=engine, read=read: _ours(engine, read, jpegs)  # type: ignore[misc]
    return ways


def _usual(model: Any, transform: Callable[[Image.Image], torch.Tensor], jpegs: list[bytes], threads: int) -> Vectors:
    torch.set_num_threads(threads)
    with torch.no_grad():
        found = [
            model.encode_image(transform(Image.open(io.BytesIO(jpeg)))[None], normalize=True)[0].numpy()
            for jpeg in jpegs
        ]
    return np.stack(found)


def _ours(engine: Engine, read: Callable[[bytes, Any], object], jpegs: list[bytes]) -> Vectors:
    """Like the worker: the next batch is decoded while one runs."""
    size = engine.best_batch
    batches = [jpegs[first : first + size] for first in range(0, len(jpegs), size)]
    shape = (size, *read.shape)  # type: ignore[attr-defined]
    buffers = [np.empty(shape, np.float32), np.empty(shape, np.float32)]
    found = []
    with ThreadPoolExecutor(_DECODERS) as decoders:

        def decode(number: int) -> list[object]:
            batch = batches[number] if number < len(batches) else []
            return [decoders.submit(read, jpeg, buffers[number % 2][row]) for row, jpeg in enumerate(batch)]

        waiting = decode(0)
        for number, batch in enumerate(batches):
            for each in waiting:
                each.result()  # type: ignore[attr-defined]
            waiting = decode(number + 1)
            found.append(engine.embed_images(buffers[number % 2][: len(batch)]))
    return np.concatenate(found)


def _exported(source: Source, cache: Path) -> Bundle:
    folder = cache / f"{source.name}-random"
    if not folder.exists():
        return export_bundle(source, folder, licence="none", cache=cache, fetch=_no_hub, say=print)
    return load_bundle(folder)


def _in_int8(bundle: Bundle, cache: Path) -> Bundle | None:
    folder = cache / f"{bundle.name}-int8"
    if folder.exists():
        return load_bundle(folder)
    verdict = quantize_bundle(bundle, folder, frames(48, bundle.image_side), threads=0, say=print)
    if verdict.kept is None:
        print(f"no int8 bundle: {verdict.reason}")
    return verdict.kept


def _no_hub(repository: str, *_: object) -> None:
    raise SystemExit(f"{repository} would have to be fetched; choose another --model")


if __name__ == "__main__":
    main()
