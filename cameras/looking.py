"""What one camera's pictures say: which are kept, what moved in them, and whether the view is still the same.

It lives as long as the source is open, except for the view, which the camera keeps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cameras.areas import watched
from cameras.framing import Cut, cuts
from cameras.gate import SIDE, Judgement, NoveltyGate
from cameras.moved import COLUMNS, ROWS, Motion
from cameras.settings import CameraSettings
from cameras.sketch import Sketch, halved, signature
from cameras.view import View, ViewWatch
from catalog.views import CameraView
from proto.errors import WatchwordError
from proto.metrics import CROPS_SENT, VIEW_CHANGES
from proto.types import Area
from proto.v1.events_pb2 import Crop

log = logging.getLogger("watchword.cameras")

_WORDS = {
    View.CLEAR: "its view is clear",
    View.TURNED: "it shows another view than before; turn it back, or leave it if that is meant: it is learned anew",
    View.COVERED: "it shows nothing, all dark or all alike; look whether it is covered, or whether there is no light",
    View.DEFOCUSED: "it is out of focus; clean its lens and set its focus",
}

_CUT_SHARE = 0.1
"""A picture of which so much differs from the last one kept is another one, as at a cut."""
CROP_PX = 416
"""The long side of a crop has at most so many pixels."""


class Looked(Protocol):
    """A picture as it comes from a source."""

    @property
    def captured_ms(self) -> int:
        """When it was taken."""

    @property
    def after_gap(self) -> bool:
        """Whether it is the first one after a gap."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""

    def sketch(self) -> Sketch:
        """The small picture that policies look at."""

    def crop(self, cut: Cut, longest: int, quality: int) -> bytes:
        """A part of it as JPEG."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in one picture."""

    judgement: Judgement
    view_changed: bool
    stirs: bool
    """Whether anything moves in it, or it may be another view."""


class Looking:
    """Looks at the pictures of one camera, from the opening of its source on."""

    def __init__(self, settings: CameraSettings, view: ViewWatch, unwatched: Sequence[Area] = ()) -> None:
        """`unwatched` are the areas of the picture in which movement says nothing."""
        self._settings = settings
        self._gate = NoveltyGate(settings.novelty, settings.heartbeat_s, watched(unwatched, SIDE, SIDE))
        self._view = view
        self._motion = Motion(watched(unwatched, COLUMNS, ROWS))

    def look(self, picture: Looked) -> Look:
        """Look at the next picture."""
        time_s, after_gap = picture.captured_ms / 1000, picture.after_gap
        sketch = picture.sketch()
        half = halved(sketch)
        view_changed = self._view.look(sketch, time_s, after_gap=after_gap)
        self._motion.look(half, time_s, after_gap=after_gap or view_changed)
        came_or_went = self._settings.crops > 0 and (self._motion.arrived() or self._motion.departed())
        judgement = self._gate.judge(signature(half), time_s, after_gap=after_gap, told=came_or_went)
        if judgement.keep:
            self._motion.kept()
        cut = judgement.keep and judgement.novelty > _CUT_SHARE
        return Look(judgement, view_changed, cut or self._motion.stirs() or self._view.undecided)

    def glance(self, picture: Looked) -> bool:
        """Whether anything may have moved in the picture. It is not counted as looked at."""
        return self._motion.glance(halved(picture.sketch()))

    def crops(self, picture: Looked) -> list[Crop]:
        """What moved in the picture that was looked at last, cut out of it."""
        width, height = picture.size
        found = cuts(self._motion.patches, width, height, self._settings.crops)
        CROPS_SENT.inc(len(found))
        return [
            Crop(
                jpeg=picture.crop(cut, CROP_PX, self._settings.jpeg_quality),
                left=cut.left / width,
                top=cut.top / height,
                right=cut.right / width,
                bottom=cut.bottom / height,
            )
            for cut in found
        ]


class ViewNotebook(Protocol):
    """Where the view of a camera is kept."""

    def view(self, view: CameraView) -> None:
        """Store the view soon."""

    def view_of(self, camera: str) -> CameraView | None:
        """The latest view. Blocks; raises when that is not possible."""


class WatchedView:
    """The view of one camera, over all openings of its source and all lives of its process."""

    def __init__(self, camera: str, notes: ViewNotebook) -> None:
        self._camera = camera
        self._notes = notes
        self._watch: ViewWatch | None = None

    @property
    def state(self) -> View:
        """How it is now."""
        return View.CLEAR if self._watch is None else self._watch.state

    @property
    def number(self) -> int:
        """`Frame.view`."""
        return 0 if self._watch is None else self._watch.number

    def begin(self) -> ViewWatch:
        """Watch on from where it was left. Blocks."""
        if self._watch is None:
            known: CameraView | None = None
            try:
                known = self._notes.view_of(self._camera)
            except WatchwordError as error:
                log.warning(
                    "camera %s: how its view was cannot be read, it is taken to be clear: %s", self._camera, error
                )
            if known is None:
                self._watch = ViewWatch()
            else:
                self._watch = ViewWatch(View(known.state), known.view, known.since_ms / 1000)
        return self._watch

    def tell(self) -> None:
        """The view changed: say so, and keep it."""
        watch = self.begin()
        VIEW_CHANGES.labels(state=watch.state).inc()
        level = logging.INFO if watch.state is View.CLEAR else logging.WARNING
        log.log(level, "camera %s: %s", self._camera, _WORDS[watch.state])
        self._notes.view(CameraView(self._camera, watch.number, watch.state.value, round(watch.since_s * 1000)))
