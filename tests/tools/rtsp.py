"""A real RTSP server, GStreamer's of Debian, that sends a clip as a camera would: live, again and again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's bindings are for Debian's Python."""
_PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
"""What it needs of Debian."""


@contextmanager
def rtsp_camera(clip: Path) -> Iterator[str | None]:
    """The address of a camera that sends this H.264 clip; None where there is no server (_PACKAGES)."""
    if not Path(_SYSTEM_PYTHON).exists():
        yield None
        return
    server = subprocess.Popen(
        [_SYSTEM_PYTHON, "-I", __file__, str(clip)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip() or None
    finally:
        server.kill()
        server.communicate()


def serve(clip: str) -> None:
    """Serve until killed, or until standard input ends."""
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    factory = GstRtspServer.RTSPMediaFactory(shared=False)
    factory.set_launch(
        f'( filesrc location="{clip}" ! qtdemux ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 )'
    )
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    serve(sys.argv[1])
