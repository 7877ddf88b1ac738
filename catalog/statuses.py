"""How each camera is doing, as the process that watches it told last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from catalog.store import Catalog
from catalog.tables import STATUSES
from proto.types import Camera

STALE_MS = 30_000
"""A status is told at least every third of this while a camera is watched."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How one camera is doing. Numbers are 0 where they are not known."""

    camera: str
    state: str
    """connecting: no picture yet. live. silent: no picture comes, and the source says nothing is wrong. failing: it
    cannot be read, see `why`. done: a file that came to its end. Said by who reads it: disabled, removed, and unknown:
    no process tells of it."""
    since_ms: int
    """Since when it is in this state, by the wall clock."""
    told_ms: int
    """When this was told."""
    why: str = ""
    fps_wanted: float = 0.0
    fps_got: float = 0.0
    """Pictures looked at per second, over the last half minute."""
    fps_kept: float = 0.0
    """Of these, the ones that were sent."""
    width: int = 0
    height: int = 0
    codec: str = ""
    source_fps: float = 0.0
    """Pictures per second that the camera sends."""
    bits_per_second: int = 0
    gop_frames: int = 0
    """Pictures from one key frame to the next."""
    clock_ahead_ms: int | None = None
    """How far its own clock is ahead of the machine's that watches it; None where it does not tell."""
    failures: int = 0
    lost: int = 0
    """Frames that never reached the broker."""
    advice: tuple[str, ...] = ()
    """What would make it better, in sentences."""
    decoded_share: float = 1.0
    """The share of its packets that were decoded lately."""
    gate: str = "off"
    """What its packet gate is doing. off: all is decoded. learning: all is decoded, until packets are known. gating:
    nothing moves, and key frames are decoded. open: something moves, and all is decoded. intra: every picture is a key
    frame, and those looked at are decoded. unable: all is decoded, see `gate_why`."""
    gate_why: str = ""
    cost: float = 0.0
    """Processor time that it takes, in cores, over the last minutes: decoding, looking at pictures, and cutting."""
    watched_by: str = ""
    """Host and process that watch it."""

    @property
    def gop_s(self) -> float:
        """Seconds from one key frame to the next."""
        return self.gop_frames / self.source_fps if self.source_fps else 0.0


_STATUS = TypeAdapter(CameraStatus)


class Statuses:
    """The status of every camera that was ever watched. All methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def all(self) -> dict[str, CameraStatus]:
        """By camera. What a later Watchword wrote and this one cannot read is left out."""
        found = {}
        with self._catalog.reading() as connection:
            rows = connection.execute(select(STATUSES.c.camera, STATUSES.c.status)).all()
        for camera, status in rows:
            try:
                found[camera] = _STATUS.validate_json(status)
            except ValidationError:
                continue
        return found

    def put_statuses(self, statuses: Iterable[CameraStatus]) -> None:
        """Replace the status of each of these cameras, in one transaction."""
        rows = [
            {
                "camera": one.camera,
                "told_ms": one.told_ms,
                "status": _STATUS.dump_json(one).decode(),
                "cost": one.cost,
            }
            for one in statuses
        ]
        with self._catalog.writing() as connection:
            self._catalog.put(connection, STATUSES, rows)


def status_now(camera: Camera, statuses: Mapping[str, CameraStatus], now_ms: int) -> CameraStatus:
    """How the camera is doing, to be shown at `now_ms`: what was told, unless the registry or the clock say else."""
    told = statuses.get(camera.name)
    where = f" at {camera.site}" if camera.site else ""
    never = f"no camera process watches it yet: is one running{where}?"
    status = told or CameraStatus(camera.name, "unknown", 0, 0, never)
    if not camera.watching or not camera.enabled:
        state = "disabled" if camera.watching else "removed"
        return CameraStatus(camera.name, state, 0, status.told_ms)
    if told is not None and now_ms - told.told_ms > STALE_MS:
        return replace(
            _without_rates(told), state="unknown", since_ms=told.told_ms, why="no camera process tells of it any more"
        )
    return status


def fields_of(status: CameraStatus) -> dict[str, Any]:
    """The status for programs."""
    return {**{key: value for key, value in asdict(status).items() if key != "camera"}, "gop_s": round(status.gop_s, 2)}


def _without_rates(status: CameraStatus) -> CameraStatus:
    return replace(
        status,
        fps_got=0.0,
        fps_kept=0.0,
        bits_per_second=0,
        advice=(),
        decoded_share=1.0,
        gate="off",
        gate_why="",
        cost=0.0,
        watched_by="",
    )
