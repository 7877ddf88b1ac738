"""Two camera processes share 40 cameras, and one is killed: python -m loadtests.hosts [--apart] [--cameras 40].

Real processes on a real broker (the embedded one), made up cameras of which one picture a second is sent. One of the
two processes is ended by SIGKILL. It is told, from the frames in the topic: seconds until the last of its cameras
produces again; frames that came twice, by camera, run and sequence; cameras that two processes watched at once; and
whether the catalog has a gap for each camera that was away. `--apart` (root) gives the other process a name space of
its own, so that it cannot see that the first one is gone, as on another host: then the leases must run out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from broker.settings import KafkaSettings
from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Reason
from catalog.fleet import Fleet
from catalog.store import Catalog
from loadtests.rig import parser, run, say, settings_in
from loadtests.topics import Taken, taken_frames
from proto.types import Camera, now_ms
from tests.tools.servers import Server
from watchword.catalogs import new_catalog
from watchword.settings import Settings
from watchword.stack.compose import Stack
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import next_free

PARTS = ("broker", "worker", "camera", "camera-2")
LONGEST_S = 150.0
"""The test ends after so long, whatever it has seen."""
STEADY_S = 5.0
AFTER_S = 5.0
ELSEWHERE = ("/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Result:
    """What was seen."""

    shares: list[int]
    """How many cameras each process had before."""
    last_s: float
    """Until the last camera of the killed process produced again."""
    median_s: float
    twice: int
    at_once: list[str]
    untold: list[str]
    """Cameras that were away without a gap in the catalog."""


async def fleet(asked: argparse.Namespace, folder: Path) -> int:
    """Run it; exit code 1 when a promise was not kept."""
    settings = settings_in(
        folder,
        {
            "camera.processes": 2,
            "camera.fps": 1,
            "camera.novelty": 0,
            "camera.crops": 0,
            "encoder.threads": 1,
            "ops.port": next_free(0),  # other stacks may be starting
        },
    )
    names = [f"cam-{number:02}" for number in range(asked.cameras)]
    catalog = new_catalog(settings)
    catalog.open()
    CameraRegistry(catalog).add_all(Camera(name, "synthetic:320x192@5") for name in names)
    servers: dict[str, Server] = {}
    try:
        async with asyncio.timeout(LONGEST_S):
            result = await _drill(settings, folder, catalog, servers, names, apart=asked.apart)
    finally:
        for server in reversed(servers.values()):
            if server.alive:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(server.stop(), 10)
            server.end()
        catalog.close()
    print(f"\ncameras of each process before the kill: {result.shares}")
    print(f"until its cameras produced again: median {result.median_s:.1f} s, last {result.last_s:.1f} s")
    print(f"frames that came twice: {result.twice}; watched by two at once: {', '.join(result.at_once) or 'none'}")
    print(f"away without a gap in coverage: {', '.join(result.untold) or 'none'}")
    kept = result.last_s <= 30 and not result.twice and not result.at_once and not result.untold
    return 0 if kept else 1


async def _drill(
    settings: Settings, folder: Path, catalog: Catalog, servers: dict[str, Server], names: list[str], *, apart: bool
) -> Result:
    stack = Stack(settings, say)
    for part in stack.parts():
        if part.name in PARTS:
            one = _elsewhere(part) if apart and part.name == "camera-2" else part
            servers[part.name] = Server(replace(one, deadline_s=LONGEST_S), folder / f"{part.name}.log")
            await servers[part.name].start()
            say(f"{part.name} is up")
    kafka = settings.kafka.model_copy(update={"brokers": stack.addresses().broker})
    look = Fleet(catalog)
    await _until(lambda: _shares(look, names)[1:] != [] and sum(_shares(look, names)) == len(names), "shared")
    await asyncio.sleep(STEADY_S)
    shares = _shares(look, names)
    before = await taken_frames(kafka)
    say(f"{len(before)} frames of {len({one.sent.camera for one in before})} cameras; shares {shares}")
    pid = f"/{servers['camera'].pid}"
    killed = next(member.holder for member in look.seen(now_ms()).members if member.host.endswith(pid))
    lost = {name for name, holder in look.seen(now_ms()).held.items() if holder == killed}
    killed_ms, killed_s = now_ms(), time.monotonic()
    await servers["camera"].kill()
    say(f"the process with {len(lost)} cameras was killed")
    await _until_all_again(kafka, lost, {one.run for one in before}, killed_s)
    await asyncio.sleep(AFTER_S)
    frames = await taken_frames(kafka)
    again = _again(frames, lost, {one.run for one in before})
    waited = sorted((captured_ms - killed_ms) / 1000 for captured_ms in again.values())
    gaps = {gap.camera for gap in Coverage(catalog).gaps(None, killed_ms, None) if gap.reason is Reason.AWAY}
    counted = Counter((one.sent.camera, one.run, one.sent.sequence) for one in frames)
    return Result(
        shares,
        waited[-1] if len(waited) == len(lost) else float("inf"),
        waited[len(waited) // 2],
        sum(count - 1 for count in counted.values()),
        _at_once(frames),
        sorted(lost - gaps),
    )


def _elsewhere(part: Part) -> Part:
    """The part, where it sees no process of this machine."""
    assert part.plan is not None
    plan = part.plan

    def planned() -> Launch:
        launch = plan()
        return replace(launch, argv=(*ELSEWHERE, *launch.argv))

    return replace(part, plan=planned)


def _shares(look: Fleet, names: Iterable[str]) -> list[int]:
    """How many of the cameras each process holds."""
    held = look.seen(now_ms()).held
    return sorted(Counter(held[name] for name in names if name in held).values())


async def _until(true: Callable[[], bool], what: str) -> None:
    while not await asyncio.to_thread(true):  # noqa: ASYNC110 - other processes change the catalog
        await asyncio.sleep(0.5)
    say(what)


def _again(frames: Iterable[Taken], lost: set[str], runs: set[int]) -> dict[str, int]:
    """When each lost camera was first seen in a run that was not there before."""
    found: dict[str, int] = {}
    for one in frames:
        if one.sent.camera in lost and one.run not in runs:
            found[one.sent.camera] = min(one.sent.captured_ms, found.get(one.sent.camera, one.sent.captured_ms))
    return found


async def _until_all_again(kafka: KafkaSettings, lost: set[str], runs: set[int], since_s: float) -> None:
    while time.monotonic() - since_s < 60:
        missing = lost - _again(await taken_frames(kafka), lost, runs).keys()
        if not missing:
            return
        await asyncio.sleep(1)
    say(f"after a minute these do not produce: {', '.join(sorted(missing))}")


def _at_once(frames: Iterable[Taken]) -> list[str]:
    """Cameras of which a run began before the one before it ended."""
    spans: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    for one in frames:
        first, last = spans[one.sent.camera].get(one.run, (one.sent.captured_ms, one.sent.captured_ms))
        at_ms = one.sent.captured_ms
        spans[one.sent.camera][one.run] = (min(first, at_ms), max(last, at_ms))
    return sorted(
        camera
        for camera, runs in spans.items()
        if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(sorted(runs.values())))
    )


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--cameras", type=int, default=40)
    arguments.add_argument("--apart", action="store_true", help="the second process is as on another host (root)")
    sys.exit(run(fleet, arguments.parse_args()))
