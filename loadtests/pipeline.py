"""Frames to moments on real parts: one house with broker, index and encoder, and pipelines in it.

A pipeline has a topic, a group and a fleet of its own; whoever tests it starts its stream worker.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.kafka import ensure_topics
from index.milvus import MilvusStore
from loadtests.encoder_parts import frames
from loadtests.fleet import SCENES, Fleet, Plan, dead_letters, until_drained
from loadtests.ledger import Balance, audit, stored_moments
from loadtests.rig import Running, apache_kafka, running, settings_in
from tests.tools.servers import Server
from watchword.settings import Settings
from workers.client import EncoderClient, EncoderInfo

PARTITIONS = 4
_PICTURES_A_SCENE = 8


@dataclass(frozen=True)
class House:
    """What pipelines share: Apache Kafka, Milvus and the encoder worker with the built-in bundle."""

    kafka: Server
    parts: Running
    info: EncoderInfo
    folder: Path

    @property
    def encoder(self) -> Server:
        return self.parts.servers["worker"]

    def settings(self, name: str, values: Mapping[str, object]) -> Settings:
        """Those of a pipeline of this name."""
        own = {
            "kafka.brokers": self.kafka.address,
            "kafka.idempotent": True,
            "kafka.partitions": PARTITIONS,
            "kafka.frames_topic": f"frames-{name}",
            "kafka.dead_letters_topic": f"dead-letters-{name}",
            "kafka.group": name,
            "milvus.endpoints": json.dumps(self.parts.addresses.milvus),
            "encoder.address": self.parts.addresses.encoder,
        }
        return settings_in(self.folder / name / "data", own | dict(values))


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[House]:
    """It serves while inside."""
    async with apache_kafka(folder) as kafka:
        settings = settings_in(folder / "data", {"kafka.brokers": kafka.address})
        async with running(settings, folder, "milvus", "worker") as parts:
            async with EncoderClient(parts.addresses.encoder, timeout_s=30) as encoder:
                info = await encoder.describe()
            yield House(kafka, parts, info, folder)


@dataclass(frozen=True)
class Pipeline:
    """One way of frames to moments."""

    settings: Settings
    fleet: Fleet
    store: MilvusStore
    folder: Path

    def worker(self) -> AbstractAsyncContextManager[Running]:
        """Its stream worker, while inside."""
        return running(self.settings, self.folder, "stream")

    async def balance(self, within_s: float) -> tuple[Balance, int]:
        """Wait until everything came to rest, and audit; what was not committed by then is told too."""
        left = await until_drained(self.settings.kafka, self.fleet.sent, within_s)
        moments = await stored_moments(self.store, self.fleet.starts)
        letters = await dead_letters(self.settings.kafka)
        return audit(self.fleet.sent, moments, letters, unsure=self.fleet.unsure), left


@asynccontextmanager
async def a_pipeline(
    house: House, name: str, plan: Plan, values: Mapping[str, object] | None = None
) -> AsyncIterator[Pipeline]:
    """Its topics made and its store open; `values` are settings, by dotted key."""
    settings = house.settings(name, values or {})
    await ensure_topics(settings.kafka)
    store = MilvusStore(house.info.space, settings.milvus)
    await store.open()
    try:
        footage = scenes(house.info.image_side)
        fleet = Fleet(settings.kafka.brokers, settings.kafka.frames_topic, plan, scenes=footage)
        yield Pipeline(settings, fleet, store, house.folder / name)
    finally:
        await store.close()


def scenes(side: int) -> list[list[bytes]]:
    """Footage by scene, as cameras send it; scenes that follow each other show different clips."""
    clips = [frames(3 * 3 * _PICTURES_A_SCENE, side)[clip::3] for clip in range(3)]
    return [
        clips[scene % 3][scene // 3 * _PICTURES_A_SCENE : (scene // 3 + 1) * _PICTURES_A_SCENE]
        for scene in range(SCENES)
    ]
