"""A real RTSP server, GStreamer's of Debian, that sends clips as cameras would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's bindings are for Debian's Python."""
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
"""What it needs of Debian."""


@contextmanager
def rtsp_camera(clip: Path) -> Iterator[str | None]:
    """The address of a camera that sends this H.264 clip; None where there is no server (PACKAGES)."""
    with rtsp_cameras([clip]) as addresses:
        yield addresses[0] if addresses else None


@contextmanager
def rtsp_cameras(clips: Sequence[Path]) -> Iterator[list[str]]:
    """The addresses of cameras that send these MP4s, H.265 where the name ends in .h265.mp4; none where there is no
    server (PACKAGES)."""
    if not Path(_SYSTEM_PYTHON).exists():
        yield []
        return
    server = subprocess.Popen(
        [_SYSTEM_PYTHON, "-I", __file__, *map(str, clips)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()
    finally:
        server.kill()
        server.communicate()


def serve(clips: Sequence[str]) -> None:
    """Serve until killed, or until standard input ends."""
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    for number, clip in enumerate(clips):
        codec = "h265" if clip.endswith(".h265.mp4") else "h264"
        factory = GstRtspServer.RTSPMediaFactory(shared=False)
        factory.set_launch(
            f'( filesrc location="{clip}" ! qtdemux ! {codec}parse config-interval=-1 ! rtp{codec}pay name=pay0 pt=96 )'
        )
        server.get_mount_points().add_factory(f"/live{number}", factory)
    server.attach(None)
    port = server.get_bound_port()
    print(*(f"rtsp://127.0.0.1:{port}/live{number}" for number in range(len(clips))), flush=True)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    serve(sys.argv[1:])
