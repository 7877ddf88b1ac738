"""Settings of what is taken from cameras."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proto.section import Section
from proto.types import CAMERA_NAME, Camera


class CameraSettings(Section):
    """What is taken from cameras."""

    site: str = Field("", pattern=f"^({CAMERA_NAME.pattern})?$")
    """Where this camera process is, such as `north`: it watches cameras of this site (`watchword camera set NAME --site
    north`) and those of none. Empty: only those of none."""
    processes: int = Field(1, ge=1, le=64)
    """So many camera processes `watchword up` runs; they share the cameras by what these cost. One holds about as many
    as a core decodes; with several, a decoder that crashes takes only the cameras of its process along."""
    fps: float = Field(2.0, gt=0, le=60)
    """Pictures looked at per second and camera. More finds shorter events and costs encoder time."""
    novelty: float = Field(0.02, ge=0, le=1)
    """A picture that differs less than this from the last one kept is not sent, unless something small arrived in it
    (see `crops`). 0 sends all."""
    heartbeat_s: float = Field(10.0, gt=0)
    """A picture is sent at least this often, however little changes."""
    jpeg_quality: int = Field(88, ge=30, le=100)
    """Quality of the pictures sent."""
    crops: int = Field(3, ge=0, le=3)
    """At most so many parts of a picture in which something moved are sent with it, cut out at the source's own
    resolution. Fewer make smaller records. 0 sends none, and something small that arrives is then no reason to send a
    picture."""
    packet_gate: Literal["auto", "off"] = "auto"
    """auto: while the sizes of a live camera's packets say that nothing moves, only key frames are decoded. off: all of
    it is decoded, which costs up to twenty times as much."""
    packet_heartbeat_s: float = Field(15.0, gt=0)
    """However quiet its packets are, a picture of a camera is decoded at least this often. Cameras whose key frames lie
    further apart are decoded as a whole. With `heartbeat_s` it must stay below `stream.silent_s`."""
    open_timeout_s: float = Field(10.0, gt=0)
    """How long opening a source may take."""
    silent_after_s: float = Field(20.0, gt=0)
    """A source that delivers nothing for so long is closed and opened again."""
    retry_most_s: float = Field(30.0, gt=0)
    """Longest pause before a failed source is tried again; the first pause is half a second."""


def settings_for(settings: CameraSettings, camera: Camera) -> CameraSettings:
    """The settings as they are for this camera, which may have some of its own."""
    own = {"fps": camera.fps, "novelty": camera.novelty, "packet_gate": camera.packet_gate}
    return settings.model_copy(update={name: value for name, value in own.items() if value is not None})


class RecordingSettings(Section):
    """Recordings. Which cameras are recorded, and how much of each is kept, is said per camera
    (`watchword recording set`)."""

    most_bytes: int = Field(0, ge=0)
    """All recordings of this machine, of all its camera processes, take at most so many bytes; when they would take
    more, the oldest go. 0: each camera's own limit is all."""
    keep_free_bytes: int = Field(2_000_000_000, ge=0)
    """So much of the disk stays free, for the index and the catalog: where less is free, the oldest recordings go."""
    segment_s: float = Field(60.0, ge=2, le=600)
    """A file holds about so much. What goes, goes by whole files."""
    queue_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024)
    """A disk that is behind is waited for with so much video in memory, of all cameras; then video is lost, and said to
    be. Pictures that are looked at never wait for the disk."""
