"""Which pictures of a source are looked at. Pure: the picture's time is an argument."""

from __future__ import annotations


class Sampler:
    """Takes about `fps` pictures a second, evenly, however fast the source is.

    A source slower than `fps` is taken whole. After a pause sampling goes on at once; it never catches up.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._due: float | None = None

    def wants(self, time_s: float) -> bool:
        """Whether the picture at `time_s` is looked at."""
        if self._due is None or time_s < self._due - 2 * self._interval:  # the first, or time jumped back
            self._due = time_s
        # A source at exactly `fps` jitters around the grid; half a millisecond early is still on time.
        if time_s < self._due - 0.0005:
            return False
        self._due = max(self._due + self._interval, time_s)
        return True


class RecordingSampler:
    """Takes the first picture of every interval of file time.

    Which pictures these are depends on their times alone, so that a replay that is resumed looks at the same ones.
    """

    _EARLY = 0.03
    """So much of an interval a picture may be early: a recording at exactly `fps` jitters around the grid."""

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._taken: int | None = None

    def wants(self, at_s: float) -> bool:
        """Whether the picture at file time `at_s` is looked at. Times never go back."""
        interval = int(at_s / self._interval + self._EARLY)
        if interval == self._taken:
            return False
        self._taken = interval
        return True
