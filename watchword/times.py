"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime

from proto.errors import Invalid

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def instant(words: str, now_ms: int) -> int:
    """`10m` (that long ago), `2026-05-01T10:00` (local time) or the same with an offset, in milliseconds."""
    try:
        if ago := _AGO.fullmatch(words.strip()):
            then = now_ms - int(float(ago[1]) * _UNITS[ago[2]] * 1000)
        else:
            then = int(datetime.fromisoformat(words.strip()).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        then = -1
    if then < 0:
        raise Invalid(f"{words[:40]!r} is no time", todo="write 30s, 10m, 2h, 7d (that long ago) or 2026-05-01T10:00")
    return then


def seconds(words: str) -> float:
    """A length of time: `30s`, `12h`, `30d`."""
    length = _AGO.fullmatch(words.strip())
    if length is None:
        raise Invalid(f"{words[:40]!r} is no length of time", todo="write 30s, 10m, 12h, 30d or 4w")
    return float(length[1]) * _UNITS[length[2]]


def length(seconds: float) -> str:
    """A length of time as people say it: minutes, hours, days."""
    if seconds < 5_400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3_600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def local(ms: int) -> str:
    """The local date and time, to the second."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(start_ms: int, end_ms: int) -> str:
    """Start and end in local time; the date is not repeated."""
    start, end = local(start_ms), local(end_ms)
    return f"{start} - {end[11:]}" if start[:10] == end[:10] else f"{start} - {end}"
