"""Recordings of cameras on this machine's disk: how they lie there, and how a clip is read from them.

    recordings/CAMERA/2026-05-01T10/1777629600000.mp4    a segment: fragmented MP4 of about a minute, playable by itself
    recordings/CAMERA/2026-05-01T10/1777629600000.idx    its index: what each fragment shows, and where it lies

A fragment holds a second or two and begins with a key frame, except where key frames are rare. It is appended to the
segment first and then to the index, so that what the index tells is whole at any time, also after a kill. So a clip can
be cut by copying bytes, and the file need not be parsed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from catalog.files import disk_trouble
from catalog.mp4 import TICKS, codec_string, init_size, renumbered
from proto.errors import Unknown
from proto.life import NOTHING, Gone
from proto.types import CAMERA_NAME, camera_name

MAGIC = b"wwindex1"
CHUNK_BYTES = 256 * 1024
TOGETHER_MS = 1000
"""What follows within this is the same span of a recording."""
_AGAIN_MS = 500
"""Where a clock was set back, a time that was shown is not shown again; times of one stream may overlap by less."""
_ENTRY = struct.Struct(">QIIqqB3x")
_HOUR_MS = 3_600_000
LONGEST_SEGMENT_MS = _HOUR_MS
_DIGITS = 13
"""Of the time in the name of a segment: enough until the year 2286."""
_HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d")
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: there are no later dates."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One fragment of a segment, as the index tells it."""

    offset: int
    size: int
    ticks: int
    """How long it lasts, in media time."""
    start_ms: int
    """When its first picture was taken."""
    end_ms: int
    key: bool
    """Whether it begins with a key frame."""

    def packed(self) -> bytes:
        return _ENTRY.pack(self.offset, self.size, self.ticks, self.start_ms, self.end_ms, self.key)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment and its index, by the time of its first picture."""

    camera: str
    start_ms: int
    video: Path

    @property
    def index(self) -> Path:
        return self.video.with_suffix(".idx")


@dataclass(frozen=True, slots=True)
class Missing:
    """A part of the wanted time that a clip does not show."""

    start_ms: int
    end_ms: int
    reason: Literal["not recorded", "another format"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a recording, as fragmented MP4. Spans without recording are left out of it."""

    camera: str
    spans: tuple[tuple[int, int], ...]
    """What it shows, by captured time; in media time one follows the other."""
    missing: tuple[Missing, ...]
    codec: str
    """As in RFC 6381; empty when it is not known."""
    init: bytes
    parts: tuple[tuple[Segment, Entry], ...]

    @property
    def start_ms(self) -> int:
        return self.spans[0][0]

    @property
    def end_ms(self) -> int:
        return self.spans[-1][1]

    @property
    def mime(self) -> str:
        """The type of the file, with its codec."""
        return f'video/mp4; codecs="{self.codec}"' if self.codec else "video/mp4"

    @property
    def size(self) -> int:
        return len(self.init) + sum(entry.size for _, entry in self.parts)

    def chunks(self) -> Generator[bytes, None, None]:
        """The file's bytes, in pieces of at most CHUNK_BYTES. Blocks on the disk.

        Raises Unknown when a part of it was removed meanwhile, and Broken when the disk fails.
        """
        yield self.init
        ticks, opened, handle = 0, None, -1
        try:
            for number, (segment, entry) in enumerate(self.parts):
                if segment != opened:
                    if handle >= 0:
                        os.close(handle)
                        handle = -1
                    handle, opened = _open(segment.video), segment
                for begin in range(0, entry.size, CHUNK_BYTES):
                    data = _pread(handle, entry.offset + begin, min(CHUNK_BYTES, entry.size - begin), segment.video)
                    if not begin and data[4:8] == b"free":
                        raise Unknown("a part of this recording was erased meanwhile", todo="ask for the clip again")
                    yield data if begin else renumbered(data, number + 1, ticks)
                ticks += entry.ticks
        finally:
            if handle >= 0:
                os.close(handle)


class Recordings:
    """Reads what the camera processes of this machine recorded. Methods block on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cameras(self) -> list[str]:
        """Every camera of which there may be something."""
        return sorted(
            name for name in _listed(self._folder) if CAMERA_NAME.fullmatch(name) and (self._folder / name).is_dir()
        )

    def segments(self, camera: str, start_ms: int | None = None, end_ms: int | None = None) -> list[Segment]:
        """The camera's segments, oldest first: all that may hold something of this time."""
        found = []
        folder = self._folder / camera_name(camera)
        # Compared as text: a search asks for each of its hits, and to parse the names of a month takes too long.
        first = "" if start_ms is None else hour_folder(start_ms - LONGEST_SEGMENT_MS)
        last = "~" if end_ms is None else hour_folder(end_ms - 1)
        for hour in _listed(folder):
            if not first <= hour <= last or not is_hour_folder(hour):
                continue
            begins = [begin_ms for name in _listed(folder / hour) if (begin_ms := segment_start(name)) is not None]
            found += [Segment(camera, begin_ms, folder / hour / f"{begin_ms:013d}.mp4") for begin_ms in begins]
        found.sort(key=lambda segment: segment.start_ms)
        if end_ms is not None:
            found = [segment for segment in found if segment.start_ms < end_ms]
        if start_ms is not None:
            found = [segment for segment in found if segment.start_ms + LONGEST_SEGMENT_MS > start_ms]
        return found

    def span(self, camera: str, gone: Gone = NOTHING) -> tuple[int, int] | None:
        """The time from the camera's oldest recording to its newest, of what is not gone."""
        segments = self.segments(camera)
        first = next((some[0] for one in segments if (some := _shown(camera, read_index(one.index), gone))), None)
        latest = reversed(segments)
        last = next((some[-1] for one in latest if (some := _shown(camera, read_index(one.index), gone))), None)
        return None if first is None or last is None else (first.start_ms, last.end_ms)

    def has(self, camera: str, at_ms: int) -> bool:
        """Whether there is a recording of this instant."""
        # A clock that was set back makes segments overlap, so the latest start is not always the one.
        for segment in reversed(self.segments(camera, at_ms - 2 * _HOUR_MS, at_ms + 1)[-3:]):
            entries = read_index(segment.index)
            if entries and entries[0].start_ms <= at_ms < entries[-1].end_ms:
                return True
        return False

    def clip(self, camera: str, start_ms: int, end_ms: int, gone: Gone = NOTHING) -> Clip:
        """The recording of this time, from the key frame before it on, without what is gone. Raises Unknown when there
        is none."""
        parts: list[tuple[Segment, Entry]] = []
        spans: list[tuple[int, int]] = []
        init, other_ms = b"", None
        for segment in self.segments(camera, start_ms, end_ms):
            reached_ms = spans[-1][1] if spans else None
            entries = _shown(camera, _wanted(read_index(segment.index), start_ms, end_ms, reached_ms), gone)
            if not entries:
                continue
            begins = _read_init(segment)
            if not begins:
                continue
            if init and begins != init:
                other_ms = entries[0].start_ms
                break
            init = begins
            parts += [(segment, entry) for entry in entries]
            for entry in entries:
                if spans and abs(entry.start_ms - spans[-1][1]) <= TOGETHER_MS:
                    spans[-1] = (spans[-1][0], entry.end_ms)
                else:
                    spans.append((entry.start_ms, entry.end_ms))
        if not parts:
            raise self._nothing(camera, start_ms, end_ms, gone)
        missing = _missing(spans, start_ms, end_ms, other_ms)
        return Clip(camera, tuple(spans), missing, codec_string(init), init, tuple(parts))

    def _nothing(self, camera: str, start_ms: int, end_ms: int, gone: Gone) -> Unknown:
        there = self.span(camera, gone)
        asked = f"from {_utc(start_ms)} to {_utc(end_ms)}"
        if there is None:
            return Unknown(
                f"nothing of {camera} is recorded", todo="`watchword recording set` says how much is to be kept of it"
            )
        return Unknown(
            f"nothing of {camera} is recorded {asked}",
            todo=f"there are recordings from {_utc(there[0])} to {_utc(there[1])}",
        )


def read_index(path: Path) -> list[Entry]:
    """The fragments of a segment, as far as they are whole; none when it is gone or no index."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_trouble("read", path, error) from error
    if not data.startswith(MAGIC):
        return []
    whole = (len(data) - len(MAGIC)) // _ENTRY.size * _ENTRY.size
    return [_entry(*fields) for fields in _ENTRY.iter_unpack(data[len(MAGIC) : len(MAGIC) + whole])]


def index_size(entries: int) -> int:
    """How large an index of so many fragments is."""
    return len(MAGIC) + entries * _ENTRY.size


def hour_folder(at_ms: int) -> str:
    """The name of the folder of this time."""
    return _date(at_ms).strftime("%Y-%m-%dT%H")


def is_hour_folder(name: str) -> bool:
    """Whether segments lie in a folder of this name. Others are not ours."""
    return _HOUR.fullmatch(name) is not None


def segment_start(name: str, suffix: str = ".idx") -> int | None:
    """When the segment begins whose file has this name; None when it is no segment's."""
    stem, dot, ending = name.rpartition(".")
    return int(stem) if dot + ending == suffix and len(stem) == _DIGITS and stem.isascii() and stem.isdigit() else None


def seconds_of(ticks: int) -> float:
    """Media time in seconds."""
    return ticks / TICKS


def _entry(offset: int, size: int, ticks: int, start_ms: int, end_ms: int, key: int) -> Entry:
    return Entry(offset, size, ticks, start_ms, end_ms, bool(key))


def _wanted(entries: list[Entry], start_ms: int, end_ms: int, reached_ms: int | None) -> list[Entry]:
    """The fragments of a segment that show this time, from a key frame on, and nothing before `reached_ms` again."""
    if not entries or entries[-1].end_ms <= start_ms:
        return []
    keys = [number for number, entry in enumerate(entries) if entry.key]
    if reached_ms is None:
        first = max((number for number in keys if entries[number].start_ms <= start_ms), default=min(keys, default=0))
    else:
        first = next((n for n in keys if entries[n].start_ms >= reached_ms - _AGAIN_MS), len(entries))
    return [entry for entry in entries[first:] if entry.start_ms < end_ms]


def _shown(camera: str, entries: list[Entry], gone: Gone) -> list[Entry]:
    """The fragments that are not gone, and after one that is, from a key frame on."""
    if gone.nothing:
        return entries
    shown: list[Entry] = []
    cut = False
    for entry in entries:
        if is_gone(camera, entry, gone):
            cut = True
        elif entry.key or not cut:
            shown.append(entry)
            cut = False
    return shown


def is_gone(camera: str, entry: Entry, gone: Gone) -> bool:
    """Whether the fragment may not be shown. A hold keeps it, as it keeps a moment."""
    return gone.covers(camera, entry.start_ms, max(entry.start_ms, entry.end_ms - 1))


def _missing(spans: list[tuple[int, int]], start_ms: int, end_ms: int, other_ms: int | None) -> tuple[Missing, ...]:
    found = []
    reached_ms = start_ms
    for begins_ms, ends_ms in spans:
        if begins_ms - reached_ms > TOGETHER_MS:
            found.append(Missing(reached_ms, begins_ms, "not recorded"))
        reached_ms = max(reached_ms, ends_ms)
    if other_ms is not None and other_ms < end_ms:
        if other_ms - reached_ms > TOGETHER_MS:
            found.append(Missing(reached_ms, other_ms, "not recorded"))
        found.append(Missing(max(reached_ms, other_ms), end_ms, "another format"))
    elif end_ms - reached_ms > TOGETHER_MS:
        found.append(Missing(reached_ms, end_ms, "not recorded"))
    return tuple(found)


def _listed(folder: Path) -> list[str]:
    """The names in it."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - a path for each name would take ten times as long
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_trouble("read", folder, error) from error


def _read_init(segment: Segment) -> bytes:
    entries = read_index(segment.index)
    try:
        handle = _open(segment.video)
    except Unknown:
        return b""
    try:
        data = _pread(handle, 0, entries[0].offset, segment.video) if entries else b""
    finally:
        os.close(handle)
    return data[: init_size(data)]


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unknown(
            "a part of this recording was removed meanwhile: the oldest go first", todo="ask for a later time"
        ) from None
    except OSError as error:
        raise disk_trouble("read", path, error) from error


def _pread(handle: int, offset: int, size: int, path: Path) -> bytes:
    try:
        data = os.pread(handle, size, offset)
    except OSError as error:
        raise disk_trouble("read", path, error) from error
    if len(data) < size:
        raise Unknown(f"{path} is shorter than its index says", todo="ask for another time")
    return data


def _utc(ms: int) -> str:
    return _date(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def _date(ms: int) -> datetime:
    """The time as a date; one that no date has becomes the nearest."""
    return datetime.fromtimestamp(min(max(0, ms), _LATEST_MS) / 1000, UTC)
