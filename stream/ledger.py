"""Which frames of one partition are finished, and how far its offset may be committed. Pure."""

from __future__ import annotations

from collections import deque


class Ledger:
    """Offsets in, the contiguous finished prefix out.

    An offset is `taken` once, in order and without a hole, and `done` once, in any order. Nothing that is taken and not
    done is ever passed by `committable`.
    """

    def __init__(self, start: int) -> None:
        self.next_offset = start
        """The offset that is expected next."""
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self.prefix = start
        """The first frame that is not finished: the next to be read after a restart."""
        self._committed = start

    @property
    def open(self) -> int:
        """Frames taken and not yet done."""
        return len(self._open) - len(self._done)

    def taken(self, offset: int) -> bool:
        """Note that a frame was taken. False when it is not the next one: the caller drops it."""
        if offset != self.next_offset:
            return False
        self.next_offset = offset + 1
        self._open.append(offset)
        return True

    def expired(self, until: int) -> None:
        """Note that the broker no longer has the frames before `until`, and that this was declared."""
        self.next_offset = max(self.next_offset, until)
        if not self._open:
            self.prefix = self.next_offset

    def done(self, offset: int) -> None:
        """Note that a frame is finished: its moment is stored, its letter written, or its shedding declared."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self.prefix = self._open.popleft() + 1
            self._done.discard(self.prefix - 1)
        if not self._open:
            self.prefix = self.next_offset

    def committable(self) -> int | None:
        """The offset to commit, which is that of the first frame to be read again; None when nothing is new."""
        return None if self.prefix == self._committed else self.prefix

    def committed(self, offset: int) -> None:
        """Note that the broker has `offset`."""
        self._committed = offset
