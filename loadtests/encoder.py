"""Efficiency of the encoder pipeline: `python -m loadtests.encoder [--bundle FOLDER]`.

The rate from JPEG bytes to vectors over gRPC, with one caller that sends full batches to a worker in its own process,
divided by the rate of the same engine in this process on prepared tensors. Both take turns, so that a busy machine
slows both alike. The goal is 0.90.

Each is reported twice. *By the clock* is what a caller sees. *By processor time* is the work per picture, which other
programs hardly change: on a CPU engine the two agree when nothing else runs on the machine.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import numpy as np

from loadtests.encoder_parts import WorkerProcess, bundle_of, frames, parser, reader, spread, table, worker
from models.bundle import Bundle
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.preprocess import Pictures, Preprocessor
from workers.client import EncoderClient

_TEXT = "a person riding a bicycle"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=9, help="alternations; the median is printed")
    arguments.add_argument("--images", type=int, default=128, help="pictures in one turn")
    chosen = arguments.parse_args()
    bundle = bundle_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(bundle, Path(folder), chosen.rounds, chosen.images))


async def _measure(bundle: Bundle, folder: Path, rounds: int, images: int) -> None:
    jpegs = frames(images, bundle.image_side)
    read = reader(bundle)
    ready = np.stack([read(jpeg) for jpeg in jpegs])
    decoding = [_reading_s(read, jpegs) / images * 1000 for _ in range(3)]
    engine = open_engine(bundle)
    bare, served, bare_cpu, served_cpu, texts = [], [], [], [], []
    async with worker(bundle, folder) as remote, EncoderClient(remote.address, timeout_s=120) as client:
        await client.embed_images(jpegs)
        _bare(engine, ready)
        for _ in range(rounds):
            cpu, spent = await _turn(asyncio.to_thread(_bare, engine, ready), remote)
            bare.append(images / spent)
            bare_cpu.append(cpu / images * 1000)
            cpu, spent = await _turn(client.embed_images(jpegs), remote)
            served.append(images / spent)
            served_cpu.append(cpu / images * 1000)
            _, spent = await _turn(client.embed_texts([_TEXT]), remote)
            texts.append(spent * 1000)
    engine.close()
    clock = statistics.median(one / other for one, other in zip(served, bare, strict=True))
    work = statistics.median(one / other for one, other in zip(bare_cpu, served_cpu, strict=True))
    print(f"{bundle.name}, {engine.name}, {images} JPEGs of {sum(map(len, jpegs)) // images:,} bytes, {rounds} rounds")
    table(
        [
            ("bare engine, images/s", spread(bare)),
            ("JPEG to vector over gRPC, images/s", spread(served)),
            ("efficiency by the clock", f"{clock:8.3f}"),
            ("bare engine, processor ms an image", spread(bare_cpu)),
            ("JPEG to vector over gRPC, processor ms an image", spread(served_cpu)),
            ("efficiency by processor time", f"{work:8.3f}"),
            ("of which decode, scale, normalise, processor ms an image", spread(decoding)),
            ("one text over gRPC, idle worker, ms", spread(texts)),
        ]
    )


async def _turn(work: Awaitable[object], remote: WorkerProcess) -> tuple[float, float]:
    """What `work` takes: processor seconds of this process and the worker, and wall-clock seconds."""
    before, began = _cpu_s(remote), time.perf_counter()
    await work
    return _cpu_s(remote) - before, time.perf_counter() - began


def _cpu_s(remote: WorkerProcess) -> float:
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return mine.ru_utime + mine.ru_stime + remote.cpu_s


def _reading_s(read: Preprocessor, jpegs: list[bytes]) -> float:
    began = time.thread_time()
    for jpeg in jpegs:
        read(jpeg)
    return time.thread_time() - began


def _bare(engine: Engine, ready: Pictures) -> None:
    for first in range(0, len(ready), engine.best_batch):
        engine.embed_images(ready[first : first + engine.best_batch])


if __name__ == "__main__":
    main()
