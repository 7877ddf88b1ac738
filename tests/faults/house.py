"""What a drill runs in: real servers, real stream workers as child processes, and the ledger at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.kafka import ensure_topics
from broker.settings import KafkaSettings
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from loadtests.fleet import Fleet, Plan, dead_letters, until_drained
from loadtests.ledger import Balance, audit, stored_moments
from proto.errors import WatchwordError
from proto.types import SpaceInfo, Span
from tests.faults.stand_in import DIMENSION, StandIn, serving
from tests.tools.apache_kafka import apache_kafka_part, cache_folder, jars
from tests.tools.servers import Server
from watchword.stack import ready
from watchword.stack.parts import Launch, Part, broker_part, milvus_part
from watchword.stack.ports import Port

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
GAP_S, SILENT_S = 2.0, 3.0
"""Short, so that a drill comes to rest soon."""
DRAIN_S = 60.0
WATCHWORD = ("-m", "watchword", "run", "stream")
"""The stream worker as it is run everywhere."""


@dataclass(frozen=True)
class House:
    """The servers, shared by the drills. Whoever stops one starts it again."""

    kafka: Server
    milvus: Server
    folder: Path
    idempotent: bool = True
    """Whether the broker knows idempotent producers: Apache Kafka does, the embedded one does not."""

    async def start(self) -> None:
        for server in self._servers:
            server.launch()
        await asyncio.gather(*(server.serving() for server in self._servers))

    def end(self) -> None:
        for server in self._servers:
            server.end()

    @property
    def _servers(self) -> tuple[Server, Server]:
        return self.kafka, self.milvus


def apache_house(folder: Path) -> House:
    """Apache Kafka and Milvus, not yet started. NoKafkaHere when this machine cannot run it."""
    kafka = Server(apache_kafka_part(Port(), folder / "kafka", jars()), folder / "kafka.log")
    return House(kafka, _milvus(folder), folder)


def embedded_house(folder: Path) -> House:
    """The embedded broker and Milvus, not yet started."""
    broker = Server(broker_part(Port(), folder / "broker"), folder / "broker.log")
    return House(broker, _milvus(folder), folder, idempotent=False)


def _milvus(folder: Path) -> Server:
    return Server(milvus_part(Port(), folder / "milvus", cache_folder().parent, print), folder / "milvus.log")


@dataclass
class Outcome:
    """What a drill ended in."""

    balance: Balance
    lag: int
    """Records not committed at the end; 0 when everything came to rest."""
    moments: list[Span]
    misplaced: int
    """Moments that begin where no scene begins: a boundary that the frames do not explain."""
    seconds: float
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.balance.balanced and self.lag == 0

    def __str__(self) -> str:
        told = {"not committed": self.lag, "moments that begin inside a scene": self.misplaced, **self.notes}
        notes = [f"{name:<36}{value:>9}" for name, value in told.items()]
        return "\n".join([str(self.balance), *notes, f"{self.seconds:.0f} s"])


class Drill:
    """One drill: own topics, own group, own space; a fleet that publishes and workers that may be hurt."""

    def __init__(
        self, house: House, name: str, plan: Plan, *, store: MilvusStore, encoder: StandIn, address: str
    ) -> None:
        self.house = house
        self.encoder = encoder
        self.store = store
        self.kafka = kafka_settings(house, name)
        self.fleet = Fleet(house.kafka.address, self.kafka.frames_topic, plan, idempotent=house.idempotent)
        self.notes: dict[str, object] = {}
        self._folder = house.folder / name
        self._encoder_address = address
        self._workers: list[Server] = []
        self._begun = time.monotonic()

    def worker(self, *, static: bool = True, program: tuple[str, ...] = WATCHWORD) -> Server:
        """A stream worker, not yet started."""
        number = len(self._workers)
        port = Port()
        folder = self._folder / f"worker-{number}"
        folder.mkdir(parents=True)
        environment = {
            "PYTHONPATH": str(ROOT),
            "WATCHWORD_DATA_DIR": str(self._folder),
            "WATCHWORD_KAFKA__BROKERS": self.kafka.brokers,
            "WATCHWORD_KAFKA__FRAMES_TOPIC": self.kafka.frames_topic,
            "WATCHWORD_KAFKA__DEAD_LETTERS_TOPIC": self.kafka.dead_letters_topic,
            "WATCHWORD_KAFKA__GROUP": self.kafka.group,
            "WATCHWORD_KAFKA__PARTITIONS": str(PARTITIONS),
            "WATCHWORD_KAFKA__SESSION_S": "6",
            "WATCHWORD_KAFKA__IDEMPOTENT": str(self.house.idempotent).lower(),
            "WATCHWORD_MILVUS__ENDPOINTS": f'["{self.house.milvus.address}"]',
            "WATCHWORD_ENCODER__ADDRESS": self._encoder_address,
            "WATCHWORD_STREAM__GAP_S": str(GAP_S),
            "WATCHWORD_STREAM__SILENT_S": str(SILENT_S),
            "WATCHWORD_STREAM__INSTANCE": f"worker-{number}" if static else "",
        }

        def plan() -> Launch:
            environment["WATCHWORD_OPS__PORT"] = str(port.settle())
            return Launch(argv=(sys.executable, *program), cwd=folder, env=environment)

        part = Part(
            f"stream worker {number}",
            lambda: port.address,
            lambda: ready.page(port.address),
            plan,
            deadline_s=90,
            grace_s=15,
        )
        worker = Server(part, folder / "log")
        self._workers.append(worker)
        return worker

    @asynccontextmanager
    async def kept(self, worker: Server) -> AsyncIterator[Server]:
        """The worker, started; when it ends by itself it is started again, as a supervisor does."""
        await worker.start()
        keeper = asyncio.create_task(self._keep(worker))
        try:
            yield worker
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def moments(self) -> list[Span]:
        return await stored_moments(self.store, self.fleet.starts)

    async def until_stored(self, moments: int, within_s: float = 60.0) -> None:
        """Wait until so many moments are stored: the pipeline flows."""
        deadline = time.monotonic() + within_s
        while await self.store.count() < moments:
            assert time.monotonic() < deadline, f"fewer than {moments} moments after {within_s:.0f} s"
            await asyncio.sleep(0.1)

    async def outcome(self, *, within_s: float = DRAIN_S) -> Outcome:
        """Wait until everything came to rest, and balance the ledger. The fleet must have ended."""
        begun = time.monotonic()
        left = await until_drained(self.kafka, self.fleet.sent, within_s)
        self.notes["seconds until it came to rest"] = round(time.monotonic() - begun, 1)
        moments = await self.moments()
        return Outcome(
            balance=audit(self.fleet.sent, moments, await dead_letters(self.kafka), unsure=self.fleet.unsure),
            lag=left,
            moments=moments,
            misplaced=sum(span.start_ms not in self.fleet.scene_starts[span.camera] for span in moments),
            seconds=time.monotonic() - self._begun,
            notes=self.notes,
        )

    def end(self) -> None:
        for worker in self._workers:
            worker.end()

    async def _keep(self, worker: Server) -> None:
        while True:
            await asyncio.sleep(0.2)
            if not worker.alive:
                self.notes["worker ended by itself"] = int(str(self.notes.get("worker ended by itself", 0))) + 1
                with contextlib.suppress(WatchwordError):
                    worker.launch()


def kafka_settings(house: House, name: str) -> KafkaSettings:
    return KafkaSettings(
        brokers=house.kafka.address,
        frames_topic=f"frames-{name}",
        dead_letters_topic=f"dead-letters-{name}",
        group=f"workers-{name}",
        partitions=PARTITIONS,
        idempotent=house.idempotent,
    )


@asynccontextmanager
async def a_drill(house: House, name: str, plan: Plan) -> AsyncIterator[Drill]:
    """A drill with its topics made, its encoder serving and its store open; its workers end with it."""
    unique = f"{name}-{secrets.token_hex(3)}"
    space = SpaceInfo(os.urandom(8).hex(), DIMENSION)
    await ensure_topics(kafka_settings(house, unique))
    async with AsyncExitStack() as stack:
        encoder = StandIn(space.id)
        address = await stack.enter_async_context(serving(encoder))
        store = MilvusStore(space, MilvusSettings(endpoints=(house.milvus.address,)))
        stack.push_async_callback(store.close)
        await store.open()
        drill = Drill(house, unique, plan, store=store, encoder=encoder, address=address)
        stack.callback(drill.end)
        yield drill
