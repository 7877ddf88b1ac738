"""Whether a frame shows another scene than the moment before it. Pure, and free of memory beyond that moment.

Two witnesses are heard. The vector says how far the frame is from the moment's mean, which is compared with how far
the moment's own frames are from it: a street is restless, a yard is not. The picture says how much of it differs from
the one before, which is compared with what is usual on this camera. The second pair of numbers was measured by the
camera process and travels in the frame, so what must be remembered beyond a moment is never lost with a worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

_REMEMBERED = 32
"""Distances of a moment that its noise is taken from: the latest."""
_FIRST_GUESS = 0.5
"""The noise that a new moment is given, twice, as a share of `scene_change`."""
_OUTSTANDING = 3.0
"""A distance of so many times the noise is a change, when the picture says so too."""
_ALONE = 8.0
"""A distance of so many times the noise is a change, whatever the picture says: something small that matters."""
_LEAST = 1 / 3
"""The share of `scene_change` that the distance must reach when the picture itself says that much is new."""
_FLASH = 2.0
"""The multiple of `scene_change` at which a moment of one frame is believed."""
_SEEN, _CUT = 0.3, 0.85
"""Shares of the picture that differ: enough to be a witness at all, and a cut."""
_MORE, _MUCH_MORE = 0.05, 0.2
"""How much more than usual must differ: to confirm the vector, and to speak first."""


class Departure(NamedTuple):
    """How far a frame departs from what was before."""

    distance: float
    """1 - cosine between its vector and the moment's mean."""
    novelty: float
    """The share of the picture that differs from the one before."""
    usual: float
    """The median of that share on this camera lately."""

    @property
    def is_plain(self) -> bool:
        """Whether the picture alone shows that something new came, be it another scene or not."""
        return self.novelty >= _SEEN and self.novelty - self.usual >= _MUCH_MORE


class Scene:
    """The noise of one moment, and what stands out of it."""

    def __init__(self, scene_change: float, distances: Sequence[float] = ()) -> None:
        self._scene_change = scene_change
        self.distances = deque(distances or [_FIRST_GUESS * scene_change] * 2, maxlen=_REMEMBERED)
        """Of the moment's latest frames from their mean."""

    @property
    def noise(self) -> float:
        """The median distance: one odd frame does not move it."""
        return median(self.distances)

    def keeps(self, departure: Departure) -> None:
        """Note that the frame belongs to the scene."""
        self.distances.append(departure.distance)

    def ends_with(self, departure: Departure, *, young: bool) -> bool:
        """Whether the frame shows another scene. A young moment ends only if its scene was a flash."""
        distance, least = departure.distance, self._scene_change
        if distance < _LEAST * least:
            return False
        noise = self.noise
        if distance >= max(least, _ALONE * noise):
            return True
        more = departure.novelty - departure.usual
        if young:
            return departure.novelty >= _CUT and more >= _MUCH_MORE and distance >= _FLASH * least
        if departure.novelty < _SEEN or more < _MORE:
            return False
        return distance >= max(least, _OUTSTANDING * noise) or more >= _MUCH_MORE
