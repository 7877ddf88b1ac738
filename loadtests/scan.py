"""The index in a folder against Milvus: load, memory, disk, latency by filter, and recall for questions in words.

    python -m loadtests.scan [--moments 10000,100000,1000000] [--milvus 100000] [--bundle FOLDER] [--folder FOLDER]

Vectors are made as in a house of cameras: 1,000 cameras in 200 families, six scenes each, 400 topics, over seven days.
Questions are the everyday texts of the project, by the bundle's own text tower where it is there; the vectors of
pictures lie around the mean of a cone that no text is in, as those of real pictures do. Without the bundle the
questions are made: they share a topic with the data and have another mean.
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

from index.opening import new_store
from index.scan.building import build
from index.scan.store import _write
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from models.bundle import load_bundle
from models.engines.canary import canary_texts, tokenizer_of
from models.engines.opening import open_engine
from proto.errors import WatchwordError
from proto.types import Moment, SpaceInfo, Vector, Vectors, moment_id, now_ms
from query.bank import texts_of_the_bank
from tests.tools.servers import Server
from watchword.stack.parts import milvus_part
from watchword.stack.ports import Port

BEGIN_MS = 1_767_225_600_000
DAYS, DAY_MS, HOUR_MS = 7, 86_400_000, 3_600_000
LOG = "a" * 32
CAMERAS, FAMILIES, SCENES, TOPICS = 1_000, 200, 6, 400
BATCH = 1_000
CACHE = Path.home() / ".cache" / "watchword"
LIMIT = 10


@dataclass(frozen=True)
class Data:
    """What is stored."""

    cameras: np.ndarray
    starts: np.ndarray
    vectors: Vectors
    questions: Vectors
    about: str


async def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--moments", default="10000,100000,1000000")
    parser.add_argument("--milvus", type=int, default=100_000, help="so many moments in the embedded Milvus; 0: none")
    built = max((CACHE / "bundles").glob("builtin-*"), key=lambda path: path.stat().st_mtime, default=None)
    parser.add_argument("--bundle", type=Path, default=built, help="whose text tower makes the questions")
    parser.add_argument("--dimension", type=int, default=384, help="without a bundle")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None, help="where the data lies; default: temporary")
    chosen = parser.parse_args()
    questions, about = questions_of(chosen.bundle, chosen.dimension)
    for count in map(int, chosen.moments.split(",")):
        data = made(count, questions, about)
        with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
            await folder_arm(Path(name), data, chosen.calls)
        if count == chosen.milvus:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
                await milvus_arm(Path(name), data, chosen.calls)


def questions_of(bundle: Path | None, dimension: int) -> tuple[Vectors, str]:
    """Vectors of questions in words."""
    if bundle is not None:
        opened, texts = load_bundle(bundle), list(texts_of_the_bank())
        engine, tokenizer = open_engine(opened), tokenizer_of(opened)
        found = [engine.embed_texts(*canary_texts(tokenizer, texts[at : at + 16])) for at in range(0, len(texts), 16)]
        return units(np.concatenate(found)), f"{len(texts)} everyday texts by {bundle.name}"
    numbers = np.random.default_rng(3)
    topics = np.random.default_rng(1).normal(size=(TOPICS, dimension))
    other_mean = 2 * numbers.normal(size=dimension)
    chosen = topics[numbers.integers(0, TOPICS, 200)]
    return units(0.5 * chosen + other_mean + numbers.normal(size=chosen.shape)), "200 made questions"


def made(count: int, questions: Vectors, about: str) -> Data:
    """Rows of cameras that see the same scenes again and again."""
    dimension = questions.shape[1]
    numbers = np.random.default_rng(1)
    topics = numbers.normal(size=(TOPICS, dimension))
    mean = 1.5 * numbers.normal(size=dimension)
    families = numbers.normal(size=(FAMILIES, dimension))
    scenes = mean + families[np.arange(CAMERAS) % FAMILIES][:, None] + numbers.normal(size=(CAMERAS, SCENES, dimension))
    cameras = numbers.integers(0, CAMERAS, count)
    starts = np.sort(BEGIN_MS + numbers.integers(0, DAYS * DAY_MS, count))
    vectors = np.empty((count, dimension), np.float32)
    for first in range(0, count, 10_000):
        some = cameras[first : first + 10_000]
        seen = scenes[some, numbers.integers(0, SCENES, len(some))]
        shown = topics[numbers.integers(0, TOPICS, len(some))]
        vectors[first : first + 10_000] = units(seen + 0.7 * shown + 0.7 * numbers.normal(size=seen.shape))
    return Data(cameras, starts, vectors, questions, about)


def moments(data: Data, space: str) -> Iterator[list[Moment]]:
    for first in range(0, len(data.starts), BATCH):
        yield [one(data, number, space) for number in range(first, min(first + BATCH, len(data.starts)))]


def one(data: Data, number: int, space: str) -> Moment:
    camera, start_ms = f"camera-{data.cameras[number]}", int(data.starts[number])
    name = moment_id(camera, start_ms, LOG, 0, number)
    times = (start_ms, start_ms + 1000, start_ms + 4000)
    return Moment(name, space, camera, *times, 8, True, LOG, 0, number, number, vector=data.vectors[number])


async def folder_arm(root: Path, data: Data, calls: int) -> None:
    print(f"\n{len(data.starts):,} moments x {data.vectors.shape[1]}, {data.about}: a folder")
    space = SpaceInfo("f" * 16, data.vectors.shape[1])
    folder = root / "index"
    before = memory()
    store = new_store(space, MilvusSettings(endpoints=(f"faiss:{folder}",), timeout_s=600.0))
    await store.open()
    await load(store, data)
    questions = folder / space.id / "questions.npy"
    _write(questions, data.questions[::2])
    begun = time.perf_counter()
    buckets = sorted((folder / space.id).glob("*h_*"))
    bases = [await asyncio.to_thread(build, bucket, space, questions, 600.0, now_ms()) for bucket in buckets]
    depths = [base.depth for base in bases if base is not None]
    print(f"codes of {len(buckets)} buckets in {time.perf_counter() - begun:.1f} s, depths {depths}")
    await ask_all(store, data, calls)
    vectors = sum(path.stat().st_size for path in folder.rglob("vectors.f32"))
    codes = sum(path.stat().st_size for path in folder.rglob("codes.faiss"))
    own, mapped = (after - former for after, former in zip(memory(), before, strict=True))
    print(f"disk {mb(size(folder))}, of it vectors {mb(vectors)} and codes {mb(codes)}")
    print(f"memory of this process grew by {mb(own)}, and {mb(mapped)} of files that the kernel may take back")
    await store.close()


async def milvus_arm(root: Path, data: Data, calls: int) -> None:
    print(f"\n{len(data.starts):,} moments x {data.vectors.shape[1]}, {data.about}: the embedded Milvus, FLAT")
    space = SpaceInfo("e" * 16, data.vectors.shape[1])
    server = Server(milvus_part(Port(), root / "data", CACHE, print), root / "log")
    await server.start()
    try:
        store = new_store(space, MilvusSettings(endpoints=(server.address,), timeout_s=120.0))
        await store.open()
        await load(store, data)
        await asyncio.sleep(5.0)  # Milvus loads what it just sealed.
        await ask_all(store, data, calls)
        await store.close()
    finally:
        server.end()


async def load(store: ShardedStore, data: Data) -> None:
    begun = time.perf_counter()
    for batch in moments(data, store.space.id):
        failed = await store.upsert(batch)
        if failed:
            raise next(iter(failed.values()))
    took = time.perf_counter() - begun
    print(f"stored {len(data.starts) / took:,.0f} moments/s in batches of {BATCH}, acknowledged when durable")


async def ask_all(store: ShardedStore, data: Data, calls: int) -> None:
    noon = BEGIN_MS + 3 * DAY_MS + 12 * HOUR_MS
    one_camera, many = frozenset({"camera-7"}), frozenset(f"camera-{n}" for n in range(100))
    filters: dict[str, dict[str, object]] = {
        "everything": {},
        "one camera": {"cameras": one_camera},
        "100 of 1,000 cameras": {"cameras": many},
        "one hour": {"start_ms": noon, "end_ms": noon + HOUR_MS},
        "one day": {"start_ms": noon, "end_ms": noon + DAY_MS},
        "one camera, one day": {"cameras": one_camera, "start_ms": noon, "end_ms": noon + DAY_MS},
    }
    await store.search(Ask(data.questions[0], LIMIT))
    for what, options in filters.items():
        questions = data.questions[1::2]
        found, took, used = [], [], time.process_time()
        for call in range(calls):
            question = questions[call % len(questions)]
            begun = time.perf_counter()
            answer = await store.search(Ask(question, LIMIT, **options))  # type: ignore[arg-type]
            took.append((time.perf_counter() - begun) * 1000)
            found.append((question, [hit.score for hit in answer.hits]))
        used = 1000 * (time.process_time() - used) / calls
        many_took = await crowd(store, questions, options, calls)
        print(
            f"{what:<22} 1 client: {figures(took)}, {used:.1f} ms of processor time here; "
            f"10 clients: {figures(many_took)}; "
            f"recall@{LIMIT} {recall(data, found[:100], options):.4f}"
        )


async def crowd(store: ShardedStore, questions: Vectors, options: dict[str, object], calls: int) -> list[float]:
    """The times of ten clients that ask one after the other."""
    took: list[float] = []

    async def client(number: int) -> None:
        for call in range(calls // 10):
            question = questions[(number + 10 * call) % len(questions)]
            begun = time.perf_counter()
            await store.search(Ask(question, LIMIT, **options))  # type: ignore[arg-type]
            took.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(client(number) for number in range(10)))
    return took


def recall(data: Data, found: list[tuple[Vector, list[float]]], options: dict[str, object]) -> float:
    """The share of the nearest moments that were found, by comparing with all that pass."""
    passes = np.ones(len(data.starts), np.bool_)
    cameras = options.get("cameras")
    if isinstance(cameras, frozenset):
        passes &= np.isin(data.cameras, [int(name.removeprefix("camera-")) for name in cameras])
    if "start_ms" in options:
        begin, end = int(str(options["start_ms"])), int(str(options["end_ms"]))
        passes &= (data.starts + 4000 >= begin) & (data.starts < end)
    places = np.flatnonzero(passes)
    questions = np.stack([question for question, _ in found])
    best = np.full((len(questions), LIMIT), -2.0, np.float32)
    for first in range(0, len(places), 20_000):
        scores = questions @ data.vectors[places[first : first + 20_000]].T
        best = np.sort(np.concatenate([best, scores], axis=1), axis=1)[:, -LIMIT:]
    wanted = min(LIMIT, len(places))
    right = [
        sum(score >= least - 1e-5 for score in scores)
        for (_, scores), least in zip(found, best[:, LIMIT - wanted], strict=True)
    ]
    return float(np.mean(np.minimum(right, wanted)) / wanted) if wanted else 1.0


def figures(took: list[float]) -> str:
    p50, p95, p99 = statistics.median(took), np.quantile(took, 0.95), np.quantile(took, 0.99)
    return f"p50 {p50:6.1f} p95 {p95:6.1f} p99 {p99:6.1f} ms"


def units(vectors: np.ndarray) -> Vectors:
    given: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return given


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory() -> tuple[int, int]:
    """Bytes of this process in memory: its own, and of files that it mapped."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines["RssAnon"].split()[0]) * 1024, int(lines["RssFile"].split()[0]) * 1024


def mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except WatchwordError as error:
        sys.exit(str(error))
