"""Cameras over RTSP for minutes: pictures a second, restarts, and whether anything grows.

    python -m loadtests.rtsp [--cameras 20] [--minutes 10] [--keep FOLDER]

GStreamer's RTSP server sends composed footage at 640x360, half of the cameras H.264 and half H.265, half with people
and vehicles and half with nothing that moves, over sensor noise. A real camera process watches them at one picture a
second. Exits with 1 when a camera was not live at the end, got fewer pictures than wanted, was connected to more than
once, or when the process grew. Needs Debian's packages, see `tests/tools/rtsp.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import av

from catalog.cameras import CameraRegistry
from catalog.statuses import CameraStatus, Statuses
from evals.yard.compose import pictures
from evals.yard.scenes import FPS, videos
from loadtests.packets import film
from loadtests.rig import parser, run, say, settings_in
from loadtests.samples import Probe, held, told
from proto.types import Camera
from tests.tools.rtsp import PACKAGES, rtsp_cameras
from tests.tools.servers import Server
from watchword.catalogs import new_catalog
from watchword.stack.compose import Stack
from watchword.stack.ports import next_free

PARTS = ("broker", "worker", "camera")
"""A camera process asks the encoder how large its pictures are; nobody looks at the frames."""
CLIP_S = 60.0
EVERY_S = 10.0
WARM_S = 60.0
"""Connecting and learning; what grows afterwards is told."""
_ENCODERS = {
    "h264": {"codec": "libx264", "preset": "superfast", "crf": "28", "bf": "0", "g": "24"},
    "h265": {
        "codec": "libx265",
        "preset": "ultrafast",
        "crf": "30",
        "x265-params": "bframes=0:keyint=24:log-level=none",
    },
}


async def watched(asked: argparse.Namespace, folder: Path) -> int:
    seconds = 60 * asked.minutes
    say("the footage is composed")
    clips = await asyncio.to_thread(footage, folder, seconds + 2 * WARM_S)
    with rtsp_cameras([clips[number % len(clips)] for number in range(asked.cameras)]) as addresses:
        if not addresses:
            sys.exit(f"there is no RTSP server: apt-get install {PACKAGES}")
        values = {"camera.fps": 1, "ops.port": next_free(0)}
        settings = settings_in(folder, values)
        catalog = new_catalog(settings)
        catalog.open()
        CameraRegistry(catalog).add_all(Camera(f"cam-{n:02}", one) for n, one in enumerate(addresses))
        stack, servers = Stack(settings, say), {}
        try:
            for part in stack.parts():
                if part.name in PARTS:
                    servers[part.name] = Server(part, folder / f"{part.name}.log")
                    await servers[part.name].start()
            probe = Probe(servers["camera"].pid)
            say(f"{len(addresses)} cameras are watched for {asked.minutes:g} minutes")
            await asyncio.sleep(WARM_S)
            began_s, before = time.monotonic(), Statuses(catalog).all()
            while time.monotonic() - began_s < seconds:
                probe.look(time.monotonic() - began_s)
                await asyncio.sleep(EVERY_S)
            after = list(Statuses(catalog).all().values())
        finally:
            for server in reversed(servers.values()):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(server.stop(), 10)
                server.end()
            catalog.close()
    return verdict(before, after, probe, asked.cameras)


def footage(folder: Path, seconds: float) -> list[Path]:
    """A quiet and a busy clip in each codec, so long by repeating a minute."""
    place = next(video for video in videos("test") if video.passings)
    busy = replace(place, width=640, height=360, seconds=CLIP_S)
    long = []
    for name, video in (("busy", busy), ("quiet", replace(busy, passings=()))):
        paths = [folder / f"{name}-minute.{codec}.mp4" for codec in _ENCODERS]
        film(pictures(video), paths, list(_ENCODERS.values()), FPS)
        for path in paths:
            long.append(folder / path.name.replace("-minute", ""))
            repeat(path, long[-1], round(seconds / CLIP_S) + 1)
            path.unlink()
    return long


def repeat(path: Path, to: Path, times: int) -> None:
    """The clip again and again, without encoding it anew."""
    with av.open(str(to), "w") as out:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(path)) as clip:
                source = clip.streams.video[0]
                stream = stream or out.add_stream_from_template(source)
                for packet in clip.demux(source):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.dts, packet.pts, packet.stream = packet.dts + offset, packet.pts + offset, stream
                    out.mux(packet)
                offset += source.duration or 0


def verdict(before: dict[str, CameraStatus], after: list[CameraStatus], probe: Probe, cameras: int) -> int:
    """Print what was seen; 1 when something is not as it should be."""
    good = len(after) == cameras
    for one in sorted(after, key=lambda status: status.camera):
        again = one.failures - before[one.camera].failures if one.camera in before else one.failures
        well = one.state == "live" and one.fps_got >= 0.95 * one.fps_wanted and not again and one.lost == 0
        good = good and well
        print(
            f"{one.camera}  {one.codec:<5} {one.state:<8} got {one.fps_got:.2f} of {one.fps_wanted:.2f}/s, "
            f"kept {one.fps_kept:.2f}, decoded {one.decoded_share:.0%} ({one.gate}), failures {again}, lost {one.lost}"
            + ("" if well else "  NOT WELL")
        )
    camera = held("camera", probe.samples)
    print(told([camera]))
    threads = [sample.threads for sample in probe.samples]
    print(f"threads: {threads[0]} at first, {threads[-1]} at the end, at most {max(threads)}")
    return 0 if good and not camera.grows and threads[-1] <= threads[0] + 2 else 1


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--cameras", type=int, default=20)
    arguments.add_argument("--minutes", type=float, default=10)
    sys.exit(run(watched, arguments.parse_args()))
