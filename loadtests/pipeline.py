"""Frames to moments on real parts: a house with broker, index and encoder, and pipelines in it.

Each pipeline has its own topic, group and fleet; the test starts its stream worker.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from broker.kafka import ensure_topics, topic_id
from index.milvus import MilvusStore
from loadtests.declared import Declared, understated
from loadtests.encoder_parts import frames
from loadtests.fleet import SCENES, Fleet, Plan
from loadtests.ledger import Balance, Sent, audit, stored_moments
from loadtests.rig import Running, apache_kafka, metrics, running, settings_in
from loadtests.topics import dead_letters, unanswered, until_drained
from proto.v1.events_pb2 import Frame
from tests.tools.servers import Server
from watchword.catalogs import new_catalog
from watchword.settings import Settings
from watchword.stack.compose import EMBEDDED_SESSION_S
from workers.client import EncoderClient, EncoderInfo

PARTITIONS = 4
_PICTURES_A_SCENE = 8
_EMBEDDED = "watchword_encoder_items_total{kind=image,outcome=ok}"


@dataclass(frozen=True)
class House:
    """Shared by pipelines: a broker, Milvus, the encoder worker with the built-in bundle, and other requested parts."""

    parts: Running
    info: EncoderInfo
    folder: Path
    footage: Sequence[Sequence[bytes]]
    """Pictures by scene."""
    kafka: Server | None = None
    """Apache Kafka; None for the embedded broker."""

    @property
    def encoder(self) -> Server:
        return self.parts.servers["worker"]

    async def embedded(self) -> int:
        """Pictures that the encoder worker answered since its start."""
        return int((await metrics(self.parts.addresses.ops["worker"])).get(_EMBEDDED, 0))

    def settings(self, name: str, values: Mapping[str, object]) -> Settings:
        """The settings of the pipeline of this name."""
        own = {
            "kafka.brokers": self.parts.addresses.broker,
            "kafka.idempotent": self.kafka is not None,
            "kafka.session_s": 45 if self.kafka else EMBEDDED_SESSION_S,
            "kafka.partitions": PARTITIONS,
            "kafka.frames_topic": f"frames-{name}",
            "kafka.dead_letters_topic": f"dead-letters-{name}",
            "kafka.group": name,
            "milvus.endpoints": json.dumps(self.parts.addresses.milvus),
            "encoder.address": self.parts.addresses.encoder,
        }
        return settings_in(self.folder / name / "data", own | dict(values))


@asynccontextmanager
async def a_house(
    folder: Path, *parts: str, apache: bool = True, values: Mapping[str, object] | None = None
) -> AsyncIterator[House]:
    """A house that serves inside the block, with Milvus, the encoder worker and these parts of the stack.

    `values` are settings, by dotted key.
    """
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(apache_kafka(folder)) if apache else None
        own = dict(values or {}) | ({"kafka.brokers": kafka.address} if kafka else {})
        names = ("milvus", "worker", *parts, *(() if kafka else ("broker",)))
        up = await stack.enter_async_context(running(settings_in(folder / "data", own), folder, *names))
        async with EncoderClient(up.addresses.encoder, timeout_s=30) as encoder:
            info = await encoder.describe()
        yield House(up, info, folder, scenes(info.image_side), kafka)


@dataclass(frozen=True)
class Pipeline:
    """One path from frames to moments."""

    settings: Settings
    fleet: Fleet
    store: MilvusStore
    declared: Declared
    folder: Path

    def worker(self) -> AbstractAsyncContextManager[Running]:
        """Run its stream worker inside the block."""
        return running(self.settings, self.folder, "stream")

    async def balance(self, within_s: float) -> tuple[Balance, int]:
        """Wait until everything has drained, and audit; also returns how much was not committed by then."""
        kafka, sent = self.settings.kafka, self.fleet.sent
        left = await until_drained(kafka, sent, within_s)
        if self.fleet.unsure:
            sent = [*sent, *await unanswered(kafka, sent)]
        moments = await stored_moments(self.store, self.fleet.cameras)
        log = await topic_id(kafka.brokers, kafka.frames_topic)
        balance = audit(sent, moments, await dead_letters(kafka), self.declared.gaps(), log=log)
        return replace(balance, wrong=(*balance.wrong, *understated(self.declared.told(), balance.of("shed")))), left


@asynccontextmanager
async def a_pipeline(
    house: House,
    name: str,
    plan: Plan,
    values: Mapping[str, object] | None = None,
    taken: Callable[[Frame, Sent], None] = lambda _frame, _sent: None,
) -> AsyncIterator[Pipeline]:
    """A pipeline with its topics and an open store. `values` are settings by dotted key; `taken` gets every frame."""
    settings = house.settings(name, values or {})
    await ensure_topics(settings.kafka)
    store = MilvusStore(house.info.space, settings.milvus)
    declared = Declared(new_catalog(settings))
    await store.open()
    try:
        fleet = Fleet(
            settings.kafka.brokers,
            settings.kafka.frames_topic,
            plan,
            scenes=house.footage,
            idempotent=settings.kafka.idempotent,
            taken=taken,
        )
        yield Pipeline(settings, fleet, store, declared, house.folder / name)
    finally:
        await store.close()
        declared.close()


def scenes(side: int) -> list[list[bytes]]:
    """Footage by scene, as cameras send it; consecutive scenes show different clips."""
    clips = [frames(3 * 3 * _PICTURES_A_SCENE, side)[clip::3] for clip in range(3)]
    return [
        clips[scene % 3][scene // 3 * _PICTURES_A_SCENE : (scene // 3 + 1) * _PICTURES_A_SCENE]
        for scene in range(SCENES)
    ]
