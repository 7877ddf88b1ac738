"""A year in an index, compressed: what retention leaves, memory, latency, and how soon a worker is back.

    python -m loadtests.year [--days 365] [--a-day 2000] [--index milvus|folder] [--loaded 40000000] [--keep FOLDER]

Each day of the year stores its moments and is swept once, with the day's clock, by the real sweeper over a real
catalog. Eight cameras: one keeps 7 days, one 90, the others 30. In a Milvus, `--loaded` bytes of moments may be in
memory (0: all). Every thirtieth day prints what there is, and how long questions about the last day, about everything,
and about one day of three weeks ago take; at the end how long a new process needs until it has recalled the last hour.
Checks that no moment is left that should be gone, nor one gone that should be left. Pictures are not part of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catalog.backgrounds import Backgrounds
from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage
from catalog.leases import Leases
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import objects_of
from catalog.settings import MediaSettings
from catalog.store import Catalog, sqlite_url
from index.filters import Filter
from index.opening import new_removal, new_store
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from life.settings import RetentionSettings
from life.sweeper import Stores, Sweeper
from loadtests.rig import parser, run, say
from proto.life import DEFAULT, Gone
from proto.types import Moment, SpaceInfo, moment_id
from tests.tools.servers import Server
from watchword.stack.parts import milvus_part
from watchword.stack.ports import Port

BEGIN_MS = 1_735_689_600_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
LOG = "a" * 32
CAMERAS = [f"camera-{number}" for number in range(8)]
KEEP_DAYS = dict.fromkeys(CAMERAS, 30) | {"camera-0": 7, "camera-1": 90}
SPACE = SpaceInfo("9" * 16, 384)
EVERY = 30
CALLS = 30


@dataclass
class Clock:
    """The time of the day that is simulated."""

    now_ms: int = BEGIN_MS

    def __call__(self) -> int:
        return self.now_ms


async def year(asked: argparse.Namespace, folder: Path) -> int:
    catalog = Catalog(sqlite_url(folder / "catalog.db"))
    catalog.open()
    server = None
    try:
        if asked.index == "folder":
            address = f"faiss:{folder / 'index'}"
        else:
            cache = Path.home() / ".cache" / "watchword"
            server = Server(milvus_part(Port(), folder / "milvus", cache, say), folder / "milvus.log")
            await server.start()
            address = server.address
        settings = MilvusSettings(endpoints=(address,), timeout_s=120.0, most_loaded_bytes=asked.loaded)
        return await lived(settings, catalog, folder, asked, server.pid if server else 0)
    finally:
        if server:
            server.end()
        catalog.close()


async def lived(settings: MilvusSettings, catalog: Catalog, folder: Path, asked: argparse.Namespace, pid: int) -> int:
    clock, life = Clock(), Life(catalog)
    life.keep(DEFAULT, 30)
    for name, days in KEEP_DAYS.items():
        life.keep(name, days)
    sweeper = swept(settings, catalog, folder, clock)
    store = new_store(SPACE, settings)
    await store.open()
    numbers, good = np.random.default_rng(1), True
    say(f"{asked.days} days of {asked.a_day:,} moments, eight cameras that keep 7, 90 and 30 days")
    print(
        "  day  buckets  moments  swept s  index MB  p50 ms: last day  everything  an old day, and its first question"
    )
    for day in range(1, asked.days + 1):
        for batch in a_day(day - 1, asked.a_day, numbers):
            failed = await store.upsert(batch)
            if failed:
                raise next(iter(failed.values()))
        clock.now_ms = BEGIN_MS + day * DAY_MS
        begun = time.perf_counter()
        await sweeper.round()
        took_s = time.perf_counter() - begun
        if day % EVERY == 0 or day == asked.days:
            gone = life.rules().gone(clock())
            last = await asked_for(store, gone, clock() - DAY_MS, clock())
            everything = await asked_for(store, gone, 0, clock())
            old_ms = clock() - min(21, day) * DAY_MS
            old = await asked_for(store, gone, old_ms, old_ms + DAY_MS)
            index_mb = memory_mb(pid)
            buckets, moments = await held(settings)
            right = asked.a_day // len(CAMERAS) * sum(min(day, days) for days in KEEP_DAYS.values())
            good = good and moments == right
            print(
                f"{day:>5}  {buckets:>7}  {moments:>7,}  {took_s:>7.1f}  {index_mb:>8.0f}  "
                f"{statistics.median(last):>16.1f}  {statistics.median(everything):>10.1f}  "
                f"{statistics.median(old):>10.1f}, {old[0]:.0f}" + ("" if moments == right else f"  WANTED {right:,}"),
                flush=True,
            )
    await store.close()
    await recalled(settings, clock())
    return 0 if good else 1


def swept(settings: MilvusSettings, catalog: Catalog, folder: Path, clock: Clock) -> Sweeper:
    stores = Stores(
        rows=new_removal(settings),
        pictures=Thumbnails(objects_of(MediaSettings(), folder / "thumbnails")),
        gaps=Coverage(catalog),
        backgrounds=Backgrounds(catalog),
        life=Life(catalog),
        leases=Leases(catalog),
        signs=Coverage(catalog),
        recorded=CameraRegistry(catalog),
        longest_ms=settings.longest_moment_s * 1000,
    )
    return Sweeper(stores, RetentionSettings(moments_per_s=1e6), "year", clock=clock)


def a_day(day: int, count: int, numbers: np.random.Generator) -> list[list[Moment]]:
    """The day's moments in batches: as many of each camera, evenly over the day."""
    vectors = numbers.normal(size=(count, SPACE.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    each = count // len(CAMERAS)
    moments = []
    for number in range(each * len(CAMERAS)):
        camera, place = CAMERAS[number % len(CAMERAS)], number // len(CAMERAS)
        start_ms = BEGIN_MS + day * DAY_MS + place * (DAY_MS // each)
        offset = day * count + number
        times = (start_ms, start_ms + 1000, start_ms + 4000)
        name = moment_id(camera, start_ms, LOG, 0, offset)
        moments.append(Moment(name, SPACE.id, camera, *times, 8, True, LOG, 0, offset, offset, vector=vectors[number]))
    return [moments[at : at + 1000] for at in range(0, len(moments), 1000)]


async def asked_for(store: ShardedStore, gone: Gone, start_ms: int, end_ms: int) -> list[float]:
    """How many ms each of some questions about this time took."""
    numbers, took = np.random.default_rng(2), []
    for _ in range(CALLS):
        vector = numbers.normal(size=SPACE.dimension).astype(np.float32)
        begun = time.perf_counter()
        ask = Ask(vector / np.linalg.norm(vector), 10, start_ms=start_ms, end_ms=end_ms, without=gone)
        await store.search(ask)
        took.append(1000 * (time.perf_counter() - begun))
    return took


async def held(settings: MilvusSettings) -> tuple[int, int]:
    """How many buckets there are, and how many moments in them."""
    rows = new_removal(settings)
    try:
        known = (await rows.holdings()).known
        return len(known), sum([await rows.count(one, Filter()) for one in known])
    finally:
        await rows.close()


async def recalled(settings: MilvusSettings, now_ms: int) -> None:
    """How long a new process takes until it knows what the last hour's moments are."""
    begun = time.perf_counter()
    store = new_store(SPACE, settings)
    await store.open()
    opened_s = time.perf_counter() - begun
    found: Sequence[Moment] = await store.between(frozenset(CAMERAS), now_ms - HOUR_MS, now_ms)
    took_s = time.perf_counter() - begun
    await store.close()
    recalled_in = f"the last hour's {len(found)} moments recalled after {took_s:.2f} s"
    say(f"a new process: open after {opened_s:.2f} s, {recalled_in}")


def memory_mb(pid: int) -> float:
    """Memory of the server, or of this process where there is none."""
    lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--days", type=int, default=365)
    arguments.add_argument("--a-day", type=int, default=2000, help="moments, over all cameras")
    arguments.add_argument("--index", choices=("milvus", "folder"), default="milvus")
    arguments.add_argument("--loaded", type=int, default=40_000_000, help="bytes of moments in Milvus' memory; 0: all")
    return run(year, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
