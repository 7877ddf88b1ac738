"""Fragments become files: segments and their indexes on this machine's disk (catalog/recordings.py says how they lie).

Everything here blocks on the disk, and is called from one thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cameras.following import Following
from cameras.mending import mended, sweep_up, unlink_segment, unread
from cameras.outage import Outage
from cameras.recording import Kept, Removal, Ring, segment_full
from cameras.remux import Format, Fragment
from cameras.settings import RecordingSettings
from catalog.files import disk_trouble
from catalog.recordings import MAGIC, TOGETHER_MS, Entry, Recordings, hour_folder, index_size
from proto.errors import Broken, WatchwordError
from proto.metrics import RECORDED_BYTES, RECORDED_SIZE, RECORDING_LOST, RECORDINGS_REMOVED
from proto.types import Recording

_SWEEP_S = 60.0
_FOLLOW_S = 2.0
"""What other processes record is looked at so often, where there is a budget of all."""
_AWAY_S = 60.0
"""What is known of a camera that was not written for so long is looked at anew: another process may have had it."""
_IDLE_S = 30.0
"""A segment to which nothing was added for so long is closed."""
_TORN = 3
"""So many of a camera's latest segments are looked into when it is begun: one of them was open when a process ended."""
_CALM_S = 3600.0
"""A disk on which no recording had to make room for so long is not full any more."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MOST_TRIES = 3


class _Open:
    """A segment that is being written. Other processes see by its lock that it is."""

    def __init__(self, folder: Path, fragment: Fragment) -> None:
        """Raises OSError; nothing is left then."""
        self.camera = fragment.camera
        self.form: Format = fragment.form
        self.number = fragment.number - 1
        self.start_ms = self.end_ms = fragment.start_ms
        self.size = 0
        self.entries = 0
        self.added_s = time.monotonic()
        self._video = self._index = -1
        self.path = _free_path(folder / fragment.camera, fragment.start_ms)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._video = os.open(self.path, flags, 0o640)
            fcntl.flock(self._video, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._index = os.open(self.path.with_suffix(".idx"), flags, 0o640)
            _write(self._video, self.form.init, 0)
            _write(self._index, MAGIC, 0)
        except OSError:
            self.close()
            with suppress(OSError):
                unlink_segment(self.path)
            raise
        self.size = len(self.form.init)

    @property
    def bytes(self) -> int:
        """With its index."""
        return self.size + index_size(self.entries)

    @property
    def lasts_ms(self) -> int:
        return self.end_ms - self.start_ms

    def append(self, fragment: Fragment) -> None:
        """Add the fragment: whole, or not at all. Raises OSError."""
        entry = Entry(
            self.size, len(fragment.data), fragment.ticks, fragment.start_ms, fragment.end_ms, key=fragment.key
        )
        # What an earlier, failed write left behind is written over: the index does not tell of it.
        _write(self._video, fragment.data, self.size)
        _write(self._index, entry.packed(), index_size(self.entries))
        self.size += len(fragment.data)
        self.entries += 1
        self.number, self.end_ms = fragment.number, fragment.end_ms
        self.added_s = time.monotonic()

    def close(self) -> None:
        """Close the files, once the disk has them."""
        for handle, size in ((self._video, self.size), (self._index, index_size(self.entries))):
            if handle >= 0:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                    os.fsync(handle)
                os.close(handle)
        self._video = self._index = -1


class Segments:
    """Writes fragments, and removes what is too old or too much. `limits` may change at any time."""

    def __init__(self, folder: Path, settings: RecordingSettings) -> None:
        self.limits: Mapping[str, Recording] = {}
        self._folder = folder
        self._settings = settings
        self._ring = Ring()
        self._following = Following(folder, self._ring)
        self._open: dict[str, _Open] = {}
        self._unseen: set[str] = set()
        self._written_s: dict[str, float] = {}
        self._swept_s = self._freed_s = self._followed_s = float("-inf")
        self._disk = Outage("recordings", "nothing is recorded meanwhile")
        self._full = Outage("the disk of recordings", "the oldest recordings go")

    def begin(self) -> None:
        """See which cameras there are. Each is looked at before it is written, or when there is time."""
        try:
            self._unseen = set(Recordings(self._folder).cameras())
        except WatchwordError as error:
            self._disk.failed(error)

    def write(self, fragment: Fragment, now_ms: int) -> bool:
        """Add the fragment to its camera's recordings. False when it could not be; why is told in the log."""
        limit = self.limits.get(fragment.camera)
        if limit is None:
            return False
        for tries_left in range(_MOST_TRIES, 0, -1):
            try:
                done = self._add(fragment, limit, now_ms)
            except OSError as error:
                self._close(fragment.camera)
                if error.errno == errno.ENOENT and tries_left > 1:
                    continue  # another process swept up the empty folder before the segment was in it
                trouble = disk_trouble("write", self._folder, error)
                if error.errno not in _FULL or not self._make_free(len(fragment.data), trouble):
                    self._disk.failed(trouble)
                    break
            else:
                if done:
                    self._disk.worked()
                    RECORDED_BYTES.inc(len(fragment.data))
                    RECORDED_SIZE.set(self._ring.used())
                    return True
                break
        RECORDING_LOST.labels(reason="disk").inc()
        return False

    def tend(self, now_ms: int) -> None:
        """To be called now and then: remove what is too old; close what is not added to any more."""
        if self._settings.most_bytes:
            self._follow()
        if self._unseen:
            self._look_at(next(iter(self._unseen)))
        for camera, one in list(self._open.items()):
            if time.monotonic() - one.added_s > _IDLE_S:
                self._close(camera)
        if time.monotonic() - self._swept_s >= _SWEEP_S:
            self._swept_s = time.monotonic()
            self._remove(self._ring.expired(now_ms, self.limits))
            for camera, limit in self.limits.items():
                self._remove(self._ring.room(camera, 0, limit, self._settings.most_bytes))

    def close(self) -> None:
        """Close every segment."""
        for camera in list(self._open):
            self._close(camera)

    def used(self, camera: str | None = None) -> int:
        """Bytes of the camera's recordings, or of all."""
        return self._ring.used(camera)

    def _follow(self) -> None:
        """Know what other processes of this machine write: the budget is that of all."""
        if time.monotonic() - self._followed_s < _FOLLOW_S:
            return
        self._followed_s = time.monotonic()
        try:
            self._unseen |= self._following.look({*self._open, *self._unseen})
        except OSError as error:
            self._disk.failed(disk_trouble("read", self._folder, error))
        except WatchwordError as error:
            self._disk.failed(error)

    def _add(self, fragment: Fragment, limit: Recording, now_ms: int) -> bool:
        camera = fragment.camera
        one = self._open.get(camera)
        if one is None and time.monotonic() - self._written_s.get(camera, float("-inf")) > _AWAY_S:
            self._look_at(camera)
        self._written_s[camera] = time.monotonic()
        follows = (
            one is not None
            and one.form is fragment.form
            and fragment.number == one.number + 1
            and abs(fragment.start_ms - one.end_ms) <= TOGETHER_MS
        )
        if not fragment.key and not follows:
            return False  # nothing decodes it
        most_s = self._settings.segment_s
        if fragment.key and one and (not follows or segment_full(self._share(limit), most_s, one.bytes, one.lasts_ms)):
            self._close(camera)
            one = None
        size = len(fragment.data) + index_size(1) + (len(fragment.form.init) if one is None else 0)
        self._remove(self._ring.expired(now_ms, {camera: limit}))
        self._remove(self._ring.room(camera, size, limit, self._settings.most_bytes))
        if not self._has_space(size):
            return False
        if one is None:
            one = self._open[camera] = _Open(self._folder, fragment)
        one.append(fragment)
        self._ring.grown(camera, one.bytes)
        return True

    def _share(self, limit: Recording) -> int:
        """How much of the budgets is this camera's."""
        total = self._settings.most_bytes
        return min(limit.bytes, total // max(1, self._ring.growing())) if total else limit.bytes

    def _has_space(self, size: int) -> bool:
        """Whether the disk keeps its free space with so much more on it; the oldest recordings make room."""
        self._folder.mkdir(parents=True, exist_ok=True)
        keep = self._settings.keep_free_bytes
        short = keep + size - shutil.disk_usage(self._folder).free
        if short <= 0:
            if time.monotonic() - self._freed_s > _CALM_S:
                self._full.worked()
            return True
        trouble = Broken(
            f"less than {keep // 10**6:,} MB of the disk are free",
            todo="free some space, or set recording.keep_free_bytes lower",
        )
        if self._make_free(short, trouble):
            return True
        self._disk.failed(trouble)
        return False

    def _make_free(self, size: int, why: Broken) -> bool:
        gone = self._ring.free(size)
        if gone:
            self._freed_s = time.monotonic()
            self._full.failed(why)
        return self._remove(gone)

    def _remove(self, gone: list[Removal]) -> bool:
        """Whether something was removed."""
        removed = False
        for one in gone:
            path = Path(one.kept.name)
            try:
                unlink_segment(path)
            except OSError as error:
                self._disk.failed(disk_trouble("remove", path, error))
                continue
            RECORDINGS_REMOVED.labels(reason=one.why).inc()
            removed = True
        return removed

    def _close(self, camera: str) -> None:
        one = self._open.pop(camera, None)
        if one is None:
            return
        one.close()
        if one.entries:
            self._ring.add(Kept(camera, one.start_ms, one.end_ms, one.bytes, str(one.path)))
        else:
            self._ring.grown(camera, 0)
            with suppress(OSError):
                unlink_segment(one.path)

    def _look_at(self, camera: str) -> None:
        """Know what there is of the camera, and mend what a killed process left open."""
        self._unseen.discard(camera)
        self._ring.forget(camera)
        self._following.known.add(camera)
        try:
            sweep_up(self._folder / camera)
            segments = Recordings(self._folder).segments(camera)
            for number, segment in enumerate(segments):
                last = number >= len(segments) - _TORN
                kept = mended(segment) if last else unread(segment, segments[number + 1])
                if kept is not None:
                    self._ring.add(kept)
        except OSError as error:
            self._disk.failed(disk_trouble("read", self._folder / camera, error))
        except WatchwordError as error:
            self._disk.failed(error)


def _free_path(folder: Path, start_ms: int) -> Path:
    """A path for a segment that begins then. Where the clock was set back there may be one already."""
    while True:
        path = folder / hour_folder(start_ms) / f"{start_ms:013d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return path
        start_ms += 1


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        offset, view = offset + written, view[written:]
