"""What recording a camera costs, and how soon a hit plays: python -m loadtests.recordings [--seconds 60] [--plays 40].

Cost: H.264 at 720p and 1080p, 25 pictures a second, a moving picture with noise, from a file; processor time of
decoding alone, of the tap beside it, and of writing, in share of one core. First picture: clips of 1080p through the
query service's gRPC and a small HTTP server into Chromium's MediaSource, from the request to the first picture shown.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from cameras.recorder import Recorder
from cameras.remux import Fragment, Tap
from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.recordings import Recordings
from index.memory import MemoryStore
from proto.types import Camera, Recording, now_ms
from query.client import QueryClient
from query.clips import ClipReader
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import SPACE
from tests.query.fakes import searcher
from tests.tools.chromium import chromium, played

SIZES = {"720p": (1280, 720, 3_000_000), "1080p": (1920, 1080, 6_000_000)}
LIMIT = Recording(30, 50_000_000_000)

PAGE = """<!doctype html><video muted></video><script>
const video = document.querySelector("video"), took = [];
async function play(number) {
  const began = performance.now(), source = new MediaSource();
  const shown = new Promise(done => video.requestVideoFrameCallback(() => done(performance.now() - began)));
  video.src = URL.createObjectURL(source);
  await new Promise(done => source.onsourceopen = done);
  const buffer = source.addSourceBuffer(MIME);
  const reader = (await fetch("/video/" + number)).body.getReader();
  video.play();
  for (let {done, value} = await reader.read(); !done; {done, value} = await reader.read()) {
    buffer.appendBuffer(value);
    await new Promise(done => buffer.onupdateend = done);
  }
  took.push(await shown);
}
(async () => {
  for (let number = 0; number < PLAYS; number++) await play(number);
  fetch("/done", {method: "POST", body: JSON.stringify(took)});
})().catch(error => fetch("/done", {method: "POST", body: JSON.stringify(String(error))}));
</script>"""


def film(path: Path, seconds: int, width: int, height: int, bit_rate: int) -> Path:
    noise = np.random.default_rng(1).integers(0, 24, (height, width + 25 * 8), np.uint8)
    with av.open(str(path), "w", format="mpegts") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = bit_rate, 50
        stream.codec_context.thread_count = 1
        for number in range(25 * seconds):
            shift = number % 25 * 8
            pixels = np.ascontiguousarray(noise[:, shift : shift + width]) + np.uint8(90)
            pixels[height // 3 : height // 2, number * 4 % (width - 200) : number * 4 % (width - 200) + 200] = 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray").reformat(format="yuv420p")):
                out.mux_one(packet)
        for packet in stream.encode():
            out.mux_one(packet)
    return path


def reads(path: Path, tap: Tap | None) -> float:
    """Processor time of this thread for reading and decoding the film, seen by the tap or not."""
    start_ms = now_ms()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        packets: Iterator[Any] = container.demux(stream)
        began_s = time.thread_time()
        if tap is None:
            for packet in packets:
                packet.decode()
            return time.thread_time() - began_s
        with tap.passing(stream, packets) as passed:
            for packet in passed:
                for frame in packet.decode():
                    assert frame.pts is not None and frame.time_base is not None
                    tap.stamped(frame, start_ms + round(float(frame.pts * frame.time_base) * 1000))
        return time.thread_time() - began_s


def cost(folder: Path, name: str, seconds: int) -> None:
    path = film(folder / f"{name}.ts", seconds, *SIZES[name])
    found: list[Fragment] = []
    bare_s = min(reads(path, None) for _ in range(3))
    tap_s = min(reads(path, Tap("gate", lambda: True, found.append)) for _ in range(3)) - bare_s
    began_s = time.thread_time()
    writer = Segments(folder / name, RecordingSettings(keep_free_bytes=0))
    writer.limits = {"gate": LIMIT}
    once = found[: len(found) // 3]
    for fragment in once:
        writer.write(fragment, fragment.end_ms)
    writer.close()
    write_s = time.thread_time() - began_s
    mbit = sum(len(one.data) for one in once) * 8 / seconds / 1e6
    print(
        f"{name}, {mbit:.1f} Mbit/s: decoding {bare_s / seconds:.2%} of a core, "
        f"recording {tap_s / seconds:.3%} + {write_s / seconds:.3%}",
        flush=True,
    )


@asynccontextmanager
async def service(folder: Path, recordings: Path) -> AsyncIterator[str]:
    store = MemoryStore(SPACE)
    reader = ClipReader(Recordings(recordings), 3600)
    server = await serve_query(searcher(store, folder), QuerySettings(), "127.0.0.1:0", reader)
    try:
        yield server.address
    finally:
        await server.stop(0)


async def first_pictures(folder: Path, plays: int) -> None:
    path = film(folder / "played.ts", 60, *SIZES["1080p"])
    recorder = Recorder(folder / "recordings", RecordingSettings(keep_free_bytes=0))
    recorder.follow([Camera("gate", "rtsp://gate", record=LIMIT)])
    recorder.start()
    began_ms = now_ms()
    await asyncio.to_thread(reads, path, Tap("gate", lambda: True, recorder._give))
    await asyncio.to_thread(recorder.close, 30)
    loop = asyncio.get_running_loop()
    async with service(folder, folder / "recordings") as address, QueryClient(address, 30) as client:
        wanted = [began_ms + 2_000 + number * 1_300 % 50_000 for number in range(plays)]
        head = await anext(client.clip(camera="gate", start_ms=wanted[0], end_ms=wanted[0] + 4_000))

        def video(number: str) -> tuple[str, Iterator[bytes]]:
            start_ms = wanted[int(number)]
            parts = client.clip(camera="gate", start_ms=start_ms, end_ms=start_ms + 4_000)

            def pieces() -> Iterator[bytes]:
                while (part := asyncio.run_coroutine_threadsafe(_next(parts), loop).result()) is not None:
                    if part.data:
                        yield part.data

            return head.head.mime, pieces()

        page = PAGE.replace("MIME", repr(head.head.mime)).replace("PLAYS", str(plays))
        took = await asyncio.to_thread(lambda: played(page, video, within_s=300))
    if isinstance(took, str):
        raise SystemExit(f"Chromium: {took}")
    took = sorted(took)
    print(
        f"from the request to the first picture in Chromium, {len(took)} clips of 1080p: "
        f"p50 {statistics.median(took):.0f}, p95 {took[int(0.95 * len(took))]:.0f}, most {took[-1]:.0f} ms",
        flush=True,
    )


async def _next(parts: Any) -> Any:
    return await anext(parts, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--plays", type=int, default=40)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            cost(Path(name), size, wanted.seconds)
        if chromium() is None:
            print("no Chromium here: how soon a clip plays is not measured")
        else:
            asyncio.run(first_pictures(Path(name), wanted.plays))


if __name__ == "__main__":
    main()
