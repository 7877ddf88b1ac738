"""What a source sends: its codec and size, and, by its packets, how much, how many and where key frames lie. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

_WINDOW_S = 5.0
_SHARE_S = 30.0


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
    decoded_share: float = 1.0
    """The share of its packets that were decoded lately."""
    gate: str = "off"
    """What the packet gate is doing: see cameras/packet_gate.py."""
    gate_why: str = ""


class Meter:
    """Counts the packets of one opened source. Time is when they came, by a clock that never goes back."""

    def __init__(self) -> None:
        self.fps = 0.0
        self.bits_per_second = 0
        self.decoded_share = 1.0
        self._decoded = 0
        self._begun_s: float | None = None
        self._packets = self._bytes = 0
        self._since_key: int | None = None
        self._gop = 0

    @property
    def gop_frames(self) -> int:
        """The pictures of the last whole group, or of this one where it is longer."""
        return max(self._gop, self._since_key or 0)

    def decoded(self) -> None:
        """One more packet goes to the decoder."""
        self._decoded += 1

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
            share = self._decoded / self._packets
            self._begun_s, self._packets, self._bytes, self._decoded = at_s, 0, 0, 0
            self.decoded_share = self._smooth(share, passed_s)

    def _smooth(self, share: float, passed_s: float) -> float:
        """The share that was decoded, over about half a minute: key frames of long groups come seldom."""
        return self.decoded_share + min(1.0, passed_s / _SHARE_S) * (min(1.0, share) - self.decoded_share)
