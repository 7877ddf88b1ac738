"""What a drill runs in: real servers, real stream workers as child processes, and the ledger at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from broker.kafka import ensure_topics, topic_id
from broker.settings import KafkaSettings
from catalog.store import Catalog, sqlite_url
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from loadtests.declared import Declared, understated
from loadtests.fleet import Fleet, Plan
from loadtests.ledger import Balance, Sent, audit, stored_moments
from loadtests.topics import dead_letters, unanswered, until_drained
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
    folder.mkdir(parents=True, exist_ok=True)
    return Server(milvus_part(Port(), folder / "milvus", cache_folder().parent, print), folder / "milvus.log")


def another_milvus(house: House) -> Server:
    """One more Milvus, not yet started; whoever starts it ends it."""
    return _milvus(house.folder / f"milvus-{secrets.token_hex(3)}")


@dataclass
class Outcome:
    """What a drill ended in."""

    balance: Balance
    lag: int
    """Records not committed at the end; 0 when everything came to rest."""
    moments: list[Span]
    misplaced: int | None
    """Moments that begin where no scene begins: a boundary that the pictures do not explain. None: not known."""
    seconds: float
    notes: dict[str, object] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    """What else was promised and not kept, one sentence each."""
    told: str = ""
    """What users saw."""

    @property
    def good(self) -> bool:
        return self.balance.balanced and self.lag == 0 and not self.wrong

    def __str__(self) -> str:
        told = {"not committed": self.lag, "moments that begin inside a scene": self.misplaced, **self.notes}
        notes = [f"{name:<36}{value:>9}" for name, value in told.items() if value is not None]
        users = [self.told] if self.told else []
        return "\n".join([str(self.balance), *notes, *users, *self.wrong, f"{self.seconds:.0f} s"])


class Drill:
    """One drill: own topics, own group, own space; a fleet that publishes and workers that may be hurt."""

    def __init__(
        self, house: House, kafka: KafkaSettings, plan: Plan, store: MilvusStore, encoder: StandIn, address: str
    ) -> None:
        self.house = house
        self.kafka = kafka
        self.store = store
        self.encoder = encoder
        self.fleet = Fleet(kafka.brokers, kafka.frames_topic, plan, idempotent=house.idempotent)
        self.folder = house.folder / kafka.group
        self.declared = Declared(Catalog(sqlite_url(self.folder / "catalog.db")))
        self.notes: dict[str, object] = {}
        self.milvus = [house.milvus.address]
        """The shards of the index."""
        self._encoder_address = address
        self._workers: list[Server] = []
        self._begun = time.monotonic()

    def worker(
        self, *, static: bool = True, program: tuple[str, ...] = WATCHWORD, catch_up: str = "all", **more: str
    ) -> Server:
        """A stream worker, not yet started; `more` goes into its environment."""
        number = len(self._workers)
        port = Port()
        folder = self.folder / f"worker-{number}"
        folder.mkdir(parents=True)
        environment = {
            "PYTHONPATH": str(ROOT),
            "WATCHWORD_DATA_DIR": str(self.folder),
            "WATCHWORD_KAFKA__BROKERS": self.kafka.brokers,
            "WATCHWORD_KAFKA__FRAMES_TOPIC": self.kafka.frames_topic,
            "WATCHWORD_KAFKA__DEAD_LETTERS_TOPIC": self.kafka.dead_letters_topic,
            "WATCHWORD_KAFKA__GROUP": self.kafka.group,
            "WATCHWORD_KAFKA__PARTITIONS": str(self.kafka.partitions),
            "WATCHWORD_KAFKA__SESSION_S": "6",
            "WATCHWORD_KAFKA__IDEMPOTENT": str(self.house.idempotent).lower(),
            "WATCHWORD_MILVUS__ENDPOINTS": json.dumps(self.milvus),
            "WATCHWORD_ENCODER__ADDRESS": self._encoder_address,
            "WATCHWORD_CAMERA__HEARTBEAT_S": str(GAP_S / 2),
            "WATCHWORD_STREAM__GAP_S": str(GAP_S),
            "WATCHWORD_STREAM__SILENT_S": str(SILENT_S),
            "WATCHWORD_STREAM__CATCH_UP": catch_up,
            "WATCHWORD_STREAM__INSTANCE": f"worker-{number}" if static else "",
            **more,
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
        return await stored_moments(self.store, self.fleet.cameras)

    async def until_stored(self, moments: int, within_s: float = 60.0) -> None:
        """Wait until so many moments are stored: the pipeline flows."""
        deadline = time.monotonic() + within_s
        while await self.store.count() < moments:
            assert time.monotonic() < deadline, f"fewer than {moments} moments after {within_s:.0f} s"
            await asyncio.sleep(0.1)

    async def outcome(self, *, within_s: float = DRAIN_S) -> Outcome:
        """Wait until everything came to rest, and balance the ledger. The fleet must have ended."""
        begun = time.monotonic()
        sent = [*self.fleet.sent]
        if self.fleet.unsure:
            sent += await unanswered(self.kafka, sent)
        left = await until_drained(self.kafka, sent, within_s)
        self.notes["seconds until it came to rest"] = round(time.monotonic() - begun, 1)
        moments = await self.moments()
        self.notes["pictures embedded more than once"] = self._embedded_again(sent)
        return Outcome(
            balance=await self._balance(sent, moments),
            lag=left,
            moments=moments,
            misplaced=_misplaced(sent, moments),
            seconds=time.monotonic() - self._begun,
            notes=self.notes,
        )

    async def _balance(self, sent: list[Sent], moments: list[Span]) -> Balance:
        log = await topic_id(self.kafka.brokers, self.kafka.frames_topic)
        letters = await dead_letters(self.kafka)
        stepped = self.fleet.plan.clock_steps_every > 0
        balance = audit(sent, moments, letters, self.declared.gaps(), log=log, clocks_step=stepped)
        return replace(balance, wrong=(*balance.wrong, *understated(self.declared.told(), balance.of("shed"))))

    def _embedded_again(self, sent: list[Sent]) -> int:
        return max(0, self.encoder.pictures - sum(not frame.poison for frame in sent))

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
        self.declared.close()

    async def _keep(self, worker: Server) -> None:
        while True:
            await asyncio.sleep(0.2)
            if not worker.alive:
                self.notes["worker ended by itself"] = int(str(self.notes.get("worker ended by itself", 0))) + 1
                with contextlib.suppress(WatchwordError):
                    worker.launch()


def times_given(worker: Server) -> int:
    """How often the group gave this worker partitions."""
    return worker.last_words().count("the group gave this worker its partitions")


async def until(reached: Callable[[], bool], within_s: float = 60.0, what: str = "it") -> None:
    """Poll until it is reached, or fail."""
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.02)


def _misplaced(sent: list[Sent], moments: list[Span]) -> int:
    openings = {frame.place for frame in sent if frame.opens}
    return sum((moment.partition, moment.first_offset) not in openings for moment in moments)


def kafka_settings(house: House, name: str, partitions: int) -> KafkaSettings:
    return KafkaSettings(
        brokers=house.kafka.address,
        frames_topic=f"frames-{name}",
        dead_letters_topic=f"dead-letters-{name}",
        group=name,
        partitions=partitions,
        idempotent=house.idempotent,
    )


@asynccontextmanager
async def a_drill(
    house: House, name: str, plan: Plan, *, partitions: int = PARTITIONS, more_milvus: Sequence[Server] = ()
) -> AsyncIterator[Drill]:
    """A drill with its topics made, its encoder serving and its store open; its workers end with it.

    Further servers of Milvus share the cameras with the house's own.
    """
    kafka = kafka_settings(house, f"{name}-{secrets.token_hex(3)}", partitions)
    space = SpaceInfo(os.urandom(8).hex(), DIMENSION)
    await ensure_topics(kafka)
    async with AsyncExitStack() as stack:
        encoder = StandIn(space.id)
        address = await stack.enter_async_context(serving(encoder))
        milvus = [house.milvus.address, *(server.address for server in more_milvus)]
        store = MilvusStore(space, MilvusSettings(endpoints=tuple(milvus)))
        stack.push_async_callback(store.close)
        await store.open()
        drill = Drill(house, kafka, plan, store, encoder, address)
        drill.milvus = milvus
        stack.callback(drill.end)
        yield drill
