"""Segments that were written before, by this process or another one: how large they are, and what of them is whole."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from cameras.recording import Kept
from catalog.recordings import (
    LONGEST_SEGMENT_MS,
    Segment,
    index_size,
    is_hour_folder,
    read_index,
    segment_start,
)


def unread(segment: Segment, following: Segment) -> Kept | None:
    """A segment that was closed long ago, without a look into it."""
    try:
        size = segment.video.stat().st_size + segment.index.stat().st_size
    except FileNotFoundError:
        return None
    # The camera may have been off for weeks before the following one.
    end_ms = min(following.start_ms, segment.start_ms + LONGEST_SEGMENT_MS)
    return Kept(segment.camera, segment.start_ms, end_ms, size, str(segment.video))


def mended(segment: Segment) -> Kept | None:
    """The segment without what was not whole when its writer was killed. None when nothing of it is whole."""
    entries = read_index(segment.index)
    size = entries[-1].offset + entries[-1].size if entries else 0
    try:
        if segment.video.stat().st_size < size:
            # The machine lost power before the disk had all of it.
            entries = [one for one in entries if one.offset + one.size <= segment.video.stat().st_size]
            size = entries[-1].offset + entries[-1].size if entries else 0
        if not entries:
            if not written_elsewhere(segment.video):
                unlink_segment(segment.video)
            return None
        if (segment.video.stat().st_size, segment.index.stat().st_size) != (size, index_size(len(entries))):
            if written_elsewhere(segment.video):
                return None
            os.truncate(segment.video, size)
            os.truncate(segment.index, index_size(len(entries)))
    except FileNotFoundError:
        segment.index.unlink(missing_ok=True)
        return None
    whole = size + index_size(len(entries))
    return Kept(segment.camera, entries[0].start_ms, entries[-1].end_ms, whole, str(segment.video))


def written_elsewhere(path: Path) -> bool:
    """Whether another process has it open for writing."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sweep_up(folder: Path) -> None:
    """Remove segments without an index, whose writer was killed before it had one, and empty folders.

    Other files and folders are somebody else's.
    """
    for hour in folder.iterdir() if folder.is_dir() else ():
        if not is_hour_folder(hour.name):
            continue
        for path in hour.glob("*.mp4"):
            if (
                segment_start(path.name, ".mp4") is not None
                and not path.with_suffix(".idx").exists()
                and not written_elsewhere(path)
            ):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            hour.rmdir()


def unlink_segment(path: Path) -> None:
    """Remove the segment; the index first, so that no reader begins to read it."""
    path.with_suffix(".idx").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
