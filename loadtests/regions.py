"""What it costs to look at parts of pictures: the encoder's processor time a kept frame, with regions and without.

Composed videos of evals/yard are replayed through real parts, as fast as they are worked off: busy scenes in which
people and things pass, and the same places with nobody in them. Each arm sees the same frames, and the arms take turns.

    python -m loadtests.regions [--videos 4] [--rounds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from broker.kafka import ensure_topics
from catalog.cameras import CameraRegistry
from catalog.progress import Progress, Progresses
from evals.yard.compose import write
from evals.yard.scenes import videos
from loadtests.pipeline import House, a_house
from loadtests.rig import metrics, parser, run, running, say
from proto.types import Camera
from watchword.catalogs import open_catalog

ARMS: Mapping[str, Mapping[str, object]] = {
    "whole pictures": {"stream.regions": "false", "camera.crops": 0},
    "with regions": {},
}
QUIET_S = 6.0
"""Nothing more is answered for so long, after the videos ended: everything was looked at."""
_MOST_S = 300.0
_ITEMS = "watchword_encoder_items_total"
_KEPT = "watchword_camera_frames_published_total"


@dataclass(frozen=True)
class Cost:
    """What the encoder did for one arm."""

    frames: float
    items: float
    """Pictures, parts and looks for objects that were answered."""
    cpu_s: float

    @property
    def frame_ms(self) -> float:
        return 1000 * self.cpu_s / max(1.0, self.frames)


def compose(folder: Path, count: int) -> dict[str, list[Path]]:
    """The videos of both kinds."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[Path]] = {"busy": [], "quiet": []}
    for video in videos("train")[:count]:
        for kind, one in (("busy", video), ("quiet", replace(video, passings=()))):
            say(f"composing {video.name}, {kind}")
            made[kind].append(folder / f"{kind}-{video.name}.mp4")
            write(one, made[kind][-1])
    return made


async def cost(house: House, name: str, footage: Sequence[Path], values: Mapping[str, object]) -> Cost:
    """Replay these videos with these settings."""
    settings = house.settings(name, {"stream.catch_up": "all", **values})
    await ensure_topics(settings.kafka)
    with open_catalog(settings) as catalog:
        cameras = [Camera(path.stem, str(path), speed=0.0) for path in footage]
        CameraRegistry(catalog).add_all(cameras)
        before, used_s = await _items(house), _used(house)
        async with running(settings, house.folder / name, "stream", "camera") as parts:
            await _worked_off(house, Progresses(catalog), [camera.name for camera in cameras])
            kept = (await metrics(parts.addresses.ops["camera"])).get(_KEPT, 0.0)
            return Cost(kept, await _items(house) - before, _used(house) - used_s)


async def _worked_off(house: House, progress: Progresses, names: Sequence[str]) -> None:
    async with asyncio.timeout(_MOST_S):
        for name in names:
            while not _ended(progress.get(name)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.5)
        last, since_s = -1.0, 0.0
        while since_s < QUIET_S:
            items = await _items(house)
            last, since_s = items, since_s + 0.5 if items == last else 0.0
            await asyncio.sleep(0.5)


def _ended(at: Progress | None) -> bool:
    return at is not None and at.ended


async def _items(house: House) -> float:
    told = await metrics(house.parts.addresses.ops["worker"])
    return sum(value for name, value in told.items() if name.startswith(_ITEMS))


def _used(house: House) -> float:
    """Processor time of the encoder worker."""
    times = psutil.Process(house.encoder.pid).cpu_times()
    return float(times.user + times.system)


async def measure(asked: argparse.Namespace, folder: Path) -> int:
    """Run it all."""
    footage = await asyncio.to_thread(compose, folder / "videos", asked.videos)
    found: dict[tuple[str, str], list[Cost]] = {}
    async with a_house(folder, apache=False) as house:
        for turn in range(asked.rounds):
            for kind in footage:
                for place, (arm, values) in enumerate(ARMS.items()):
                    one = await cost(house, f"{kind}-{place}-{turn}", footage[kind], values)
                    say(f"{kind}, {arm}: {one.frame_ms:.1f} ms a frame, {one.frames:.0f} frames, {one.items:.0f} items")
                    found.setdefault((kind, arm), []).append(one)
    print(f"\n{'scenes':8}{'arm':18}{'frames':>8}{'items/frame':>13}{'encoder ms/frame':>18}{'ratio':>8}")
    for (kind, arm), costs in found.items():
        whole = statistics.mean(one.frame_ms for one in found[kind, next(iter(ARMS))])
        frame_ms = statistics.mean(one.frame_ms for one in costs)
        items = statistics.mean(one.items / max(1.0, one.frames) for one in costs)
        ratio = frame_ms / whole
        print(f"{kind:8}{arm:18}{costs[0].frames:8.0f}{items:13.2f}{frame_ms:18.1f}{ratio:8.2f}")
    return 0


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--videos", type=int, default=4, help="of each kind")
    arguments.add_argument("--rounds", type=int, default=2)
    sys.exit(run(measure, arguments.parse_args()))
