"""Whether a camera still shows its view: it may be turned, covered, or put out of focus. Pure: time is an argument.

The picture of the last seconds is compared with one learned over minutes. Means over time are compared, so that neither
noise nor what moves counts; and structure is compared instead of brightness, so that lamps, dusk, weather and infrared
light are no other view. A change is told when it has lasted: a truck may stand in front for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cameras.sketch import Plane, Sketch, pooled

LASTS_S = 35.0
"""A change that lasts so long is told."""
_COMPARE_S = 1.0
_RECENT_S = 4.0
_MOST_RECENT = 0.25
"""One picture counts for no more, however seldom they come: noise must cancel."""
_LEARN_S = 20.0
"""A view that stayed the same for so long is the one to compare with."""
_REFERENCE_S = 300.0
_USUAL_S = 86_400.0
"""After a day, what a turned camera shows is its view."""
_LONGEST_STEP_S = 5.0

_MIDDLE = 4
_ROUGH = 16
_BLOCK = 8
_FLAT = 0.6
"""Grey levels. A block with less structure shows nothing that could be compared."""
_FEW_BLOCKS = 4
_ALIKE_BLOCK = 0.5
_SAME = 0.2
"""The share of blocks with structure that agree in the same view. In two views it is below 0.05, with lamps at night or
in infrared light above 0.3."""
_STAYS = 0.5
"""It is higher where nothing but time lies between two pictures."""
_SHARP = 0.22
"""Out of focus, less of the fine detail is left than of the coarse: below this. In mist it is above 0.28."""
_SHARPER = 2.0
"""The energy of its fine detail, noise and all, when a picture comes back into focus."""
_GONE = 0.2
"""The share of a view's structure that another view has at least."""
_WORTH_LEARNING = 0.5
_ALIKE = 0.85
_CONTRAST = 0.4
"""Rough outline and contrast survive the worst focus, and no cover."""


class View(StrEnum):
    """How a camera's view is."""

    CLEAR = "clear"
    TURNED = "turned"
    """It shows something else than before."""
    COVERED = "covered"
    """It shows nothing: all dark, or all alike."""
    DEFOCUSED = "defocused"
    """It shows the same, without its fine detail."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A mean picture, and what is compared of it."""

    mean: Plane
    rough: Plane
    middle: Plane
    fine: Plane
    energy: Plane
    """By block: how much structure the middle band has, in grey levels."""

    @property
    def blank(self) -> bool:
        return int((self.energy > _FLAT).sum()) < _FEW_BLOCKS


class ViewWatch:
    """The view of one camera."""

    def __init__(self, state: View = View.CLEAR, number: int = 0, since_s: float = 0.0) -> None:
        """How the view was when the camera was watched last."""
        self.state = state
        self.number = number
        """Counts the changes of the view."""
        self.since_s = since_s
        self._recent: Plane | None = None
        self._time_s = 0.0
        self._compared_s = 0.0
        self._reference: _Shown | None = None
        """What the camera shows as long as its view is the same."""
        self._former: _Shown | None = None
        """What it showed when its view was clear."""
        self._other: _Shown | None = None
        """The first picture of what may be another view."""
        self._other_s = 0.0

    @property
    def undecided(self) -> bool:
        """Whether it may be another view, which is known only when that has lasted."""
        return self._reference is not None and self._other is not None

    def look(self, sketch: Sketch, time_s: float, *, after_gap: bool) -> bool:
        """Whether `state` or `number` changed with this picture."""
        step_s, self._time_s = time_s - self._time_s, time_s
        if self._recent is None or after_gap or step_s < 0:
            self._recent, self._compared_s, self._other = sketch.astype(np.float32), time_s, None
            return False
        self._recent = self._recent + np.float32(min(_MOST_RECENT, step_s / _RECENT_S)) * (sketch - self._recent)
        if time_s - self._compared_s < _COMPARE_S:
            return False
        step_s, self._compared_s = time_s - self._compared_s, time_s
        recent = _shown(self._recent)
        if self._reference is None:
            return self._find_first(recent)
        found, back = _judged(self._reference, recent), self._is_back(self._reference, recent)
        if found is View.DEFOCUSED and self.state is View.DEFOCUSED:
            found = View.CLEAR  # what is left of its fine detail is noise
        if found is View.CLEAR and not back:
            self._other = None
            self._learn(self._reference, recent, step_s)
            usual = self.state is View.TURNED and time_s - self.since_s > _USUAL_S
            return usual and self._become(View.CLEAR, counts=False)
        # A camera that is carried about, or cuts of a film, show something else each time.
        moves = found is View.TURNED and not back
        if self._other is None or (moves and _agreement(self._other, recent) < _STAYS):
            self._other, self._other_s = recent, time_s
        return time_s - self._other_s >= LASTS_S and self._change(View.CLEAR if back else found, recent)

    def _learn(self, reference: _Shown, recent: _Shown, step_s: float) -> None:
        # By night there may be hardly any structure: the view of the day is still known in the morning. What is out of
        # focus is not learned: it is compared with pictures that have as much noise.
        structure = float(recent.energy.mean()) / (float(reference.energy.mean()) + 1e-3)
        if self.state is not View.DEFOCUSED and structure >= _WORTH_LEARNING:
            rate = np.float32(min(step_s, _LONGEST_STEP_S) / _REFERENCE_S)
            self._reference = _shown(reference.mean + rate * (recent.mean - reference.mean))

    def _is_back(self, reference: _Shown, recent: _Shown) -> bool:
        """Whether the view is what it was before it was turned or put out of focus."""
        if self.state is View.CLEAR:
            return False
        if self._former is not None:
            return _judged(self._former, recent) is View.CLEAR
        sharper = float((recent.fine**2).mean()) > _SHARPER * float((reference.fine**2).mean())
        return self.state is View.DEFOCUSED and sharper and _judged(recent, reference) is View.DEFOCUSED

    def _find_first(self, recent: _Shown) -> bool:
        """Nothing is known of the view: the first picture that stays is what it shows."""
        other = self._other
        if (
            other is None
            or other.blank is not recent.blank
            or not (recent.blank or _agreement(other, recent) >= _STAYS)
        ):
            self._other, self._other_s = recent, self._time_s
            return False
        lasted_s = self._time_s - self._other_s
        blind = self.state in (View.COVERED, View.DEFOCUSED)
        if recent.blank:
            return not blind and lasted_s >= LASTS_S and self._become(View.COVERED)
        if lasted_s < _LEARN_S:
            return False
        self._reference, self._other = recent, None
        if not blind or (self.state is View.DEFOCUSED and self._former is None):
            return False
        same = self._former is None or _judged(self._former, recent) is View.CLEAR
        return self._become(View.CLEAR if same else View.TURNED)

    def _change(self, state: View, recent: _Shown) -> bool:
        if self.state is View.CLEAR:
            self._former = self._reference
        self._reference = None if state is View.COVERED or recent.blank else recent
        return self._become(state)

    def _become(self, state: View, *, counts: bool = True) -> bool:
        self.state, self.since_s, self._other = state, self._time_s, None
        self.number += counts
        return True


def _shown(mean: Plane) -> _Shown:
    middle = _detail(pooled(mean, _MIDDLE))
    return _Shown(mean, pooled(mean, _ROUGH), middle, _detail(mean), np.sqrt(pooled(middle * middle, _BLOCK)))


def _judged(reference: _Shown, recent: _Shown) -> View:
    """What the recent picture is, against the learned one."""
    if _agreement(reference, recent) >= _SAME:
        return View.DEFOCUSED if _sharpness(reference, recent) < _SHARP else View.CLEAR
    if float(recent.energy.mean()) >= _GONE * float(reference.energy.mean()):
        return View.TURNED
    alike, contrast = _correlation(reference.rough, recent.rough)
    return View.DEFOCUSED if alike >= _ALIKE and contrast >= _CONTRAST else View.COVERED


def _agreement(reference: _Shown, recent: _Shown) -> float:
    """The share of the blocks with structure whose structure is the same now."""
    both = pooled(reference.middle * recent.middle, _BLOCK)
    structured: NDArray[np.bool_] = reference.energy > _FLAT
    alike = both / (reference.energy * recent.energy + np.float32(1e-3)) > _ALIKE_BLOCK
    return float((alike & structured).sum() / max(1, structured.sum()))


def _sharpness(reference: _Shown, recent: _Shown) -> float:
    """How much of the learned fine detail is there, against how much of the coarse. Noise is in neither."""
    fine = float((reference.fine * recent.fine).sum() / ((reference.fine**2).sum() + 1e-3))
    middle = float((reference.middle * recent.middle).sum() / ((reference.middle**2).sum() + 1e-3))
    return fine / max(middle, 1e-3)


def _correlation(one: Plane, other: Plane) -> tuple[float, float]:
    """How far the two rise and fall together, and the contrast of the second in that of the first."""
    first, second = one - one.mean(), other - other.mean()
    sizes = float(np.sqrt((first**2).sum())), float(np.sqrt((second**2).sum()))
    return float((first * second).sum()) / (sizes[0] * sizes[1] + 1e-3), sizes[1] / (sizes[0] + 1e-3)


def _detail(plane: Plane) -> Plane:
    """How each pixel differs from those around it."""
    found = np.zeros_like(plane)
    around = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
    found[1:-1, 1:-1] = plane[1:-1, 1:-1] - np.float32(0.25) * around
    return found
