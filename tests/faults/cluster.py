"""A cluster of our own processes, each of this version or of another, on this machine or on hosts of a test network."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path

from broker.kafka import ensure_topics, topic_id
from broker.settings import KafkaSettings
from catalog.cameras import CameraRegistry
from catalog.settings import MediaSettings
from catalog.store import Catalog, sqlite_url
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from loadtests.declared import Declared, understated
from loadtests.ledger import Balance, Sent, audit, stored_moments
from loadtests.topics import Taken, dead_letters, taken_frames, until_drained
from proto.access import ANYONE, is_loopback
from proto.types import Camera, Span
from tests.faults.house import GAP_S, ROOT, SILENT_S
from tests.models.toy import toy_bundle
from tests.tools.servers import Server
from watchword.stack import ready
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import HOST, Port

ROLES = ("worker", "camera", "stream", "query")
_LAYOUTS = {
    "index/places.py": re.compile(r'^_SCHEME = "(\w+)"', re.MULTILINE),
    "catalog/tables.py": re.compile(r'^REVISION = "(\w+)"', re.MULTILINE),
}
"""Where the versions of what processes share are: rows of the index, and the catalog."""
_GRACE_S = 15.0
_START_S = 300.0


class NotTogether(Exception):
    """Two versions cannot run side by side; the message says why."""


@dataclass(frozen=True)
class Host:
    """Where processes run."""

    name: str = "here"
    address: str = HOST
    enter: tuple[str, ...] = ()
    """The command that starts a program there; empty for this machine."""


def tree_of(commit: str, folder: Path) -> Path:
    """The source tree of a commit, unpacked in a folder."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        raise NotTogether(f"there is no commit {commit} here: {packed.stderr.decode().strip()}")
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as tree:
        tree.extractall(folder, filter="data")
    return folder


def check_together(old: Path, new: Path = ROOT) -> None:
    """Raise NotTogether when rows or the catalog changed between two trees so that neither reads the other's."""
    for name, layout in _LAYOUTS.items():
        before, after = (layout.search((tree / name).read_text()) for tree in (old, new))
        if before is None or after is None or before[1] != after[1]:
            told = " and ".join(found[1] if found else "unknown" for found in (before, after))
            raise NotTogether(f"{name} has the versions {told}: data of one is not read by the other")


class Process:
    """One of our processes. It keeps its address over restarts; the code may change from start to start."""

    def __init__(self, role: str, number: int, host: Host, home: Path, code: Path) -> None:
        """`home` is the folder of its host."""
        self.name = f"{role} {number}"
        self.role = role
        self.number = number
        self.host = host
        self.code = code
        self.environment: dict[str, str] = {}
        """What all processes of the cluster are told."""
        self.home = home
        self.serves, self.ops = Port(host=host.address), Port(host=host.address)
        for port in (self.serves, self.ops):
            port.settle()
        self._folder = home / self.name.replace(" ", "-")
        self._folder.mkdir(parents=True)
        self.log = self._folder / "log"
        serves = role in ("worker", "query")
        asks = partial(ready.health, self.serves.address) if serves else partial(ready.page, self.ops.address)
        part = Part(self.name, lambda: self.address, asks, self._plan, deadline_s=_START_S, grace_s=_GRACE_S)
        self.server = Server(part, self.log)

    @property
    def address(self) -> str:
        """Where others reach it; of a process that serves nothing, where its metrics are."""
        return (self.serves if self.role in ("worker", "query") else self.ops).address

    async def restart(self, code: Path) -> None:
        """Stop it in order, and start it with other code."""
        await self.server.stop()
        self.code = code
        await self.server.start()

    def _plan(self) -> Launch:
        own = {
            "PYTHONPATH": str(self.code),
            "WATCHWORD_DATA_DIR": str(self.home / "data"),
            "WATCHWORD_CACHE_DIR": str(self.home / "cache"),
            "WATCHWORD_OPS__HOST": self.host.address,
            "WATCHWORD_OPS__PORT": str(self.ops.number),
            "WATCHWORD_ENCODER__LISTEN": self.serves.listen,
            "WATCHWORD_QUERY__LISTEN": self.serves.listen,
            "WATCHWORD_STREAM__INSTANCE": self.name.replace(" ", "-"),
        }
        if not is_loopback(self.serves.listen):
            own["WATCHWORD_ACCESS__OPEN_TO"] = ANYONE
        program = (sys.executable, "-m", "watchword", "run", self.role)
        return Launch(argv=(*self.host.enter, *program), cwd=self._folder, env={**self.environment, **own})


@dataclass(frozen=True)
class Parts:
    """The servers that a cluster uses."""

    kafka: KafkaSettings
    milvus: tuple[str, ...]
    redis: str = ""
    catalog: str = ""
    """The URL of a catalog. Empty: a file in the data folder, when there is one host."""
    media: MediaSettings = field(default_factory=MediaSettings)
    """Where pictures are. Without a URL: in the data folder."""


class Cluster:
    """Processes of ours that share servers, and a data folder where they are on one host; the cameras that they watch,
    and the ledger."""

    def __init__(self, folder: Path, parts: Parts, placed: Sequence[tuple[str, Host]], code: Path) -> None:
        """`placed` has the role and the host of each process. A host has the folder of its name in `folder`."""
        homes = {host.name: folder / host.name for _, host in placed}
        for home in homes.values():
            (home / "data").mkdir(parents=True)
        self.parts = parts
        bundle = toy_bundle(folder / "toy")
        self.space = bundle.space
        self.catalog = Catalog(parts.catalog or _file_in(*homes.values()))
        self.declared = Declared(self.catalog)
        self.store = MilvusStore(self.space, MilvusSettings(endpoints=parts.milvus))
        numbers = dict.fromkeys(ROLES, 0)
        self.processes: list[Process] = []
        for role, host in placed:
            numbers[role] += 1
            self.processes.append(Process(role, numbers[role], host, homes[host.name], code))
        environment = self._environment(bundle.folder)
        for process in self.processes:
            process.environment = environment

    def of(self, role: str) -> list[Process]:
        return [process for process in self.processes if process.role == role]

    def on(self, host: Host) -> list[Process]:
        return [process for process in self.processes if process.host == host]

    @property
    def queries(self) -> list[str]:
        return [process.address for process in self.of("query")]

    def watch(self, cameras: Mapping[str, str], *, loop: bool) -> None:
        """Register cameras, by name and address."""
        registry = CameraRegistry(self.catalog)
        for name, url in cameras.items():
            registry.add(Camera(name, url, loop=loop))

    async def start(self) -> None:
        await ensure_topics(self.parts.kafka)
        await self.store.open()
        for role in ROLES:  # the others ask the workers at their start
            for process in self.of(role):
                process.server.launch()
            for process in self.of(role):
                await process.server.serving()

    async def until_found(self, cameras: frozenset[str], within_s: float = 300.0) -> None:
        """Wait until something of each of these cameras is stored: the pipeline flows."""
        deadline = time.monotonic() + within_s
        while not all([await self.store.count(frozenset({camera})) for camera in cameras]):
            assert time.monotonic() < deadline, f"not all of {sorted(cameras)} were found within {within_s:.0f} s"
            await asyncio.sleep(0.2)

    async def taken(self) -> list[Taken]:
        """Every frame that the broker took."""
        return await taken_frames(self.parts.kafka)

    async def balance(self, taken: Sequence[Taken], within_s: float = 60.0) -> tuple[Balance, int, list[Span]]:
        """The ledger once everything came to rest, what was not committed then, and the moments. No camera may run."""
        sent: list[Sent] = [one.sent for one in taken]
        left = await until_drained(self.parts.kafka, sent, within_s)
        moments = await stored_moments(self.store, {one.camera for one in sent})
        log = await topic_id(self.parts.kafka.brokers, self.parts.kafka.frames_topic)
        letters = await dead_letters(self.parts.kafka)
        balance = audit(sent, moments, letters, self.declared.gaps(), log=log)
        short = understated(self.declared.told(), balance.of("shed"))
        return replace(balance, wrong=(*balance.wrong, *short)), left, moments

    async def end(self) -> None:
        for process in self.processes:
            process.server.end()
        self.declared.close()
        await self.store.close()

    def _environment(self, bundle: Path) -> dict[str, str]:
        kafka, media = self.parts.kafka, self.parts.media
        return {
            "WATCHWORD_CATALOG__URL": self.parts.catalog,
            "WATCHWORD_MEDIA__URL": media.url,
            "WATCHWORD_MEDIA__ENDPOINT": media.endpoint,
            "WATCHWORD_MEDIA__KEY": media.key.get_secret_value(),
            "WATCHWORD_MEDIA__SECRET": media.secret.get_secret_value(),
            "WATCHWORD_MEDIA__ALLOW_HTTP": str(media.allow_http).lower(),
            "WATCHWORD_KAFKA__BROKERS": kafka.brokers,
            "WATCHWORD_KAFKA__FRAMES_TOPIC": kafka.frames_topic,
            "WATCHWORD_KAFKA__DEAD_LETTERS_TOPIC": kafka.dead_letters_topic,
            "WATCHWORD_KAFKA__GROUP": kafka.group,
            "WATCHWORD_KAFKA__PARTITIONS": str(kafka.partitions),
            "WATCHWORD_KAFKA__SESSION_S": "6",
            "WATCHWORD_KAFKA__IDEMPOTENT": str(kafka.idempotent).lower(),
            "WATCHWORD_MILVUS__ENDPOINTS": json.dumps(self.parts.milvus),
            "WATCHWORD_REDIS__URL": self.parts.redis,
            "WATCHWORD_ENCODER__ADDRESS": ",".join(process.address for process in self.of("worker")),
            "WATCHWORD_ENCODER__BUNDLE": str(bundle),
            "WATCHWORD_ENCODER__ENGINE": "onnxruntime",
            "WATCHWORD_ENCODER__THREADS": "1",
            "WATCHWORD_CAMERA__HEARTBEAT_S": str(GAP_S / 2),
            "WATCHWORD_STREAM__GAP_S": str(GAP_S),
            "WATCHWORD_STREAM__SILENT_S": str(SILENT_S),
            "OPENBLAS_NUM_THREADS": "1",
        }


def _file_in(home: Path, *others: Path) -> str:
    """The catalog that processes make in the data folder of their only host."""
    assert not others, "hosts share a catalog only by its server"
    return sqlite_url(home / "data" / "catalog.db")
