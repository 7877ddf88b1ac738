"""One picture of a source, taken by a process of its own.

Whoever may add a camera may have any address opened, and what answers there may be made to harm a decoder. So it is
opened in a child with little time, memory and files, which is killed when it is over; the query service never meets a
byte of it but the JPEG. Which schemes and containers are taken is the same as for cameras (`cameras/source.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from proto.errors import Denied, Invalid, Late, Transient, WatchwordError
from proto.types import Camera

MOST_LOOKS = 2
"""Test pictures taken at once, and as many addresses of cameras that are added or changed: each is a process."""
SIDE = 720
_QUALITY = 85
_MOST_JPEG = 4 * 1024 * 1024
_MOST_MEMORY = 4 * 1024**3
_MOST_CPU_S = 20
_MOST_FILES = 64
_STARTING_S = 10.0
"""How long a busy machine may take to start the child, beyond the time for the source."""
_CAMERA = TypeAdapter(Camera)
_KINDS: dict[str, type[WatchwordError]] = {kind.__name__: kind for kind in (Denied, Invalid, Transient)}


@dataclass(frozen=True, slots=True)
class Look:
    """What a source showed."""

    jpeg: bytes
    width: int
    height: int
    codec: str
    fps: float
    """0 when it does not say."""


async def look(camera: Camera, within_s: float) -> Look:
    """Open the camera, look once, close it. Raises like `cameras.source.probe`, and Late."""
    asked = json.dumps({"camera": _CAMERA.dump_python(camera, mode="json"), "within_s": within_s}).encode()
    # The address is said through the pipe: arguments, and what FFmpeg writes, could be read by others.
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "manage.looking"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(within_s + _STARTING_S):
            head, jpeg = await _said(child, asked)
    except TimeoutError:
        raise Late("the source did not show a picture in time", todo="is it on, and is the address right?") from None
    finally:
        if child.returncode is None:
            # Not `child.kill`, which may reap a child that has ended, and then nobody learns of its end.
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    if kind := head.get("error"):
        raise _KINDS[kind](str(head["message"]), todo=str(head["todo"]))
    return Look(jpeg, int(head["width"]), int(head["height"]), str(head["codec"]), float(head["fps"]))


async def _said(child: asyncio.subprocess.Process, asked: bytes) -> tuple[dict[str, Any], bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(ConnectionError):
        child.stdin.write(asked)
        await child.stdin.drain()
    child.stdin.close()
    said = bytearray()
    while len(said) <= _MOST_JPEG and (part := await child.stdout.read(64 * 1024)):
        said += part
    head, _, jpeg = bytes(said).partition(b"\n")
    if len(said) > _MOST_JPEG or not head:
        todo = "have the camera send H.264 or H.265 of a usual size"
        raise Invalid("the source shows nothing that can be looked at within bounds", todo=todo)
    return json.loads(head), jpeg


def main() -> None:
    """The child."""
    for what, most in (
        (resource.RLIMIT_AS, _MOST_MEMORY),
        (resource.RLIMIT_CPU, _MOST_CPU_S),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # each of its threads would take a share of the memory
    asked = json.loads(sys.stdin.buffer.read())
    head, jpeg = _looked(_CAMERA.validate_python(asked["camera"]), float(asked["within_s"]))
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + jpeg)
    sys.stdout.buffer.flush()


def _looked(camera: Camera, within_s: float) -> tuple[dict[str, Any], bytes]:
    from cameras.source import probe

    try:
        info, picture = probe(camera, within_s)
        jpeg = picture.jpeg(min(SIDE, *picture.size), _QUALITY)
    except WatchwordError as error:
        kind = next((name for name, one in _KINDS.items() if isinstance(error, one)), "Transient")
        return {"error": kind, "message": error.message, "todo": error.todo}, b""
    told = asdict(info)
    return {"width": told["width"], "height": told["height"], "codec": told["codec"], "fps": told["fps"] or 0.0}, jpeg


if __name__ == "__main__":
    main()
