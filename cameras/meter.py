"""What a source sends: its codec and size, and, by its packets, how much, how many and where key frames lie. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a source sends. Numbers are 0 while they are not known."""

    clock_ahead_ms: int | None = field(default=None, kw_only=True)
    """How far the camera's clock is ahead of this machine's, where it tells: see cameras/sent.py."""
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    bits_per_second: int = 0
    gop_frames: int = 0
    """Pictures from one key frame to the next; while the second one has not come, those since the first."""


class Meter:
    """Counts the packets of one opened source. Time is when they came, by a clock that never goes back."""

    def __init__(self) -> None:
        self.fps = 0.0
        self.bits_per_second = 0
        self._begun_s: float | None = None
        self._packets = self._bytes = 0
        self._since_key: int | None = None
        self._gop = 0

    @property
    def gop_frames(self) -> int:
        """The pictures of the last whole group, or of this one where it is longer."""
        return max(self._gop, self._since_key or 0)

    def packet(self, size: int, at_s: float, *, key: bool) -> None:
        """One more packet came."""
        if key:
            self._gop = self._since_key or 0
            self._since_key = 0
        if self._since_key is not None:
            self._since_key += 1
        if self._begun_s is None:
            # What was sent before the source was read comes at once; from here on packets come at their pace.
            self._begun_s = at_s
            return
        self._packets += 1
        self._bytes += size
        passed_s = at_s - self._begun_s
        if passed_s >= _WINDOW_S:
            self.fps = self._packets / passed_s
            self.bits_per_second = round(8 * self._bytes / passed_s)
            self._begun_s, self._packets, self._bytes = at_s, 0, 0
