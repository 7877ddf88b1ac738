"""What an installation needs: pure arithmetic from a measured profile and from what is asked for.

Work is in seconds of processor time for each thing done, so it holds on a busy machine and adds up over processes.
Where the encoder runs on a GPU its work is counted in pictures a second instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from proto.section import Section

VERSION = 1
_DAY_S = 86_400
_GB = 1e9
_VECTOR_MEMORY = 1.3
"""Memory of a row in Milvus as a multiple of its vector: the index's links, ids and fields of the filters."""
_MOST_ROWS_A_SHARD = 50_000_000
_PARTITIONS_A_WORKER = 2
"""So that workers can be added, and one that fails is taken over by several."""
_SPREAD_PARTITIONS = 8


class Profile(Section):
    """What things cost on a kind of machine. `watchword plan --save` writes one."""

    version: int = Field(VERSION, ge=VERSION, le=VERSION)
    """Of this format."""
    machine: str = "2 cores, x86-64"
    """The processor, for people."""
    cores: int = Field(2, ge=1)
    """Cores of one machine."""
    memory_bytes: int = Field(16_000_000_000, ge=1)
    """Memory of one machine."""
    measured: tuple[str, ...] = ()
    """The fields that were measured on this machine; the others are defaults."""

    engine: str = "onnxruntime"
    """What runs the model."""
    on_gpu: bool = False
    """Whether that is a GPU: then `pictures_per_s` counts, not `picture_s`."""
    dimension: int = Field(512, ge=1)
    """Numbers of a vector."""
    picture_s: float = Field(0.021, gt=0)
    """Processor time of one picture in the encoder worker, JPEG in, vector out."""
    pictures_per_s: float = Field(80.0, gt=0)
    """Pictures a second that one engine does by the clock."""
    encoder_idle: float = Field(0.02, ge=0)
    """Cores that one encoder worker uses however few pictures come."""
    looks_per_frame: float = Field(0.5, ge=0)
    """Further pictures' worth of work for regions, for each frame; at most 1 (the budget of stream/regions.py)."""

    source_fps: float = Field(25.0, gt=0)
    """Pictures a second that a camera sends: all are decoded."""
    source_bytes_per_s: float = Field(250_000.0, gt=0)
    """Bytes a second that a camera sends, which is what recordings take."""
    decode_s: float = Field(0.0015, ge=0)
    """Processor time of decoding one of them."""
    look_s: float = Field(0.0009, ge=0)
    """Processor time of looking at one picture."""
    keep_s: float = Field(0.0035, ge=0)
    """Processor time of one that is kept: frame and parts."""
    kept_share: float = Field(0.3, ge=0, le=1)
    """The share of pictures looked at that are kept."""
    frame_bytes: float = Field(30_000.0, gt=0)
    """Bytes of a record in the broker: the picture and its parts."""

    broker_idle: float = Field(0.03, ge=0)
    """Cores that the broker uses however few frames come: workers ask it for more."""
    broker_s: float = Field(0.0004, ge=0)
    """Processor time of the broker for one frame, in and out."""
    stream_idle: float = Field(0.03, ge=0)
    """Cores that one stream worker uses however few frames come."""
    stream_s: float = Field(0.003, ge=0)
    """Processor time of the stream worker for one frame."""
    moments_per_frame: float = Field(0.2, ge=0, le=1)
    """Moments that begin, for each frame kept."""
    writes_per_moment: float = Field(2.0, ge=1)
    """How often a moment is written until it is closed."""
    rows_per_moment: float = Field(2.0, ge=1, le=5)
    """Rows of a moment: its whole picture and its regions."""
    row_write_s: float = Field(0.001, ge=0)
    """Processor time of the index for one row written."""
    index_idle: float = Field(0.15, ge=0)
    """Cores that one Milvus uses however few rows come."""
    row_bytes: float = Field(2_600.0, gt=0)
    """Bytes on disk of a row."""
    pictures_bytes: float = Field(25_000.0, ge=0)
    """Bytes of a moment's pictures in the object store."""
    process_idle: float = Field(0.02, ge=0)
    """Cores that each other process of ours uses however little there is to do."""


class Wanted(Section):
    """What is asked for."""

    cameras: int = Field(ge=1, le=1_000_000)
    """Cameras."""
    fps: float = Field(2.0, gt=0, le=60)
    """Pictures looked at per second and camera: `camera.fps`."""
    retention_days: float = Field(30.0, gt=0, le=3650)
    """Moments of how long are stored: `watchword retention`."""
    recordings_days: float = Field(0.0, ge=0, le=3650)
    """How long recordings are kept, if they are."""
    kafka_minutes: float = Field(60.0, gt=0)
    """How long the broker keeps frames: `kafka.retention_minutes`."""
    replication: int = Field(1, ge=1, le=9)
    """Copies of each frame and of each row: `kafka.replication`."""
    busy_share: float = Field(1.0, gt=0, le=1)
    """The share of the day in which cameras see as much as in the profile."""
    utilisation: float = Field(0.7, gt=0, le=1)
    """How busy processors may be in a busy hour; the rest is for bursts and for a machine that fails."""


@dataclass(frozen=True, slots=True)
class Need:
    """One line of the plan."""

    what: str
    amount: float
    unit: str
    because: str


@dataclass(frozen=True, slots=True)
class Cores:
    """Processor time a second, on average in a busy hour, by part. Without headroom."""

    cameras: float
    broker: float
    encoder: float
    stream: float
    index: float

    @property
    def total(self) -> float:
        return self.cameras + self.broker + self.encoder + self.stream + self.index


@dataclass(frozen=True, slots=True)
class Flow:
    """What comes and what is stored."""

    looked_per_s: float
    frames_per_s: float
    frame_bytes_per_s: float
    pictures_per_s: float
    """What the encoder does, in pictures."""
    moments_per_s: float
    rows_per_s: float
    """Rows that are written, again and again ones too."""
    rows: float
    """Rows that are stored at the end of the retention."""
    moments: float


def flow(profile: Profile, wanted: Wanted) -> Flow:
    """What comes in a busy hour, and what has been stored at the end of the retention."""
    looked = wanted.cameras * wanted.fps
    frames = looked * profile.kept_share
    moments = frames * profile.moments_per_frame
    stored = moments * wanted.busy_share * wanted.retention_days * _DAY_S
    return Flow(
        looked_per_s=looked,
        frames_per_s=frames,
        frame_bytes_per_s=frames * profile.frame_bytes,
        pictures_per_s=frames * (1 + profile.looks_per_frame),
        moments_per_s=moments,
        rows_per_s=moments * profile.writes_per_moment * profile.rows_per_moment,
        rows=stored * profile.rows_per_moment,
        moments=stored,
    )


def cores(profile: Profile, wanted: Wanted, shards: int = 1) -> Cores:
    """The processor time that each part uses, in cores."""
    found = flow(profile, wanted)
    sources = wanted.cameras * profile.source_fps * profile.decode_s
    encoder = 0.0 if profile.on_gpu else found.pictures_per_s * profile.picture_s
    return Cores(
        cameras=sources
        + found.looked_per_s * profile.look_s
        + found.frames_per_s * profile.keep_s
        + profile.process_idle,
        broker=found.frames_per_s * profile.broker_s + profile.broker_idle,
        encoder=encoder + profile.encoder_idle,
        stream=found.frames_per_s * profile.stream_s + profile.stream_idle,
        index=found.rows_per_s * profile.row_write_s + shards * profile.index_idle,
    )


def shards_for(profile: Profile, wanted: Wanted) -> int:
    """How many Milvus: by memory, with half of a machine's for each, and by rows."""
    memory = _index_memory(profile, flow(profile, wanted).rows)
    by_memory = math.ceil(memory / (0.5 * profile.memory_bytes))
    return max(1, by_memory, math.ceil(flow(profile, wanted).rows / _MOST_ROWS_A_SHARD))


def plan(profile: Profile, wanted: Wanted) -> list[Need]:
    """What is needed, line by line."""
    found, shards = flow(profile, wanted), shards_for(profile, wanted)
    used = cores(profile, wanted, shards)
    return [
        *_broker(profile, wanted, found, used),
        *_encoders(profile, wanted, found, used),
        *_index(profile, wanted, found, shards),
        *_processors(profile, wanted, used),
    ]


def _broker(profile: Profile, wanted: Wanted, found: Flow, used: Cores) -> Iterator[Need]:
    workers = _machines(used.stream, wanted, 1.0)
    partitions = max(_SPREAD_PARTITIONS, _PARTITIONS_A_WORKER * workers)
    yield Need(
        "frames", found.frames_per_s, "a second", f"{profile.kept_share:.0%} of {found.looked_per_s:g} looked at"
    )
    because = f"{profile.frame_bytes:,.0f} bytes each, times {wanted.replication} when copied"
    yield Need("Kafka in", found.frame_bytes_per_s / 1e6, "MB/s", because)
    kept = found.frame_bytes_per_s * wanted.kafka_minutes * 60 * wanted.replication
    yield Need("Kafka disk", kept / _GB, "GB", f"{wanted.kafka_minutes:g} minutes, {wanted.replication} copies")
    yield Need("stream workers", workers, "", "one thread each: at most one core")
    yield Need("partitions", partitions, "", f"{_PARTITIONS_A_WORKER} a worker, {_SPREAD_PARTITIONS} at least")


def _encoders(profile: Profile, wanted: Wanted, found: Flow, used: Cores) -> Iterator[Need]:
    because = f"each frame, and {profile.looks_per_frame:g} pictures' worth of regions"
    yield Need("pictures to embed", found.pictures_per_s, "a second", because)
    if profile.on_gpu:
        count = _machines(found.pictures_per_s / profile.pictures_per_s, wanted, 1.0)
        yield Need("GPUs", count, "", f"{profile.pictures_per_s:g} pictures a second each ({profile.engine})")
        return
    count = _machines(used.encoder, wanted, profile.cores)
    yield Need("encoder workers", count, f"of {profile.cores} cores", f"{profile.picture_s * 1000:.1f} ms a picture")


def _index(profile: Profile, wanted: Wanted, found: Flow, shards: int) -> Iterator[Need]:
    memory = _index_memory(profile, found.rows)
    per_moment = f"{profile.rows_per_moment:g} rows a moment, {wanted.retention_days:g} days"
    yield Need("rows stored", found.rows, "", f"{found.moments_per_s:.3g} moments a second, {per_moment}")
    yield Need(
        "Milvus shards", shards, "", f"half of {profile.memory_bytes / _GB:.0f} GB for vectors, or 50 million rows"
    )
    yield Need("Milvus memory", memory / _GB, "GB", f"{profile.dimension} numbers of 4 bytes, times {_VECTOR_MEMORY}")
    disk = found.rows * profile.row_bytes * wanted.replication
    yield Need("Milvus disk", disk / _GB, "GB", f"{profile.row_bytes:,.0f} bytes a row, {wanted.replication} copies")
    pictures = found.moments * profile.pictures_bytes
    yield Need("pictures disk", pictures / _GB, "GB", f"{profile.pictures_bytes:,.0f} bytes a moment")
    if wanted.recordings_days:
        recorded = wanted.cameras * profile.source_bytes_per_s * wanted.recordings_days * _DAY_S
        because = f"{profile.source_bytes_per_s * 8 / 1e6:.1f} Mbit/s a camera, {wanted.recordings_days:g} days"
        yield Need("recordings disk", recorded / _GB, "GB", because)


def _processors(profile: Profile, wanted: Wanted, used: Cores) -> Iterator[Need]:
    parts = (
        (
            "camera processes",
            used.cameras,
            f"{profile.source_fps:g} pictures a second decoded, {wanted.fps:g} looked at",
        ),
        ("broker", used.broker, f"{profile.broker_s * 1e6:.0f} us a frame"),
        (
            "encoder workers",
            used.encoder,
            "on GPUs" if profile.on_gpu else f"{profile.picture_s * 1000:.1f} ms a picture",
        ),
        ("stream workers", used.stream, f"{profile.stream_s * 1000:.1f} ms a frame"),
        ("Milvus", used.index, f"{profile.row_write_s * 1000:.1f} ms a row, {profile.index_idle:g} in any case"),
    )
    for name, amount, because in parts:
        yield Need(f"cores: {name}", amount, "", because)
    yield Need("cores in use", used.total, "", "the sum")
    because = f"at {wanted.utilisation:.0%} busy; questions come on top"
    yield Need("cores to have", used.total / wanted.utilisation, "", because)
    yield Need("cores a camera", used.total / wanted.utilisation / wanted.cameras, "", because)


def _machines(work: float, wanted: Wanted, each: float) -> int:
    return max(1, math.ceil(work / wanted.utilisation / each))


def _index_memory(profile: Profile, rows: float) -> float:
    return rows * profile.dimension * 4 * _VECTOR_MEMORY
