"""Plans topics: compares those that the settings want with those that exist. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from broker.settings import KafkaSettings

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""The largest record sent; the frames topic is created with this limit."""

_GROWN = (
    "Afterwards some cameras go to another partition: frames that still wait in the old one may be looked at after "
    "newer ones, and an open moment of such a camera ends. Nothing is lost. Best done while few frames wait; stream "
    "workers pick up new partitions by themselves."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as the settings want it."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """A topic on the broker."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    """Effective config, wherever it was set."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Config set for this topic only."""


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One change to make, or one that cannot be made here."""

    topic: Wanted
    kind: Literal["create", "grow", "configure", "cannot"]
    what: str
    """A sentence for the operator."""


def wanted_topics(settings: KafkaSettings) -> tuple[Wanted, Wanted]:
    """The frames topic and the dead-letters topic."""
    retention_ms = settings.retention_minutes * 60_000
    frames = {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        # Retention deletes only closed segments, so they must close much sooner.
        "segment.ms": str(max(60_000, retention_ms // 6)),
        "max.message.bytes": str(MAX_RECORD_BYTES),
        # Records carry the broker's time, so that retention and the stream worker use its clock and not that of the
        # camera's machine. The embedded Tansu accepts the setting but keeps the sender's time.
        "message.timestamp.type": "LogAppendTime",
    }
    letters = {
        # Compacted: a letter written again replaces the first, and a tombstone removes one.
        "cleanup.policy": "compact,delete",
        "retention.ms": str(settings.dead_letters_days * 24 * 3_600_000),
        "max.message.bytes": str(2 * MAX_RECORD_BYTES),
    }
    return (
        Wanted(settings.frames_topic, settings.partitions, settings.replication, frames),
        # There are few letters, and people read them: one partition keeps them in order.
        Wanted(settings.dead_letters_topic, 1, settings.replication, letters),
    )


def plan(wanted: Sequence[Wanted], found: Mapping[str, ExistingTopic]) -> list[TopicChange]:
    """The changes, in order."""
    changes: list[TopicChange] = []
    for topic in wanted:
        there = found.get(topic.name)
        if there is None:
            what = f"create it with {topic.partitions} partitions, {topic.replication} copies each"
            changes.append(TopicChange(topic, "create", what))
            continue
        changes += _about_partitions(topic, there)
        if topic.replication != there.replication:
            what = f"{there.replication} copies stay, not {topic.replication}: use kafka-reassign-partitions"
            changes.append(TopicChange(topic, "cannot", what))
        differing = [
            f"{name} from {there.config.get(name, 'unknown')} to {value}"
            for name, value in topic.config.items()
            if not _same(there.config.get(name), value)
        ]
        if differing:
            changes.append(TopicChange(topic, "configure", "set " + "; ".join(differing)))
    return changes


def _about_partitions(topic: Wanted, there: ExistingTopic) -> list[TopicChange]:
    if topic.partitions > there.partitions:
        what = f"grow from {there.partitions} to {topic.partitions} partitions. {_GROWN}"
        return [TopicChange(topic, "grow", what)]
    if topic.partitions < there.partitions:
        what = f"{there.partitions} partitions stay, not {topic.partitions}: partitions only grow"
        return [TopicChange(topic, "cannot", what)]
    return []


def _same(found: str | None, wanted: str) -> bool:
    """Lists, such as cleanup.policy, may come in any order."""
    return found is not None and sorted(found.split(",")) == sorted(wanted.split(","))
