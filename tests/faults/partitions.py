"""A drill on three hosts that share nothing but the network: that of one is slow or cut, or the host dies, while people
search."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from broker.settings import KafkaSettings
from cameras.holder import host_of
from catalog.fleet import Fleet
from loadtests.topics import Taken
from proto.types import now_ms
from tests.clips import CLIPS
from tests.faults.cluster import Cluster, Host, Parts
from tests.faults.hosts import Network, kafka_on, milvus_on, network, postgres_on, redis_on, s3_on
from tests.faults.house import ROOT, Outcome
from tests.faults.live import live_cameras
from tests.faults.pictures import pictures_shown
from tests.faults.upgrades import broken_runs, gaps_seen
from tests.faults.users import Users
from tests.tools.servers import Server

PLACED = (
    ("a", ("worker",)),
    ("b", ("worker", "camera", "stream", "query")),
    ("c", ("camera", "stream", "query")),
)
"""Apache Kafka, Redis, PostgreSQL and an S3 server are on a as well, and one Milvus each on b and c."""
DELAY_S = 0.1
_WELL_S, _HEALS_S = 3.0, 180.0
_FRESH_S = 6.0
"""An open moment is told every three seconds."""
_FILES, _LIVE = 3, 3
PROMISED_S = 30.0
"""Cameras of a host that died are watched elsewhere within this."""
_UNDER_WAY_MS = 3000
"""A busy broker may write so late what it was sent by a host that died. Leases run longer."""


async def three_hosts(folder: Path, *, seconds: float, settle_s: float = 10.0) -> Outcome:
    """Slow one host, cut each of two, kill each of two; after each, wait until users see nothing of it any more."""
    begun = time.monotonic()
    folder = folder / f"hosts-{secrets.token_hex(3)}"
    async with AsyncExitStack() as closing:
        net = closing.enter_context(network("a", "b", "c", folder=folder))
        drill = await _Drill.begun(net, folder, closing)
        users = drill.users
        async with users.asking():
            await asyncio.sleep(settle_s)
            faults: Sequence[tuple[str, str, Callable[[Host], None]]] = (
                ("c slow", "c", lambda host: net.slow(host, DELAY_S)),
                ("c cut", "c", net.cut),
                ("a cut", "a", net.cut),
            )
            for name, where, hurt in faults:
                users.phase(name)
                hurt(net.hosts[where])
                await asyncio.sleep(seconds)
                users.phase(f"{name}, then not")
                net.heal(net.hosts[where])
                await drill.until_well(name)
            for name in ("b", "c"):
                await drill.kill(name, seconds)
        for process in drill.cluster.of("camera"):
            await process.server.stop()
        taken = await drill.cluster.taken()
        balance, lag, moments = await drill.cluster.balance(taken, within_s=120)
        pictures = await pictures_shown(drill.cluster.queries, [moment.id for moment in moments])
    again, late = watched_again(taken, drill.deaths)
    wrong = (*broken_runs(taken), *users.complaints(), *late, *pictures.missing(), *drill.wrong)
    notes = {**drill.notes, **again, **pictures.counts(), **gaps_seen(taken)}
    return Outcome(balance, lag, moments, None, time.monotonic() - begun, notes, wrong, str(users))


@dataclass(frozen=True)
class Death:
    """A host died at once."""

    host: str
    at_ms: int
    cameras: frozenset[str]
    """The cameras that were watched there."""


def watched_again(taken: Sequence[Taken], deaths: Sequence[Death]) -> tuple[dict[str, object], list[str]]:
    """How soon cameras of a host that died produced elsewhere, and what is wrong with that."""
    notes: dict[str, object] = {}
    wrong = []
    for death in deaths:
        found: dict[str, float] = {}
        for one in taken:
            if one.sent.camera in death.cameras and one.taken_ms > death.at_ms + _UNDER_WAY_MS:
                after_s = (one.taken_ms - death.at_ms) / 1000
                found[one.sent.camera] = min(after_s, found.get(one.sent.camera, after_s))
        notes[f"{death.host} killed: its cameras"] = len(death.cameras)
        notes[f"{death.host} killed: they produce after, s"] = max(found.values(), default=0.0)
        wrong += [
            f"{camera} of {death.host} did not produce within {PROMISED_S:.0f} s after the host was killed"
            for camera in sorted(death.cameras)
            if found.get(camera, PROMISED_S + 1) > PROMISED_S
        ]
        if not death.cameras:
            wrong.append(f"no camera was watched on {death.host} before it was killed")
    return notes, wrong


class _Drill:
    def __init__(self, net: Network, cluster: Cluster, servers: dict[str, list[Server]], users: Users) -> None:
        self.cluster = cluster
        self.users = users
        self.notes: dict[str, object] = {}
        self.wrong: list[str] = []
        self.deaths: list[Death] = []
        self._net = net
        self._fleet = Fleet(cluster.catalog)
        self._servers = servers

    @classmethod
    async def begun(cls, net: Network, folder: Path, closing: AsyncExitStack) -> _Drill:
        """Everything started, and something of each live camera found."""
        a, b, c = (net.hosts[name] for name in "abc")
        kafka, redis = kafka_on(a, folder / "a"), redis_on(a, folder / "a")
        milvus = [milvus_on(host, folder / host.name) for host in (b, c)]
        postgres, s3 = postgres_on(a), s3_on(a, folder / "a")
        closing.callback(postgres.close)
        for server in (kafka, redis, postgres.server, s3.server, *milvus):
            closing.callback(server.end)
            await server.start()
        parts = Parts(
            KafkaSettings(brokers=kafka.address, partitions=8, idempotent=True),
            tuple(server.address for server in milvus),
            redis.address,
            postgres.new_database(),
            s3.settings(s3.new_bucket()),
        )
        placed = [(role, net.hosts[name]) for name, roles in PLACED for role in roles]
        cluster = Cluster(folder, parts, placed, ROOT)
        closing.push_async_callback(cluster.end)
        url = await closing.enter_async_context(live_cameras(net.own_address))
        live = _spread(cluster, "live", _LIVE)
        cluster.watch({name: f"{url}/{name}" for name in live}, loop=False)
        cluster.watch(dict.fromkeys(_spread(cluster, "file", _FILES), str(CLIPS["bikes"])), loop=True)
        await cluster.start()
        await cluster.until_found(frozenset(live))
        servers = {"b": milvus[:1], "c": milvus[1:]}
        return cls(net, cluster, servers, Users(cluster.queries, frozenset(live)))

    async def kill(self, name: str, away_s: float) -> None:
        """Everything on the host dies at once; later it is started again."""
        host = self._net.hosts[name]
        processes, servers = self.cluster.on(host), self._servers[name]
        cameras = await self._watched_on(name)
        self.users.phase(f"{name} killed")
        self._net.cut(host)
        self.deaths.append(Death(name, now_ms(), cameras))
        for server in (*servers, *(process.server for process in processes)):
            server.send(signal.SIGKILL)
        await asyncio.sleep(away_s)
        for server in (*servers, *(process.server for process in processes)):
            await server.kill()  # waits until it has ended
        self.users.phase(f"{name} killed, then back")
        self._net.heal(host)
        for server in servers:
            await server.start()
        for process in processes:
            process.server.launch()
        await self.until_well(f"{name} killed")

    async def until_well(self, name: str) -> None:
        """Wait until for a while all is searched, nothing is asked twice, and every live camera is fresh."""
        began_s = well_since_s = time.monotonic()
        seen = self.users.phase(f"{name}, healing")
        known = (0, 0, 0)
        while (now_s := time.monotonic()) - well_since_s < _WELL_S:
            troubles = (seen.again, len(seen.failed), seen.partial)
            fresh = bool(seen.behind_s) and seen.behind_s[-1] < _FRESH_S
            if troubles != known or not fresh:
                known, well_since_s = troubles, now_s
            if now_s - began_s > _HEALS_S:
                self.wrong.append(f"{name}: not healed within {_HEALS_S:.0f} s")
                break
            self._keep()
            await asyncio.sleep(0.2)
        self.notes[f"{name}: healed after, s"] = round(well_since_s - began_s, 1)
        self.users.phase("well")

    async def _watched_on(self, name: str) -> frozenset[str]:
        """The cameras that the camera process of the host watches. Waits until there are some."""
        deadline_s = time.monotonic() + _HEALS_S
        while True:
            held = (await asyncio.to_thread(self._fleet.seen, now_ms())).held
            found = frozenset(camera for camera, holder in held.items() if host_of(holder).startswith(f"{name}/"))
            if found or time.monotonic() > deadline_s:
                return found
            await asyncio.sleep(0.5)

    def _keep(self) -> None:
        """Start again what ended by itself, as an orchestrator does."""
        for process in self.cluster.processes:
            if not process.server.alive:
                self.notes[f"{process.name} ended"] = int(str(self.notes.get(f"{process.name} ended", 0))) + 1
                process.server.launch()


def _spread(cluster: Cluster, prefix: str, count: int) -> list[str]:
    """So many names of cameras whose moments lie on both shards."""
    names: dict[str, list[str]] = {}
    while sum(map(len, names.values())) < count or len(names) < len(cluster.parts.milvus):
        name = f"{prefix}-{random.randrange(1000)}"
        of_shard = names.setdefault(cluster.store.shard_of(name), [])
        if name not in of_shard and len(of_shard) < count:
            of_shard.append(name)
    first = [of_shard.pop() for of_shard in names.values()]
    rest = [name for of_shard in names.values() for name in of_shard]
    return [*first, *rest][: max(count, len(first))]
