"""What is recorded of a camera, as people say it."""

from __future__ import annotations

from cameras.address import kind_of
from proto.errors import Invalid
from proto.types import Camera, Recording

USUAL_DAYS = 30.0
USUAL_BYTES = 50_000_000_000
LEAST_BYTES = 100_000_000


def recording_of(days: float | None, size: int | None, before: Recording | None = None) -> Recording:
    """What is to be recorded; what is not said is as before, else as usual."""
    before = before or Recording(USUAL_DAYS, USUAL_BYTES)
    wanted = Recording(before.days if days is None else days, before.bytes if size is None else size)
    if not 0 < wanted.days <= 36_500:
        raise Invalid(f"{wanted.days:g} days cannot be kept", todo="give more than 0, such as 0.5 or 30")
    if wanted.bytes < LEAST_BYTES:
        raise Invalid(
            f"{in_words(wanted.bytes)} are below what a camera sends in some minutes",
            todo=f"give at least {in_words(LEAST_BYTES)}; a camera at 4 Mbit/s takes 43 GB a day",
        )
    return wanted


def check_recordable(camera: Camera, codec: str | None = None) -> None:
    """Raise Invalid when the camera cannot be recorded. `codec` is what it sends, when that is known."""
    from cameras.remux import CODECS

    if kind_of(camera.url) == "file":
        raise Invalid(f"{camera.name} is a file, which is recorded already", todo="record cameras that are live")
    if codec is not None and codec not in CODECS:
        raise Invalid(
            f"{camera.name} sends {codec}, which cannot be recorded as it is",
            todo="have the camera send H.264 or H.265",
        )


def in_words(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
