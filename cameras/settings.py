"""Settings of what is taken from cameras."""

from __future__ import annotations

from pydantic import Field

from proto.section import Section


class CameraSettings(Section):
    """What is taken from cameras."""

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
    open_timeout_s: float = Field(10.0, gt=0)
    """How long opening a source may take."""
    silent_after_s: float = Field(20.0, gt=0)
    """A source that delivers nothing for so long is closed and opened again."""
    retry_most_s: float = Field(30.0, gt=0)
    """Longest pause before a failed source is tried again; the first pause is half a second."""
