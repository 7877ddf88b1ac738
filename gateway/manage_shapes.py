"""What the gateway takes and gives where the house is changed, as typed models: see `proto/v1/manage.proto`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.shapes import Names, Number, Shape
from proto.areas import MOST_AREAS, MOST_CORNERS
from proto.v1 import manage_pb2

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Corner = tuple[Share, Share]
Area = Annotated[list[Corner], Field(min_length=3, max_length=MOST_CORNERS)]
Areas = Annotated[list[Area], Field(max_length=MOST_AREAS)]
GivenNumber = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
_MOST_URL = 2000


class Who(Shape):
    """What the caller may do."""

    name: str
    """The token's name, or anonymous where none is needed."""
    role: str
    """viewer, operator (also changes cameras) or admin (also manages tokens, erases, and reads the audit)."""
    every_camera: bool
    """Whether every camera may be seen, also those that come later."""
    demo: list[str]
    """The demo's clips, where they are installed and the caller may add them."""


class RecordingLimits(BaseModel):
    """How much of a camera's video is kept."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, frozen=True, use_attribute_docstrings=True)

    on: bool = True
    """False: nothing is added; what was recorded stays within these limits."""
    days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = 30.0
    bytes: Annotated[int, Field(ge=1, le=2**53)] = 50_000_000_000


class CameraSettings(Shape):
    """All that can be changed of a camera. Its ETag is for If-Match."""

    name: str
    address: str
    """Without user, password and query, which are never shown again."""
    kind: str
    """file, rtsp, http, hls, mpegts, device or synthetic."""
    watching: bool
    """False when it was removed."""
    enabled: bool
    """False: it is not watched for now."""
    loop: bool
    """Restart a file when it ends."""
    speed: Number
    """How fast a file is replayed; 1 is real time, 0 as fast as it can be read."""
    fps: Number | None
    """Pictures looked at per second; null: as the settings say."""
    novelty: Number | None
    """How much must differ for a picture to be kept, 0 to 1; null: as the settings say."""
    packet_gate: str | None
    """auto or off: whether its packets decide what is decoded of it; null: as the settings say."""
    groups: list[str]
    site: str
    """Where it can be reached from: by camera processes of this site. Empty: by all."""
    masks: list[list[tuple[Number, Number]]]
    """What is blanked in every picture: corners in shares of its width and height."""
    ignored: list[list[tuple[Number, Number]]]
    """Where movement says nothing."""
    unmasked_recording: bool
    """Recordings hold what is masked: allows both together."""
    record: RecordingLimits | None
    """null: it was never recorded."""
    retention_days: Number | None
    """How many days its moments are kept; null: as those of others."""
    others_days: Number | None
    """How many days moments of cameras without a limit of their own are kept; null: for ever."""
    retention_bytes: int | None
    """How many bytes its moments and pictures may take, the oldest go; null: as those of others; 10^15: any amount."""
    others_bytes: int | None
    """How many bytes each camera without a limit of its own may take; null: any amount."""


class CameraChange(BaseModel):
    """What is to be another. What is left out stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: Annotated[str, Field(max_length=_MOST_URL)] = ""
    """Its address: rtsp://…, rtsps://…, http(s)://…; for an admin also a file's whole path, or /dev/video0. Empty: it
    stays."""
    enabled: bool = True
    loop: bool = False
    speed: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1.0
    fps: GivenNumber | None = None
    novelty: GivenNumber | None = None
    packet_gate: Literal["auto", "off"] | None = None
    groups: Names = []
    site: Annotated[str, Field(max_length=64)] = ""
    masks: Areas = []
    ignored: Areas = []
    unmasked_recording: bool = False
    record: RecordingLimits | None = None
    retention_days: GivenNumber | None = None
    retention_bytes: Annotated[int, Field(ge=0, le=10**15)] | None = None
    unchecked: bool = False
    """Take the address also if nothing answers there now."""


class NewCamera(CameraChange):
    """A camera to be watched."""

    url: Annotated[str, Field(min_length=1, max_length=_MOST_URL)]
    """Its address: rtsp://…, rtsps://…, http(s)://…; for an admin also a file's whole path, or /dev/video0."""


class TestSource(BaseModel):
    """Which source to look at."""

    __test__ = False
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: Annotated[str, Field(max_length=_MOST_URL)] = ""
    """Its address; empty: the one that the camera has."""


class StoredCamera(Shape):
    """What is stored of a camera."""

    camera: str
    oldest_ms: int
    """When its oldest moment began; 0: it has none."""
    days: Number
    """How many days its moments are kept; 0: for ever."""
    bytes: int
    """How many bytes its moments and pictures may take; 0: any amount."""
    bytes_days: Number
    """How many days these hold at the rate of the last day; 0: not known."""
    held_below: int
    """How many moments are kept beyond them, since they are held."""


class StorageReply(Shape):
    """What is stored, and what retention removes when."""

    moments: int
    buckets: int
    gone: int
    """Moments that are hidden and wait to be removed; about how many more within a day."""
    gone_tomorrow: int
    disk_free_bytes: int
    disk_bytes: int
    cameras: list[StoredCamera]
    missing: list[str]
    """Parts of the index that did not answer."""


class TokenInfo(Shape):
    """A token, without its secret."""

    id: str
    name: str
    role: str
    cameras: list[str]
    groups: list[str]
    """It may see the cameras that are in these groups, too."""
    every_camera: bool
    created_ms: int
    expires_ms: int
    """0: it does not expire, was not revoked, was never used."""
    revoked_ms: int
    used_ms: int
    counts: bool
    """Whether it is neither revoked nor expired."""


class TokensReply(Shape):
    """All tokens that were ever made."""

    tokens: list[TokenInfo]


class CreatedToken(Shape):
    """A new token. Its secret is shown here and nowhere else."""

    token: TokenInfo
    secret: str


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(max_length=64)]
    role: str
    """viewer, operator, admin or ingest."""
    cameras: Names = []
    """Which cameras it may see; without groups, empty: all."""
    groups: Names = []
    """And those that are in any of these groups at the time."""
    days: GivenNumber = 0.0
    """How long it lasts; 0: until it is revoked."""


class AuditWanted(BaseModel):
    """How much of the audit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    count: int = Field(100, ge=1, le=1000)
    """The latest lines."""
    verify: bool = False
    """Check every chain from its first line."""


class CheckedChain(Shape):
    """A chain of the audit: one process writes it."""

    name: str
    lines: int
    head: str
    """Hash of its last line: note it elsewhere to learn later whether lines were cut off."""
    trouble: str
    """What does not fit; empty when all does."""


class AuditReply(Shape):
    """Who asked what, the latest first."""

    lines: list[dict[str, Any]]
    chains: list[CheckedChain]
    """With `verify`."""


class ErasureInfo(Shape):
    """What was erased. It is hidden from every answer at once, and removed in the background."""

    number: int
    camera: str
    start_ms: int
    end_ms: int
    reason: str
    asked_ms: int
    done_ms: int
    """0 while it is being carried out."""


class ErasuresReply(Shape):
    """The latest first."""

    erasures: list[ErasureInfo]


class NewErasure(BaseModel):
    """What is to be forgotten, for good: [start_ms, end_ms) of a camera."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    camera: str
    start_ms: int = Field(0, ge=0, le=2**53)
    """0: from the beginning."""
    end_ms: int = Field(0, ge=0, le=2**53)
    """0: until now."""
    reason: Annotated[str, Field(max_length=1000)] = ""


class Receipt(BaseModel):
    """A signed receipt: `watchword erase --verify FILE` asks every store again."""

    model_config = ConfigDict(extra="allow")

    number: int


def camera_of(told: manage_pb2.CameraSettings) -> CameraSettings:
    """The settings, from the message."""

    def given(name: str) -> float | None:
        return getattr(told, name) if told.HasField(name) else None  # type: ignore[arg-type]

    record = RecordingLimits.model_validate(told.record) if told.HasField("record") else None
    return CameraSettings(
        name=told.name,
        address=told.address,
        kind=told.kind,
        watching=told.watching,
        enabled=told.enabled,
        loop=told.loop,
        speed=told.speed,
        fps=given("fps"),
        novelty=given("novelty"),
        packet_gate=told.packet_gate if told.HasField("packet_gate") else None,
        groups=list(told.groups),
        site=told.site,
        masks=[_corners(area) for area in told.masks],
        ignored=[_corners(area) for area in told.ignored],
        unmasked_recording=told.unmasked_recording,
        record=record,
        retention_days=given("retention_days"),
        others_days=given("others_days"),
        retention_bytes=told.retention_bytes if told.HasField("retention_bytes") else None,
        others_bytes=told.others_bytes if told.HasField("others_bytes") else None,
    )


def message_of(name: str, change: CameraChange) -> tuple[manage_pb2.CameraSettings, list[str]]:
    """The message that says the change, and which of its fields are given."""
    names = sorted(change.model_fields_set - {"url", "unchecked"})
    told = manage_pb2.CameraSettings(
        name=name,
        enabled=change.enabled,
        loop=change.loop,
        speed=change.speed,
        groups=change.groups,
        site=change.site,
        masks=[_area(area) for area in change.masks],
        ignored=[_area(area) for area in change.ignored],
        unmasked_recording=change.unmasked_recording,
    )
    for field in ("fps", "novelty", "packet_gate", "retention_days", "retention_bytes"):
        if (value := getattr(change, field)) is not None:
            setattr(told, field, value)
    if change.record is not None:
        said = change.record
        told.record.on = said.on
        # What is not said of a recording stays as it was.
        told.record.days = said.days if "days" in said.model_fields_set else 0.0
        told.record.bytes = said.bytes if "bytes" in said.model_fields_set else 0
    return told, names


def _corners(area: manage_pb2.CameraArea) -> list[tuple[float, float]]:
    return list(zip(area.corners[::2], area.corners[1::2], strict=True))


def _area(corners: list[Corner]) -> manage_pb2.CameraArea:
    return manage_pb2.CameraArea(corners=[number for corner in corners for number in corner])
