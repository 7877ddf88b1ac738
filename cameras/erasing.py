"""What is gone goes from this machine's recordings too: whole segments, and of others the fragments that were erased.

Where fragments go from a segment that stays, a box of kind `free` takes their place in the file, so that it plays as
before without them, and the index no longer tells of them. The bytes go first: a process that is killed in between
begins again. A segment that is being written is left for the next round.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cameras.mending import unlink_segment, written_elsewhere
from cameras.outage import Outage
from catalog.files import disk_trouble, write_whole
from catalog.life import Work
from catalog.recordings import MAGIC, Entry, Recordings, Segment, is_gone, read_index
from proto.errors import WatchwordError
from proto.life import Erasure, Gone, Rules
from proto.metrics import RECORDINGS_REMOVED
from proto.types import now_ms

log = logging.getLogger("watchword.cameras")

STORE = "recordings"
_EVERY_S = 5.0
_PLACE = ".place"
_MOST_PLACE = 256
_CHUNK = b"\0" * (256 * 1024)


class Life(Protocol):
    """The rules, and what was done for them. Blocks."""

    def rules(self) -> Rules:
        """All that are in force."""

    def worked(self, number: int, store: str, removed: int, now_ms: int, *, place: str = "", done: bool) -> None:
        """Note what was removed for an erasure."""

    def work(self, number: int) -> list[Work]:
        """What was done for an erasure."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a look at some segments came to."""

    removed: int
    """Fragments."""
    busy: int
    """Segments that are being written, and may hold more."""


class Eraser:
    """Carries erasures and limits out on one folder of recordings."""

    def __init__(self, folder: Path, life: Life, settle_s: float) -> None:
        """What was asked for is done `settle_s` later: until then what was captured before may reach the disk."""
        self._settle_ms = settle_s * 1000
        self._recordings = Recordings(folder)
        self._life = life
        self._folder = folder
        self._done: set[int] = set()
        self._outage = Outage("the rules of recordings", "what is gone is not removed from them meanwhile")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.round, now_ms())
            except WatchwordError as error:
                self._outage.failed(error)
            except Exception:
                # Were it to end, nothing would be removed until this process is started anew.
                log.exception("recordings met a fault of their own while they were erased; it is tried again")
            else:
                self._outage.worked()
            await asyncio.sleep(_EVERY_S)

    def round(self, at_ms: int) -> None:
        """Remove what is gone now. Blocks."""
        rules = self._life.rules()
        if not rules.clock_doubt(at_ms):
            gone = rules.gone(at_ms)
            for camera in self._recordings.cameras() if gone.ceiling_ms else ():
                self._expire(camera, gone)
        for erasure in rules.erasures:
            if erasure.done_ms == 0 or erasure.number not in self._done:
                self._erase(erasure, Gone(erased=(rules.spared(erasure),)), at_ms)

    def _expire(self, camera: str, gone: Gone) -> None:
        """Remove the segments that are wholly older than the camera's limit, the oldest first."""
        before_ms = gone.before_of(camera)
        for segment in self._recordings.segments(camera, None, before_ms or 0):
            entries = read_index(segment.index)
            if not entries or not all(is_gone(camera, entry, gone) for entry in entries):
                continue
            try:
                # Its ring, or a hand, may have taken the video and left the index, which says what was seen when.
                if segment.video.exists() and written_elsewhere(segment.video):
                    continue
                unlink_segment(segment.video)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise disk_trouble("erase from", segment.video, error) from error
            RECORDINGS_REMOVED.labels(reason="retention").inc()

    def _erase(self, erasure: Erasure, gone: Gone, at_ms: int) -> None:
        asked = erasure.stretch
        segments = self._recordings.segments(asked.camera, asked.start_ms, asked.end_ms)
        swept = sweep(segments, gone)
        done = not swept.busy and at_ms - erasure.asked_ms >= self._settle_ms
        if swept.removed or (done and erasure.done_ms == 0 and not self._is_noted(erasure)):
            self._life.worked(erasure.number, STORE, swept.removed, at_ms, place=self._place(), done=done)
        if done:
            self._done.add(erasure.number)

    def _is_noted(self, erasure: Erasure) -> bool:
        """Whether this place's part is noted as done. Noted again, a receipt would give it the date of a restart."""
        place = self._place()
        return any((one.store, one.place) == (STORE, place) and one.done_ms for one in self._life.work(erasure.number))

    def _place(self) -> str:
        """Names the folder, in the folder: a container has another host's name after each start, and what it began
        under the old one would never be done."""
        path = self._folder / _PLACE
        try:
            return path.read_bytes().decode("utf-8", "replace")[:_MOST_PLACE]
        except FileNotFoundError:
            place = f"{socket.gethostname()}:{self._folder}"[:_MOST_PLACE]
        except OSError as error:
            raise disk_trouble("read", path, error) from error
        if self._folder.is_dir():
            write_whole(path, place.encode("utf-8", "replace"), durable=True)
        return place


def sweep(segments: Sequence[Segment], gone: Gone) -> Swept:
    """Remove what is gone from these segments. Raises Broken when the disk refuses."""
    removed = busy = 0
    for segment in segments:
        entries = read_index(segment.index)
        going = [entry for entry in entries if is_gone(segment.camera, entry, gone)]
        try:
            # One without a whole fragment yet may be about to get one.
            if segment.video.exists() and (going or not entries) and written_elsewhere(segment.video):
                busy += 1
                continue
            if going:
                _remove(segment, entries, going)
        except FileNotFoundError:
            continue  # its ring took it meanwhile
        except OSError as error:
            raise disk_trouble("erase from", segment.video, error) from error
        removed += len(going)
    return Swept(removed, busy)


def _remove(segment: Segment, entries: Sequence[Entry], going: Sequence[Entry]) -> None:
    staying = [entry for entry in entries if entry not in going]
    handle = os.open(segment.video, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for entry in going:
            _overwrite(handle, entry)
        os.fsync(handle)
    finally:
        os.close(handle)
    if staying:
        write_whole(segment.index, MAGIC + b"".join(entry.packed() for entry in staying), durable=True)
        return
    with suppress(FileNotFoundError):
        unlink_segment(segment.video)
    RECORDINGS_REMOVED.labels(reason="erased").inc()


def _overwrite(handle: int, entry: Entry) -> None:
    """Put a box of kind `free` in the fragment's place."""
    os.pwrite(handle, struct.pack(">I4s", entry.size, b"free"), entry.offset)
    for begin in range(8, entry.size, len(_CHUNK)):
        os.pwrite(handle, _CHUNK[: min(len(_CHUNK), entry.size - begin)], entry.offset + begin)
