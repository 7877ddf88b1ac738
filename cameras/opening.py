"""How an address is opened: which container, which protocols, and what else it may reach. Pure.

What an address may reach is closed down twice: a whitelist of protocols per kind of source, and its container, or a
whitelist of containers. A playlist is a list of further addresses, so a "video" that is one could read any file of this
machine, or call hosts inside its network. So playlists are taken as HLS over HTTP only, where `cameras/same_host.py`
opens each address that they name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cameras.address import PICTURES, Kind, kind_of
from cameras.same_host import SameHost
from proto.errors import Invalid

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,h264,hevc,m4v,mjpeg,mpjpeg,ivf,gif"
_SYNTHETIC = re.compile(r"synthetic:(?:(\d{2,4})x(\d{2,4}))?(?:@(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Opening:
    """What PyAV is asked to open, and how."""

    address: str
    format: str | None
    options: dict[str, str]
    playlist: SameHost | None = None
    """Opens the address and what it names; None: FFmpeg opens the address, and nothing else."""
    kind: Kind = field(kw_only=True)


def opening_of(url: str, file: Path | None, open_s: float, read_s: float) -> Opening:
    """How to open the address; `file` is the file that it names, where it names one. Invalid when it cannot be."""
    kind = kind_of(url)
    match kind:
        case "file":
            picture = PICTURES.get("" if file is None else file.suffix.lower())
            options = {"protocol_whitelist": "file", "format_whitelist": picture or CONTAINERS}
            return Opening(str(file), picture, options, kind=kind)
        case "rtsp":
            transport = "udp" if url.lower().startswith("rtsp+udp:") else "tcp"
            address = f"rtsp{url[len('rtsp+udp') :]}" if transport == "udp" else url
            options = {"protocol_whitelist": "rtsp,rtsps,rtp,srtp,tcp,tls,udp,crypto", "rtsp_transport": transport}
            return Opening(address, "rtsp", options, kind=kind)
        case "http":
            options = {"protocol_whitelist": "http,https,tcp,tls", "format_whitelist": CONTAINERS}
            return Opening(url, None, {**options, "max_redirects": "0"}, kind=kind)
        case "hls":
            options = {
                "protocol_whitelist": "http,https,tcp,tls",
                "format_whitelist": "hls,mpegts,mov",
                # Connections that are kept are FFmpeg's own, and it would open them itself.
                "http_persistent": "0",
                "http_multiple": "0",
            }
            return Opening(url, "hls", options, SameHost(url, open_s, read_s), kind=kind)
        case "mpegts":
            scheme = url.split("://", 1)[0].lower()
            return Opening(url, "mpegts", {"protocol_whitelist": scheme}, kind=kind)
        case "device":
            return Opening(url, "v4l2", {"protocol_whitelist": "file"}, kind=kind)
        case "synthetic":
            return Opening(_synthetic(url), "lavfi", {"protocol_whitelist": ""}, kind=kind)


def _synthetic(url: str) -> str:
    """The words of the address never reach FFmpeg, whose filters can open files."""
    found = _SYNTHETIC.fullmatch(url)
    if found is None or 0 in (int(found[1] or 16), int(found[2] or 16), int(found[3] or 1)):
        raise Invalid(f"{url[:40]!r} is no made up camera", todo="write synthetic: or synthetic:640x360@10")
    width, height, fps = (int(one or usual) for one, usual in zip(found.groups(), (640, 360, 10), strict=True))
    return f"testsrc2=size={width // 2 * 2}x{height // 2 * 2}:rate={fps},realtime,format=yuv420p"
