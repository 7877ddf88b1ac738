"""Does every panel show something, and does every cause ring its alarm? A real Prometheus scrapes a running stack.

    python -m loadtests.dashboards [--minutes 3] [--faults] [--keep FOLDER]

Cameras replay the clips and questions are asked for some minutes. Then every query of every panel of deploy/grafana is
asked as Grafana would, and a table says how many series each one draws. With `--faults` parts are stopped afterwards:
a live camera falls silent, Milvus is stopped, the encoder worker is killed; the times until the alerts fire, and until
they are resolved after the repair began, are printed. The rules are those that are shipped, with their own patience.

Exits with 1 when a query draws nothing or is refused, or an alert does not fire or does not end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from loadtests.prometheus import DEPLOY, Prometheus, prometheus
from loadtests.rig import Running, parser, run, running, say, settings_in
from proto.errors import Broken, WatchwordError
from proto.types import Camera
from query.client import QueryClient
from tests.cameras.rig import transport_stream
from tests.clips import CLIPS
from watchword.catalogs import open_registry

PARTS = ("broker", "milvus", "redis", "worker", "stream", "camera", "query")
RATE = "1m"
LOOK_BACK_S = 90.0
QUESTION_EVERY_S = 0.4
LIVE_S, FPS = 1200.0, 5
CHUNK_S = 0.2
FIRES_WITHIN_S, ENDS_WITHIN_S = 300.0, 300.0
KNOWN = ("a person riding a bicycle", "a rabbit in a meadow", "a man in a car", "a red truck")


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
    settings = settings_in(folder / "data", {"cache_dir": Path.home() / ".cache" / "watchword"})
    footage = await asyncio.to_thread(transport_stream, folder / "live.ts", LIVE_S, fps=FPS)
    camera = LiveCamera(footage)
    async with AsyncExitStack() as closing:
        await closing.enter_async_context(camera.serving())
        with open_registry(settings) as registry:
            registry.add_missing(Camera(name, str(clip), loop=True) for name, clip in CLIPS.items())
            registry.add(Camera("live", camera.url))
        parts = await closing.enter_async_context(running(settings, folder / "logs", *PARTS))
        targets = {name: parts.addresses.ops[name] for name in parts.servers if name in parts.addresses.ops}
        watcher = await closing.enter_async_context(prometheus(folder / "prometheus", targets))
        client = await closing.enter_async_context(QueryClient(parts.addresses.query, settings.query.timeout_s))
        questions = asyncio.create_task(_ask_for_ever(client))
        closing.callback(questions.cancel)
        say(f"everything runs; panels are asked in {asked.minutes:g} minutes")
        await asyncio.sleep(asked.minutes * 60)
        wrong = await _panels(watcher)
        if asked.faults:
            wrong += await _faults(watcher, parts, camera)
        wrong += [f"{name} ended by itself" for name in parts.ended]
    print("\n" + ("; ".join(wrong) if wrong else "every query draws something"))
    return 1 if wrong else 0


async def _ask_for_ever(client: QueryClient) -> None:
    """Questions with known and with new words, pictures of hits, and now and then one that is wrong."""
    number = 0
    while True:
        number += 1
        with contextlib.suppress(WatchwordError):
            words = KNOWN[number % len(KNOWN)] if number % 3 else f"a bicycle near house {number}"
            reply = await client.search(text=words if number % 20 else "", limit=5)
            for hit in reply.hits[:1]:
                await client.thumbnail(hit.moment_id)
        await asyncio.sleep(QUESTION_EVERY_S)


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


async def _faults(watcher: Prometheus, parts: Running, camera: LiveCamera) -> list[str]:
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

    encoder = ("WatchwordEncoderDown", "WatchwordProcessAway", "WatchwordStreamLate")
    print(f"\n{'fault':<26}{'alert':<28}{'fires after':>12}{'ends after repair':>20}")
    async with asyncio.TaskGroup() as group:
        # A camera tells nothing of the index and the encoder, so its fault runs beside the others.
        camera_fault = Fault("live camera silent", ("WatchwordCamerasSilent",), silent, speaks)
        beside = group.create_task(_tried(watcher, camera_fault))
        wrong = await _tried(watcher, Fault("Milvus stopped", ("WatchwordIndexAway",), stopped, started_again))
        wrong += await _tried(watcher, Fault("encoder worker killed", encoder, worker.kill, worker.start))
    return wrong + beside.result()


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
    ended = await _times(watcher, fault.alerts, repair_s, ENDS_WITHIN_S, fires=False)
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
    arguments.add_argument("--minutes", type=float, default=3.0)
    arguments.add_argument("--faults", action="store_true")
    sys.exit(run(dashboards, arguments.parse_args()))
