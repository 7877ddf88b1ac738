"""Clips: a part of a camera's recording, checked, found and read piece by piece.

Recordings are read from this machine's disk today. On a cluster a camera's host has them: it would serve its clips
itself, behind the port `RecordingStore`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from typing import Protocol

from catalog.recordings import Clip
from proto.errors import Invalid, WatchwordError
from proto.life import NOTHING, Gone
from query.aside import Aside

PRE_ROLL_MS = 500
"""A clip begins so long before what was asked for, so that it is not missed."""
_LATEST_MS = 2**53
_READS = 16
_LOOK_S = 0.1
_MOST_LOOKS = 200


class RecordingStore(Protocol):
    """Where recordings are. Methods block."""

    def clip(self, camera: str, start_ms: int, end_ms: int, gone: Gone) -> Clip:
        """The recording of this time, without what is gone. Raises Unknown when there is none."""

    def has(self, camera: str, at_ms: int) -> bool:
        """Whether there is a recording of this instant."""


class ClipReader:
    """Gives clips, and says whether there is one."""

    def __init__(self, store: RecordingStore, most_s: float) -> None:
        """`most_s` is how long a clip may be."""
        self._store = store
        self._most_ms = most_s * 1000
        self._aside = Aside(_READS, "clips")

    async def find(self, camera: str, start_ms: int, end_ms: int, gone: Gone = NOTHING) -> Clip:
        """The clip of this time and half a second before, without what is gone. Raises Invalid, and Unknown when there
        is no recording."""
        if not 0 <= start_ms < end_ms <= _LATEST_MS:
            raise Invalid(
                f"from {start_ms} to {end_ms} is not a time", todo="give milliseconds since 1970, the start first"
            )
        if end_ms - start_ms > self._most_ms:
            raise Invalid(
                f"{(end_ms - start_ms) / 1000:.0f} s are too long for a clip",
                todo=f"ask for at most {self._most_ms / 1000:.0f} s, or raise query.max_clip_s",
            )
        return await self._aside.run(lambda: self._store.clip(camera, max(0, start_ms - PRE_ROLL_MS), end_ms, gone))

    async def chunks(self, clip: Clip) -> AsyncGenerator[bytes, None]:
        """The bytes of the clip; the next piece is read when it is asked for."""
        chunks = clip.chunks()
        try:
            while (data := await self._aside.run(lambda: next(chunks, None))) is not None:
                yield data
        finally:
            with suppress(ValueError):  # a thread still reads it, and is the last one to hold it
                chunks.close()

    async def recorded(self, wanted: Collection[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Those instants of cameras that are recorded, as far as that can be found out soon."""

        def look() -> frozenset[tuple[str, int]]:
            return frozenset(one for one in list(wanted)[:_MOST_LOOKS] if self._store.has(*one))

        try:
            async with asyncio.timeout(_LOOK_S):
                return await self._aside.run(look)
        except (TimeoutError, WatchwordError):
            return frozenset()
