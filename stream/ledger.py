"""Which frames of one partition are finished, and how far its offset may be committed. Pure."""

from __future__ import annotations

from collections import deque


class Ledger:
    """Offsets in, the contiguous finished prefix out.

    An offset is `taken` once, in rising order, and `done` once, in any order. Nothing that is taken and not
    done is ever passed by `committable`. A partition that never had a commit is not special here: the prefix
    begins at the first offset taken, whatever it is.
    """

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._last_taken: int | None = None
        self._prefix: int | None = None
        self._committed: int | None = None

    @property
    def open(self) -> int:
        """Frames taken and not yet done."""
        return len(self._open) - len(self._done)

    @property
    def next_offset(self) -> int | None:
        """The offset that is expected next; None before the first."""
        return None if self._last_taken is None else self._last_taken + 1

    def taken(self, offset: int) -> bool:
        """Note that a frame was taken. False when it was taken before: the caller drops it."""
        if self._last_taken is not None and offset <= self._last_taken:
            return False
        self._last_taken = offset
        self._open.append(offset)
        return True

    def done(self, offset: int) -> None:
        """Note that a frame is finished: its moment is stored, or it is dead-lettered."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._prefix = self._open.popleft() + 1
            self._done.discard(self._prefix - 1)

    def committable(self) -> int | None:
        """The offset to commit, which is that of the first frame to be read again; None when nothing is new."""
        return None if self._prefix == self._committed else self._prefix

    def committed(self, offset: int) -> None:
        """Note that the broker has `offset`."""
        self._committed = offset
