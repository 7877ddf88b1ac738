"""What looking at a picture costs, what is kept of it, and how soon a camera's lost view is found.

`python -m loadtests.cameras` takes about two minutes; `--hours 3` watches three hours of weather at every place.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from av import VideoFrame

from cameras.gate import NoveltyGate
from cameras.looking import Looking
from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.sketch import halved, signature
from cameras.source import watch
from cameras.view import ViewWatch
from proto.types import Camera
from tests.cameras.scenes import PLACES, Grey, Sensor, blurred, grey
from tests.cameras.test_moved import with_thing
from tests.cameras.test_view import Watched, covered_by_hand, noisy_dark, paper, weather
from tests.clips import CLIPS

_SIDE, _QUALITY = 260, 88
_ROUNDS = 5


class _Resized:
    """Pictures of a clip at another size."""

    def __init__(self, clip: str, width: int, height: int) -> None:
        self.pictures: list[Picture] = []
        settings, camera = CameraSettings(fps=10), Camera("it", str(CLIPS[clip]), speed=0, start_ms=0)
        for picture in itertools.islice(watch(camera, settings, threading.Event()), 40):
            frame: VideoFrame = picture._frame.reformat(width, height, "yuv420p")
            self.pictures.append(Picture(picture._darkroom, frame, picture.captured_ms, after_gap=picture.after_gap))


def _fastest_ms(work: Callable[[], int]) -> float:
    """Processor time of one piece of the work, in the fastest of a few rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        pieces = work()
        best = min(best, (time.process_time() - began_s) / max(1, pieces) * 1000)
    return best


def costs(width: int, height: int) -> str:
    """Per picture looked at: scaling and the gate alone, and everything; per picture kept: frame, and what is cut."""
    pictures = _Resized("bigbuckbunny", width, height).pictures
    settings = CameraSettings()

    def gate() -> int:
        judging = NoveltyGate(settings.novelty, settings.heartbeat_s)
        for picture in pictures:
            judging.judge(signature(halved(picture.sketch())), picture.captured_ms / 1000, after_gap=False)
        return len(pictures)

    def whole() -> int:
        looking = Looking(settings, ViewWatch())
        for picture in pictures:
            looking.look(picture)
        return len(pictures)

    looking, cut = Looking(settings, ViewWatch()), 0
    spent_s = 0.0
    for picture in pictures:
        looking.look(picture)
        began_s = time.process_time()
        cut += len(looking.crops(picture))
        spent_s += time.process_time() - began_s
    frame = _fastest_ms(lambda: sum(1 for picture in pictures if picture.jpeg(_SIDE, _QUALITY)))
    return (
        f"{width} x {height}: looked at {_fastest_ms(gate):.2f} -> {_fastest_ms(whole):.2f} ms; "
        f"kept: frame {frame:.2f} ms, {cut / len(pictures):.1f} crops {spent_s / len(pictures) * 1000:.2f} ms"
    )


def kept(clip: str, crops: int) -> str:
    """Pictures kept, and their bytes."""
    settings = CameraSettings(crops=crops)
    looking, camera = Looking(settings, ViewWatch()), Camera("it", str(CLIPS[clip]), speed=0, start_ms=0)
    seen, frames, parts = 0, [], []
    for picture in watch(camera, settings, threading.Event()):
        seen += 1
        if looking.look(picture).judgement.keep:
            frames.append(len(picture.jpeg(_SIDE, _QUALITY)))
            parts.append([len(crop.jpeg) for crop in looking.crops(picture)])
    cut = sum(map(len, parts)) / max(1, len(parts))
    extra = sum(map(sum, parts)) / max(1, len(parts))
    return f"{len(frames)} of {seen} kept, {np.mean(frames):,.0f} bytes + {extra:,.0f} in {cut:.1f} crops"


class _Drawn:
    """A picture of grey levels in place of a source's."""

    size = (640, 384)

    def __init__(self, picture: Grey, at_s: float, sensor: Sensor) -> None:
        self.captured_ms, self.after_gap = round(at_s * 1000), at_s == 0
        self._sketch = sensor(picture)

    def sketch(self) -> np.ndarray:
        return self._sketch

    def crop(self, cut: object, longest: int, quality: int) -> bytes:  # noqa: ARG002
        return b""


def quiet(noise: float, crops: int) -> tuple[int, int]:
    """Pictures kept and crops of ten minutes of still views."""
    frames = parts = 0
    for place in PLACES:
        looking, sensor = Looking(CameraSettings(crops=crops), ViewWatch()), Sensor(noise)
        for number in range(1200):
            picture = _Drawn(grey(place), number / 2, sensor)
            if looking.look(picture).judgement.keep:
                frames += 1
                parts += len(looking.crops(picture))
    return frames, parts


def arrivals(share: float, contrast: float, crops: int) -> str:
    """Of things that appear on a still view and move on: in how many cases a picture with it is kept within 2 s."""
    found = total = 0
    for place, at in itertools.product(PLACES, range(8)):
        looking, sensor = Looking(CameraSettings(crops=crops, heartbeat_s=1000), ViewWatch()), Sensor(1.5, at)
        for number in range(20):
            looking.look(_Drawn(grey(place), number / 2, sensor))
        way = (with_thing(grey(place), share, 0.1 + 0.08 * at + 0.015 * step, contrast)[0] for step in range(4))
        pictures = [_Drawn(picture, 10 + step / 2, sensor) for step, picture in enumerate(way)]
        found += any(looking.look(picture).judgement.keep for picture in pictures)
        total += 1
    return f"{found} of {total}"


def delays() -> Iterator[str]:
    """How long after the change each kind is told."""
    kinds: dict[str, Callable[[str], Grey]] = {
        "turned": lambda place: grey(place, turned=True),
        "covered by a hand": lambda place: covered_by_hand(grey(place)),
        "covered, dark": lambda place: noisy_dark(grey(place)),
        "covered with paper": lambda place: paper(grey(place)),
        "defocused, sigma 2 of 320": lambda place: blurred(grey(place), 2),
        "defocused, sigma 8 of 320": lambda place: blurred(grey(place), 8),
    }
    for kind, changed in kinds.items():
        found = []
        for place in PLACES:
            camera = Watched()
            camera.shows(grey(place), 60)
            delay_s = camera.shows(changed(place), 60)
            if delay_s is not None and kind.startswith(camera.watch.state.value):
                found.append(delay_s)
        yield f"{kind}: {len(found)} of {len(PLACES)}, after {min(found):.0f} to {max(found):.0f} s"


def main() -> None:
    """Print one figure a line."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--hours", type=float, default=0.0, help="Hours of weather and dusk at every place.")
    hours = flags.parse_args().hours
    for size in ((640, 360), (1920, 1080)):
        print(costs(*size), flush=True)
    for clip in CLIPS:
        print(f"{clip}, without crops: {kept(clip, 0)}; with: {kept(clip, 3)}", flush=True)
    for noise in (1.5, 4.0):
        before, after = quiet(noise, 0), quiet(noise, 3)
        print(f"still, noise {noise}: {before[0]} kept without crops, {after[0]} with, {after[1]} crops", flush=True)
    for share, contrast in ((0.005, 20.0), (0.01, 12.0), (0.02, 8.0)):
        words = f"{arrivals(share, contrast, 0)} without crops, {arrivals(share, contrast, 3)} with"
        print(f"kept within 2 s, {share:.1%} of the picture, {contrast:.0f} grey levels: {words}", flush=True)
    for line in delays():
        print(line, flush=True)
    if hours:
        wrong = sum(Watched(noise=2.5).shows(grey(place), hours * 3600, weather, 3.0) is not None for place in PLACES)
        print(f"{hours:g} h of weather and dusk, {len(PLACES)} places: {wrong} false reports", flush=True)


if __name__ == "__main__":
    main()
