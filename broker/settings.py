"""Settings of the broker."""

from __future__ import annotations

from pydantic import Field

from proto.section import Section


class KafkaSettings(Section):
    """The broker."""

    brokers: str = ""
    """HOST:PORT[,HOST:PORT…] of a Kafka cluster. Empty: the stack starts its own broker, in memory."""
    frames_topic: str = Field("frames", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """Topic that carries frames from cameras to stream workers."""
    dead_letters_topic: str = Field("dead-letters", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """Topic that keeps frames that could never be processed, with the reason."""
    group: str = Field("watchword", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """Consumer group of the stream workers."""
    partitions: int = Field(8, ge=1, le=10_000)
    """Partitions of the frames topic when it is created: the most stream workers that can share it."""
    replication: int = Field(1, ge=1, le=9)
    """Copies of each topic when it is created. 3 on a cluster; 1 for the embedded broker."""
    retention_minutes: int = Field(60, ge=1)
    """How long the broker keeps frames, which is how long the stream worker may be down without loss."""
    dead_letters_days: int = Field(7, ge=1)
    """How long the broker keeps dead letters."""
    idempotent: bool = False
    """Idempotent producer. Turn on for Apache Kafka; the embedded broker does not support it."""
    session_s: float = Field(45.0, ge=2, le=60)
    """session.timeout.ms: a stream worker silent for this long loses its partitions. With the embedded broker a new
    worker waits for half of it, so the stack uses a shorter one."""
