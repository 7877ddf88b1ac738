"""Settings of cameras, of the broker, and of the stream worker."""

from __future__ import annotations

from typing import Literal

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
    """How long frames stay in the broker: how long the stream worker may be away without loss."""
    dead_letters_days: int = Field(7, ge=1)
    """How long dead letters stay in the broker: how long a person has to look at them."""
    idempotent: bool = False
    """Idempotent producer. Turn on for Apache Kafka; the embedded broker does not know it."""
    session_s: float = Field(45.0, ge=2, le=60)
    """A stream worker that is not heard of for so long loses its partitions. The embedded broker lets a new worker
    wait for half of it, so the stack uses less there."""


class CameraSettings(Section):
    """What is taken from cameras."""

    fps: float = Field(2.0, gt=0, le=60)
    """Pictures looked at per second and camera. More finds shorter events and costs encoder time."""
    novelty: float = Field(0.02, ge=0, le=1)
    """A picture that differs less than this from the last one kept is not sent. 0 sends all."""
    heartbeat_s: float = Field(10.0, gt=0)
    """A picture is sent at least this often, however little changes."""
    jpeg_quality: int = Field(88, ge=30, le=100)
    """Quality of the pictures sent."""
    open_timeout_s: float = Field(10.0, gt=0)
    """How long opening a source may take."""
    silent_after_s: float = Field(20.0, gt=0)
    """A source that delivers nothing for so long is closed and opened again."""
    retry_most_s: float = Field(30.0, gt=0)
    """Longest pause before a failed source is tried again; the first pause is half a second."""


class StreamSettings(Section):
    """The stream worker: frames in, stored moments out."""

    batch_frames: int = Field(16, ge=1, le=1024)
    """Most frames sent to the encoder at once."""
    batch_wait_ms: float = Field(40.0, ge=0, le=5000)
    """How long the first frame of a batch waits for company."""
    scene_change: float = Field(0.15, gt=0, le=2)
    """The least distance (1 - cosine) between a frame and its moment's mean that can be another scene. How much more
    it takes follows from how restless the moment is."""
    shortest_s: float = Field(1.5, ge=0)
    """A moment shorter than this ends only at a plain cut."""
    busy_most_s: float = Field(10.0, gt=0)
    """Longest moment while things change."""
    still_most_s: float = Field(300.0, gt=0)
    """Longest moment while nothing does."""
    gap_s: float = Field(25.0, gt=0)
    """A pause longer than this between two frames of a camera ends its moment."""
    silent_s: float = Field(30.0, gt=0)
    """A camera that sent nothing for so long, by the clock, has its moment closed."""
    refresh_s: float = Field(3.0, gt=0)
    """An open moment is written again at most this often, so that its end stays true; at once when much is new."""
    catch_up: Literal["all", "newest"] = "all"
    """What a worker that is behind does: look at all frames, or skip those older than `behind_s`. Skipped frames are
    counted, and declared in the dead-letters topic."""
    behind_s: float = Field(60.0, gt=0)
    """With catch_up = "newest": a frame that was published longer ago than this is skipped."""
    refusals: int = Field(5, ge=1)
    """A picture that the encoder refused so many times, while it takes others, goes to the dead letters."""
    letters_per_minute: int = Field(120, ge=0)
    """Dead letters that keep their record whole. More than so many a minute keep only origin and reason."""
    stalled_s: float = Field(60.0, gt=0)
    """A worker in which frames, commits or the group stand still for so long ends, so that it is started again."""
    instance: str = ""
    """Static group membership: a stable name of this worker, so that a restart moves no partitions."""
