"""Drills in which every process is replaced by one of another version, one at a time, and back again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

from loadtests.topics import Taken
from tests.clips import CLIPS
from tests.faults.cluster import ROLES, Cluster, Host, Parts, Process, check_together, tree_of
from tests.faults.house import ROOT, House, Outcome, kafka_settings
from tests.faults.live import live_cameras
from tests.faults.users import Users
from tests.tools.servers import Server
from watchword.stack.parts import redis_part
from watchword.stack.ports import Port

ORDER = ("worker", "stream", "query", "camera")
"""Servers before those that ask them."""
_FILES, _LIVE = 3, 3


async def upgrade(house: House, *, settle_s: float, commit: str = "HEAD~1", each: int = 2) -> Outcome:
    """Each process of another version is replaced by one of this version, one at a time, and then back."""
    begun = time.monotonic()
    folder = house.folder / f"upgrade-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    old = tree_of(commit, folder / "old")
    check_together(old)
    async with AsyncExitStack() as closing:
        redis = Server(redis_part(Port(), folder / "redis"), folder / "redis.log")
        closing.callback(redis.end)
        await redis.start()
        parts = Parts(kafka_settings(house, folder.name, 8), (house.milvus.address,), redis.address)
        cluster = Cluster(folder / "cluster", parts, [(role, Host()) for role in ROLES for _ in range(each)], old)
        closing.push_async_callback(cluster.end)
        live = frozenset(f"live-{number}" for number in range(_LIVE))
        url = await closing.enter_async_context(live_cameras())
        cluster.watch({name: f"{url}/{name}" for name in sorted(live)}, loop=False)
        cluster.watch({f"file-{number}": str(CLIPS["bikes"]) for number in range(_FILES)}, loop=True)
        await cluster.start()
        await cluster.until_found(live)
        users = Users(cluster.queries, live)
        async with users.asking():
            await asyncio.sleep(settle_s)
            for code, there, order in ((ROOT, "to new", ORDER), (old, "to old", ORDER[::-1])):
                for process in (one for role in order for one in cluster.of(role)):
                    users.phase(f"{process.name} {there}")
                    await process.restart(code)
                    await asyncio.sleep(settle_s)
        await _stopped(cluster.of("camera"))
        taken = await cluster.taken()
        balance, lag, moments = await cluster.balance(taken)
    wrong = broken_runs(taken)
    if each > 1:  # with one of each, nobody answers while it is replaced
        wrong += users.complaints()
    return Outcome(
        balance,
        lag,
        moments,
        None,
        time.monotonic() - begun,
        notes={"restarts": 4 * each * len(ROLES) // 2, **gaps_seen(taken)},
        wrong=tuple(wrong),
        told=str(users),
    )


async def _stopped(processes: Sequence[Process]) -> None:
    for process in processes:
        await process.server.stop()


def broken_runs(taken: Sequence[Taken]) -> list[str]:
    """Recordings of which a frame never reached the broker: their frames are numbered without a hole."""
    wrong = []
    for (camera, run), frames in _by_run(taken).items():
        numbers = {one.sent.sequence for one in frames}
        missing = set(range(max(numbers) + 1)) - numbers
        if frames[0].recorded and missing:
            wrong.append(f"{len(missing)} frames of {camera} (run {run}) never reached the broker: {min(missing)}")
    runs: defaultdict[str, set[int]] = defaultdict(set)
    for one in taken:
        if one.recorded:
            runs[one.sent.camera].add(one.run)
    return wrong + [f"{camera} began anew: {len(found)} runs" for camera, found in runs.items() if len(found) > 1]


def gaps_seen(taken: Sequence[Taken]) -> dict[str, object]:
    """The longest time between two pictures of one camera."""
    times: dict[bool, defaultdict[str, list[int]]] = {True: defaultdict(list), False: defaultdict(list)}
    for one in taken:
        times[one.recorded][one.sent.camera].append(one.sent.captured_ms)
    longest = {
        recorded: max((b - a for each in cameras.values() for a, b in pairwise(sorted(each))), default=0)
        for recorded, cameras in times.items()
    }
    return {"longest gap of a live camera, s": longest[False] / 1000, "of a recording, s": longest[True] / 1000}


def _by_run(taken: Sequence[Taken]) -> dict[tuple[str, int], list[Taken]]:
    runs: defaultdict[tuple[str, int], list[Taken]] = defaultdict(list)
    for one in taken:
        runs[one.sent.camera, one.run].append(one)
    return runs
