"""Live cameras of a drill: pictures over HTTP as parts of one multipart reply, as cheap network cameras send them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import simplejpeg
from aiohttp import web

from watchword.stack.ports import HOST, Port

FPS = 5
SCENE_S = 4
_BOUNDARY = "picture"
_SIZE = (96, 160)


@asynccontextmanager
async def live_cameras(address: str = HOST) -> AsyncIterator[str]:
    """Serves any number of cameras: URL/NAME is one. Gives the URL."""

    async def film(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"})
        await reply.prepare(request)
        seed = sum(request.match_info["name"].encode())
        with contextlib.suppress(ConnectionError):  # whoever watched went away
            for number in itertools.count():
                jpeg = _picture(seed + number // (FPS * SCENE_S), number)
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                await reply.write(head.encode() + jpeg + b"\r\n")
                await asyncio.sleep(1 / FPS)
        return reply

    app = web.Application()
    app.add_routes([web.get("/{name}", film)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = Port(host=address)
    await web.TCPSite(runner, address, port.settle()).start()
    try:
        yield f"http://{address}:{port.number}"
    finally:
        await runner.cleanup()


def _picture(scene: int, number: int) -> bytes:
    """A scene, with a bright bar that moves, so that no picture is like the one before."""
    random = np.random.default_rng(scene)
    height, width = _SIZE
    patches = random.integers(20, 200, (height // 16, width // 16, 3)).repeat(16, 0).repeat(16, 1)
    left = number * 8 % (width - 16)
    patches[:, left : left + 16] = 240
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(patches.astype(np.uint8)), quality=85))
