"""What rows for regions cost the index: search latency, upsert rate and bytes on disk, on the embedded Milvus.

    python -m loadtests.rows [--moments 20000] [--regions 0,2] [--dimension 512] [--alike 0.6] [--calls 60]

Each arm is a space of its own with the same moments, stored with so many regions each. The searches take turns
among the arms. `--alike` is how close the rows of a moment are: at 1 they are the same vector, and a search meets all
of them together.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient

from index.milvus import MilvusStore
from index.settings import MilvusSettings
from index.store import Ask
from proto.errors import WatchwordError
from proto.types import Box, Moment, Region, SpaceInfo, Vector, moment_id
from tests.tools.servers import Server
from watchword.stack.parts import milvus_part
from watchword.stack.ports import Port

BEGIN_MS = 1_767_225_600_000
DAY_MS = 86_400_000
LOG = "a" * 32
CAMERAS = 20
BATCH = 200
KINDS = ("car", "dog", "person", "truck")
CACHE = Path.home() / ".cache" / "watchword"


@dataclass(frozen=True)
class Arm:
    regions: int
    address: str
    store: MilvusStore


async def main() -> None:
    parser = argparse.ArgumentParser(description="Rows for regions in the index.")
    parser.add_argument("--moments", type=int, default=20_000)
    parser.add_argument("--regions", default="0,2", help="regions of each moment, by arm")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--alike", type=float, default=0.6)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=None, help="where Milvus keeps its data; default: temporary")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        server = Server(milvus_part(Port(), folder / "data", CACHE, print), folder / "log")
        await server.start()
        try:
            await measure(server.address, folder / "data", chosen)
        finally:
            server.end()


async def measure(address: str, data: Path, chosen: argparse.Namespace) -> None:
    arms = []
    print(f"{chosen.moments:,} moments of {CAMERAS} cameras in one day, {chosen.dimension} dimensions")
    for number, regions in enumerate(map(int, chosen.regions.split(","))):
        space = SpaceInfo(f"{number:016x}", chosen.dimension)
        arm = Arm(regions, address, MilvusStore(space, MilvusSettings(endpoints=(address,), timeout_s=60.0)))
        await arm.store.open()
        await fill(arm, data, chosen)
        arms.append(arm)
    await asyncio.sleep(5.0)  # Milvus loads what it just sealed.
    questions = np.random.default_rng(7)
    one, dogs = frozenset({"camera-3"}), frozenset({"dog"})
    asks: dict[str, dict[str, object]] = {
        "10 hits": {"limit": 10},
        "10 hits with vectors": {"limit": 10, "with_vectors": True},
        "10 hits of one camera": {"limit": 10, "cameras": one},
        "10 hits with a dog": {"limit": 10, "objects": dogs},
        "10 hits of one hour": {"limit": 10, "start_ms": BEGIN_MS + 3_600_000, "end_ms": BEGIN_MS + 7_200_000},
        "200 hits": {"limit": 200},
        "1000 hits": {"limit": 1000},
    }
    for what, options in asks.items():
        await show(what, options, arms, questions, chosen.calls if int(str(options["limit"])) < 1000 else 10)
    for arm in arms:
        await arm.store.close()


async def fill(arm: Arm, data: Path, chosen: argparse.Namespace) -> None:
    before, begun, writing = size(data), time.perf_counter(), 0.0
    for batch in batches(arm, chosen):
        started = time.perf_counter()
        failed = await arm.store.upsert(batch)
        writing += time.perf_counter() - started
        if failed:
            raise next(iter(failed.values()))
    segments = await flushed(arm)
    await asyncio.sleep(3.0)
    live = sum(size(path) for path in data.glob("**/insert_log/*/*/*") if path.name in segments)
    stored, grown = live / chosen.moments, (size(data) - before) / chosen.moments
    print(
        f"1 + {arm.regions} rows: {chosen.moments / writing:7,.0f} moments/s stored in batches of {BATCH}, "
        f"{stored:7,.0f} bytes a moment in segments, {grown:7,.0f} with Milvus' log and what it has yet to clean up "
        f"({time.perf_counter() - begun:.0f} s)"
    )


async def flushed(arm: Arm) -> set[str]:
    """Have Milvus write its segments: their ids. Only this measurement does so, so the store has no method for it."""
    segments: set[str] = set()
    milvus = AsyncMilvusClient(arm.address, timeout=60.0, dedicated=True)
    try:
        for name in await milvus.list_collections():
            if arm.store.space.id in name:
                await milvus.flush(name)
                segments |= {str(one.segment_id) for one in await milvus.list_persistent_segments(name)}
    finally:
        await milvus.close()
    return segments


def batches(arm: Arm, chosen: argparse.Namespace) -> Iterator[list[Moment]]:
    numbers = np.random.default_rng(1)
    scenes = numbers.normal(size=(200, chosen.dimension))
    for first in range(0, chosen.moments, BATCH):
        count = min(BATCH, chosen.moments - first)
        wholes = units(scenes[numbers.integers(0, 200, count)] + numbers.normal(size=(count, chosen.dimension)))
        others = numbers.normal(size=(count, 4, chosen.dimension)) / chosen.dimension**0.5
        yield [
            moment(arm, first + n, chosen.moments, wholes[n], chosen.alike, others[n].astype(np.float32))
            for n in range(count)
        ]


def moment(arm: Arm, number: int, of: int, whole: Vector, alike: float, others: NDArray[np.float32]) -> Moment:
    camera, start_ms = f"camera-{number % CAMERAS}", BEGIN_MS + number * DAY_MS // of
    far = (1 - alike**2) ** 0.5
    regions = tuple(
        Region(start_ms + 500, Box(0.1, 0.2, 0.3, 0.9), units(alike * whole + far * other), KINDS[number % 4], 0.8)
        for other in others[: arm.regions]
    )
    return Moment(
        moment_id(camera, start_ms, LOG, 0, number),
        arm.store.space.id,
        camera,
        start_ms,
        start_ms + 1000,
        start_ms + 4000,
        8,
        True,
        LOG,
        0,
        number,
        number,
        objects=((KINDS[number % 4], 1),),
        vector=whole,
        regions=regions,
    )


def units(vectors: NDArray[np.float64] | Vector) -> Vector:
    given: Vector = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return given


async def show(
    what: str, options: dict[str, object], arms: list[Arm], numbers: np.random.Generator, calls: int
) -> None:
    took: dict[int, list[float]] = {arm.regions: [] for arm in arms}
    searched = 0
    scenes = np.random.default_rng(1).normal(size=(200, arms[0].store.space.dimension))
    for call in range(calls):
        asked = units(scenes[call % 200] + 0.7 * numbers.normal(size=scenes.shape[1]))
        for arm in arms:
            begun = time.perf_counter()
            answer = await arm.store.search(Ask(asked, **options))  # type: ignore[arg-type]
            took[arm.regions].append((time.perf_counter() - begun) * 1000)
            searched = answer.moments_searched
    figures = [f"1 + {n}: p50 {statistics.median(t):6.1f} p95 {np.quantile(t, 0.95):6.1f} ms" for n, t in took.items()]
    print(f"{what:<22} {'; '.join(figures)}; about {searched:,} searched")


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except WatchwordError as error:
        sys.exit(str(error))
