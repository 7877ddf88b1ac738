"""Does every panel show something, and does every cause ring its alarm? A real Prometheus scrapes a running stack.

    python -m loadtests.dashboards [--minutes 5] [--rate 3] [--faults] [--picture FILE] [--keep FOLDER]

Cameras replay the clips and Locust asks questions for some minutes. Then every query of every panel of deploy/grafana
is asked as Grafana would, and a table says how many series each one draws. `--picture` draws the main dashboard. With
`--faults` parts are broken afterwards: a live camera falls silent, records come that are no frames, the disk fills
(where this user may mount a tmpfs), Milvus is stopped, the encoder worker is killed; the times until the alerts fire,
and until they are resolved after the repair began, are printed. The rules are those that are shipped, with their own
patience.

Exits with 1 when a query draws nothing or is refused, or an alert does not fire or does not end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from aiohttp import web

from broker.kafka import FrameProducer
from broker.settings import KafkaSettings
from loadtests.board_picture import Drawn, Line, draw_board
from loadtests.prometheus import DEPLOY, Prometheus, prometheus
from loadtests.rig import Running, parser, run, running, say, settings_in
from proto.errors import Broken
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame
from tests.cameras.rig import transport_stream
from tests.clips import CLIPS
from watchword.catalogs import open_registry

PARTS = ("broker", "milvus", "redis", "worker", "stream", "camera", "query")
RATE = "1m"
LOOK_BACK_S = 90.0
DISK = "4g"
FULL_SHARE = 0.95
LIVE_S, FPS = 1200.0, 5
CHUNK_S = 0.2
FIRES_WITHIN_S, ENDS_WITHIN_S = 420.0, 420.0
REMEMBERS_S = 900.0
"""Counted events are told for so long."""


@dataclass(frozen=True)
class Asked:
    """One query of a panel."""

    board: str
    panel: str
    legend: str
    expr: str


def queries() -> Iterator[Asked]:
    """Every query of every committed dashboard."""
    for file in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", RATE)
                yield Asked(file.stem, panel["title"], target["legendFormat"], expr)


class LiveCamera:
    """An HTTP camera on loopback that can fall silent: its connections stay, and nothing comes."""

    def __init__(self, footage: Path) -> None:
        self._footage = footage.read_bytes()
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes([web.get("/live.ts", self._stream)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/live.ts"
            yield
        finally:
            await runner.cleanup()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await reply.prepare(request)
        size = int(len(self._footage) / LIVE_S * CHUNK_S)
        with contextlib.suppress(ConnectionError):  # the camera process hangs up on a silent camera
            for place in range(0, len(self._footage), size):
                await self.speaks.wait()
                await reply.write(self._footage[place : place + size])
                await asyncio.sleep(CHUNK_S)
        return reply


async def dashboards(asked: argparse.Namespace, folder: Path) -> int:
    more = dict(one.split("=", 1) for one in asked.set)
    footage = await asyncio.to_thread(transport_stream, folder / "live.ts", LIVE_S, fps=FPS)
    camera = LiveCamera(footage)
    async with AsyncExitStack() as closing:
        disk = closing.enter_context(small_disk(folder / "disk")) if asked.faults else None
        settings = settings_in((disk or folder) / "data", {"cache_dir": Path.home() / ".cache" / "watchword", **more})
        await closing.enter_async_context(camera.serving())
        with open_registry(settings) as registry:
            registry.add_missing(Camera(name, str(clip), loop=True) for name, clip in CLIPS.items())
            registry.add(Camera("live", camera.url))
        parts = await closing.enter_async_context(running(settings, folder / "logs", *PARTS))
        targets = {name: parts.addresses.ops[name] for name in parts.servers if name in parts.addresses.ops}
        watcher = await closing.enter_async_context(prometheus(folder / "prometheus", targets))
        await closing.enter_async_context(_asking(parts.addresses.query, asked.rate))
        say(f"everything runs, Locust asks {asked.rate} questions a second; panels in {asked.minutes:g} minutes")
        await asyncio.sleep(asked.minutes * 60)
        wrong = await _panels(watcher)
        if asked.picture:
            await _picture(watcher, asked.minutes * 60, asked.picture)
        if asked.faults:
            kafka = settings.kafka.model_copy(update={"brokers": parts.addresses.broker})
            wrong += await _faults(watcher, parts, camera, kafka, disk)
        wrong += [f"{name} ended by itself" for name in parts.ended]
    print("\n" + ("; ".join(wrong) if wrong else "every query draws something"))
    return 1 if wrong else 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of its own inside the block; None where this user may not mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        say(f"the disk is not filled: no tmpfs can be mounted ({mounted.stderr.decode().strip()})")
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


@asynccontextmanager
async def _asking(address: str, rate: int) -> AsyncIterator[None]:
    """Locust asks inside the block."""
    words = ["--headless", "--only-summary", "--loglevel=ERROR", f"--host={address}"]
    course = ["--course=soak", f"--knee={2 * rate}", "--minutes=600"]
    script = str(Path(__file__).with_name("locustfile.py"))
    locust = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", script, *words, *course, stdout=subprocess.DEVNULL
    )
    try:
        yield
        if locust.returncode is not None:
            raise Broken(f"Locust ended with {locust.returncode}", todo="read what it says above")
    finally:
        if locust.returncode is None:
            locust.kill()
            await locust.wait()


async def _picture(watcher: Prometheus, length_s: float, file: Path) -> None:
    """The main dashboard, drawn from what Prometheus has now."""
    (page,) = (
        page for page in yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text()) if page["name"] == "well"
    )
    end_s, drawn = time.time(), []
    for panel in (panel for row in page["rows"] for panel in row["panels"]):
        lines = []
        for legend, expr in panel["queries"].items():
            for _, values in await watcher.lines(expr.replace("RATE", RATE), end_s, length_s):
                lines.append(Line(legend, *zip(*values, strict=True)))
        number = panel.get("kind") == "number"
        drawn.append(Drawn(panel["title"], panel["unit"], number, panel["width"], panel.get("good_from", 0.0), lines))
    await asyncio.to_thread(draw_board, f"Watchword: {page['title']}", drawn, file)
    say(f"{file}: {file.stat().st_size:,} bytes")


async def _panels(watcher: Prometheus) -> list[str]:
    """Ask every query, print the table; what is wrong."""
    end_s, wrong, total = time.time(), [], 0
    print(f"\n{'dashboard':<10}{'panel':<40}{'line':<26}series")
    for one in queries():
        try:
            found: int | str = await watcher.series(one.expr, end_s, LOOK_BACK_S)
        except Broken as error:
            found = error.message
        total += 1
        print(f"{one.board:<10}{one.panel:<40}{one.legend:<26}{found}")
        if not found or isinstance(found, str):
            wrong.append(f"{one.board}, {one.panel}, {one.legend}: {found or 'nothing'}")
    print(f"{total} queries, {len(wrong)} empty or refused")
    return wrong


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and the alerts that must tell."""

    name: str
    alerts: tuple[str, ...]
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]
    ends_within_s: float = ENDS_WITHIN_S


async def _faults(
    watcher: Prometheus, parts: Running, camera: LiveCamera, kafka: KafkaSettings, disk: Path | None
) -> list[str]:
    async def silent() -> None:
        camera.speaks.clear()

    async def speaks() -> None:
        camera.speaks.set()

    milvus, worker = parts.servers["milvus"], parts.servers["worker"]

    async def stopped() -> None:
        milvus.send(signal.SIGSTOP)

    async def started_again() -> None:
        # Woken after half a minute, Milvus 2.3 has lost the lease of its own parts and serves nothing any more.
        await milvus.kill()
        await milvus.start()

    async def rubbish() -> None:
        async with FrameProducer(kafka) as producer:
            await producer.send(Frame(camera="live", captured_ms=now_ms(), grabbed_ms=now_ms(), jpeg=b"no picture"))

    async def nothing() -> None:
        """What was counted is told until it is old."""

    async def full() -> None:
        assert disk is not None
        usage = shutil.disk_usage(disk)
        size = int(FULL_SHARE * usage.total) - usage.used
        with (disk / "filled").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    async def cleared() -> None:
        assert disk is not None
        (disk / "filled").unlink()

    encoder = ("WatchwordEncoderDown", "WatchwordProcessAway", "WatchwordStreamLate")
    print(f"\n{'fault':<26}{'alert':<28}{'fires after':>12}{'ends after repair':>20}")
    async with asyncio.TaskGroup() as group:
        # These tell nothing of the index and the encoder, so they run beside the others.
        faults = [
            Fault("live camera silent", ("WatchwordCamerasSilent",), silent, speaks),
            Fault("a record that is no frame", ("WatchwordDeadLetters",), rubbish, nothing, REMEMBERS_S + 60),
        ]
        beside = [group.create_task(_tried(watcher, fault)) for fault in faults]
        wrong = await _tried(
            watcher, Fault("Milvus stopped", ("WatchwordIndexAway", "WatchwordStreamLate"), stopped, started_again)
        )
        if disk is not None:  # on a full disk Milvus would not start again
            fault = Fault("disk 95 % full", ("WatchwordDiskFull",), full, cleared)
            beside.append(group.create_task(_tried(watcher, fault)))
        wrong += await _tried(watcher, Fault("encoder worker killed", encoder, worker.kill, worker.start))
    return wrong + [line for task in beside for line in task.result()]


async def _tried(watcher: Prometheus, fault: Fault) -> list[str]:
    """Let it happen, wait for its alerts, repair it, wait for their end. Prints one line an alert; what is wrong."""
    before = await watcher.firing() & set(fault.alerts)
    if before:
        return [f"{', '.join(sorted(before))}: fires before the fault"]
    say(f"now: {fault.name}")
    await fault.begin()
    begun_s = time.monotonic()
    fired = await _times(watcher, fault.alerts, begun_s, FIRES_WITHIN_S, fires=True)
    repair_s = time.monotonic()
    await fault.end()
    ended = await _times(watcher, fault.alerts, repair_s, fault.ends_within_s, fires=False)
    wrong = []
    for alert in fault.alerts:
        told = [f"{times[alert]:.0f} s" if alert in times else "never" for times in (fired, ended)]
        print(f"{fault.name:<26}{alert:<28}{told[0]:>12}{told[1]:>20}", flush=True)
        if "never" in told:
            wrong.append(f"{alert}: fires {told[0]}, ends {told[1]}")
    say(f"{fault.name}: lasted {repair_s - begun_s:.0f} s")
    return wrong


async def _times(
    watcher: Prometheus, alerts: Sequence[str], begun_s: float, within_s: float, *, fires: bool
) -> dict[str, float]:
    """After how many seconds each alert fires, or does so no more; without those that do not within this time."""
    times: dict[str, float] = {}
    while len(times) < len(alerts) and time.monotonic() - begun_s < within_s:
        now = await watcher.firing()
        for alert in alerts:
            if alert not in times and (alert in now) == fires:
                times[alert] = time.monotonic() - begun_s
        await asyncio.sleep(1.0)
    return times


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--rate", type=int, default=3, help="questions a second")
    arguments.add_argument("--picture", type=Path, default=None, help="draw the main dashboard into this PNG")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    arguments.add_argument("--faults", action="store_true")
    sys.exit(run(dashboards, arguments.parse_args()))
