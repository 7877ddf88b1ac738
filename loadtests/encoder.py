"""What an embedding costs: `python -m loadtests.encoder`.

Prints, for the built-in bundle on drawn frames: time of an image on one core, time of its decoding, and
what the worker's door, batching and gRPC take from the bare engine. Bare and served runs alternate, so that a busy
machine slows both alike; the median is told.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg

from models.builtin import builtin_bundle
from models.bundle import Bundle, load_bundle
from models.engine import Engine, open_engine
from models.preprocess import Pixels, Preprocessor
from workers.client import EncoderClient
from workers.service import serve_encoder
from workers.settings import EncoderSettings

_SIZES = {"camera frame 462x260": (462, 260), "720p 1280x720": (1280, 720)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="alternations; the median is told")
    parser.add_argument("--images", type=int, default=64, help="pictures in one round of the served run")
    parser.add_argument("--callers", type=int, default=4, help="callers at once in the served run")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "watchword-loadtest")
    chosen = parser.parse_args()

    bundle = load_bundle(builtin_bundle(chosen.cache, print))
    read = Preprocessor(bundle.preprocess, max_bytes=8_000_000, max_pixels=50_000_000)
    _tell_decoding(read, chosen.rounds)
    _tell_one_core(bundle, read, chosen.rounds)
    asyncio.run(_tell_served(bundle, read, chosen.rounds, chosen.images, chosen.callers))


def _tell_decoding(read: Preprocessor, rounds: int) -> None:
    for name, size in _SIZES.items():
        frame = _frame(*size)
        spent = _median_ms(lambda frame=frame: [read(frame) for _ in range(20)], rounds) / 20  # type: ignore[misc]
        print(f"decode, scale and normalise, {name}: {spent:.2f} ms")


def _tell_one_core(bundle: Bundle, read: Preprocessor, rounds: int) -> None:
    engine = open_engine(bundle, threads=1)
    for count in (1, 8):
        pictures = np.stack([read(_frame(seed=seed)) for seed in range(count)])
        spent = _median_ms(lambda pictures=pictures: engine.embed_images(pictures), rounds * 4) / count  # type: ignore[misc]
        print(f"engine on one core, batch {count}: {spent:.1f} ms an image")
    engine.close()


async def _tell_served(bundle: Bundle, read: Preprocessor, rounds: int, images: int, callers: int) -> None:
    frames = [_frame(seed=seed) for seed in range(images)]
    engine = open_engine(bundle)
    server = await serve_encoder(bundle, EncoderSettings(), "127.0.0.1:0")
    bare, served, latencies = [], [], []
    async with EncoderClient(server.address, timeout_s=60) as client:
        await client.embed_images(frames[:8])
        for _ in range(rounds):
            bare.append(images / _spent_s(lambda: _bare(engine, read, frames)))
            began = time.perf_counter()
            await asyncio.gather(*(client.embed_images(frames[first::callers]) for first in range(callers)))
            served.append(images / (time.perf_counter() - began))
            began = time.perf_counter()
            await client.embed_texts(["a person riding a bicycle"])
            latencies.append((time.perf_counter() - began) * 1000)
    await server.stop(1)
    engine.close()
    share = statistics.median(one / other for one, other in zip(served, bare, strict=True))
    print(f"bare (decode, then engine, batches of {engine.best_batch}): {statistics.median(bare):.1f} images/s")
    print(f"served over gRPC to {callers} callers: {statistics.median(served):.1f} images/s, {share:.2f} of bare")
    print(f"one text over gRPC, idle worker: {statistics.median(latencies):.1f} ms")


def _bare(engine: Engine, read: Preprocessor, frames: list[bytes]) -> None:
    for first in range(0, len(frames), engine.best_batch):
        engine.embed_images(np.stack([read(frame) for frame in frames[first : first + engine.best_batch]]))


def _frame(width: int = 462, height: int = 260, seed: int = 0) -> bytes:
    """A drawn picture with about as much detail as a camera's."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    waves = np.stack([np.sin(x / (9 + seed)), np.cos(y / (7 + seed)), np.sin((x + y) / 13)], axis=2) * 100 + 127
    pixels: Pixels = np.clip(waves + noise, 0, 255).astype(np.uint8)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 88)
    return encoded


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    work()
    return statistics.median(_spent_s(work) for _ in range(rounds)) * 1000


def _spent_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
