"""A camera process with one camera whose decoder crashes: `python -m tests.cameras.crashing_process FOLDER`."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cameras.black_box import BlackBox
from cameras.holder import new_holder
from cameras.picture import Picture
from cameras.source import Resume
from proto.types import Camera, now_ms
from tests.cameras.rig import Facts, Register, Sink, hosting, scripted

CAMERAS = [Camera(name, f"rtsp://host/{name}") for name in ("bad", "dock", "gate", "yard")]


def pictures(camera: Camera, settings: object, stop: object, resume: Resume | None) -> Iterator[Picture]:
    """A picture every 50 ms; those of "bad" end in a read of address 0."""
    for number in range(1_000_000):
        yield scripted(number, captured_ms=now_ms())
        if camera.name == "bad" and number == 2:
            ctypes.string_at(0)
        time.sleep(0.05)


async def run(folder: Path) -> None:
    """Watch until killed."""
    box = BlackBox(folder / "crashes")
    box.open()
    async with hosting(
        Register(*CAMERAS),
        Sink(),
        Facts(folder),
        holder=new_holder(),
        pictures=pictures,
        left_behind=box.left_behind,
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(run(Path(sys.argv[1])))
