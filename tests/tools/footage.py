"""Composed footage with known truth: real clips cut together, and real objects that appear on a still view and leave.

`compose` writes a clip and, beside it, its labels as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.clips import CLIPS

Picture = NDArray[np.uint8]

FPS = 12
WIDTH, HEIGHT = 480, 272
NOISE = 1.5
"""Sensor noise, in grey levels: a still view is never wholly still."""


@dataclass(frozen=True, slots=True)
class Label:
    """A span of the footage in which one scene is to be seen."""

    start_s: float
    end_s: float
    scene: str
    """Spans that show the same have the same name."""
    words: str
    """What a person would type to find it."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A piece of a real clip. With `thing`, the clip's first picture stands still and the thing moves across it."""

    clip: str
    seconds: float
    thing: str = ""


CUTS: dict[str, tuple[tuple[float, str, str], ...]] = {
    "bikes": (
        (0.0, "bus", "a street from above"),
        (1.08, "taxi", "a taxi in a traffic jam"),
        (3.0, "cyclist", "a cyclist waits beside a black car"),
        (5.42, "railing", "a green railing along a street"),
        (7.42, "wall", "a bicycle at a wall"),
        (9.58, "wheel", "the wheel of a bicycle"),
    )
}
"""Where a clip itself was cut, looked up by eye: second, scene, words. A clip that is not here is one scene."""
SHORTEST_S = 0.5
"""What is shorter belongs to the scene before it: at two pictures a second nobody sees it."""
WORDS = {
    "bikes": "people riding bicycles",
    "bigbuckbunny": "a butterfly and a rabbit on a meadow",
    "carphone_pristine": "a man in a car",
}
THINGS = {"bikes": (0.30, 0.20, 0.45, 0.75), "carphone_pristine": (0.25, 0.10, 0.55, 0.85)}
"""Where in a clip there is something to cut out: left, top, width, height, as shares of the picture."""

PROGRAMME = (
    Shot("bikes", 5),
    Shot("carphone_pristine", 4),
    Shot("bigbuckbunny", 5),
    Shot("bikes", 3),
    Shot("bigbuckbunny", 4, thing=" "),
    Shot("bigbuckbunny", 4, thing="carphone_pristine"),
    Shot("bigbuckbunny", 5, thing=" "),
    Shot("carphone_pristine", 6),
    Shot("bigbuckbunny", 4, thing=" "),
    Shot("bigbuckbunny", 5, thing="bikes"),
    Shot("bigbuckbunny", 4, thing=" "),
    Shot("bikes", 8),
    Shot("bigbuckbunny", 3),
    Shot("carphone_pristine", 5),
)
"""Ten cuts between clips, those inside them, six appearances or departures; `thing=" "` is the still view alone."""


def compose(path: Path, programme: tuple[Shot, ...] = PROGRAMME, *, seed: int = 0) -> list[Label]:
    """Write the clip and its labels (`path` with .json); give the labels."""
    random = np.random.default_rng(seed)
    clips = {name: _pictures(name) for name in {shot.clip for shot in programme}}
    clips |= {shot.thing: _pictures(shot.thing) for shot in programme if shot.thing.strip()}
    labels: list[Label] = []
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "20"}
        written = 0
        for shot in programme:
            count = round(shot.seconds * FPS)
            labels += _labels(shot, written / FPS, (written + count) / FPS, len(clips[shot.clip]) / FPS)
            for picture in islice(_shown(shot, clips, count), count):
                noisy = picture + random.normal(0.0, NOISE, picture.shape)
                frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
                out.mux(stream.encode(frame))
            written += count
        out.mux(stream.encode(None))
    path.with_suffix(".json").write_text(json.dumps([asdict(label) for label in labels], indent=1))
    return labels


def _labels(shot: Shot, start_s: float, end_s: float, clip_s: float) -> list[Label]:
    """What is to be seen in a shot: a clip has cuts of its own, and jumps where it begins again."""
    if shot.thing:
        return [_label(shot, start_s, end_s)]
    pieces = CUTS.get(shot.clip, ((0.0, shot.clip, WORDS[shot.clip]),))
    rounds = range(math.ceil((end_s - start_s) / clip_s))
    begins = [(start_s + number * clip_s + at_s, scene, words) for number in rounds for at_s, scene, words in pieces]
    seen = [begin for begin in begins if begin[0] == start_s or begin[0] <= end_s - SHORTEST_S]
    ends = [*(at_s for at_s, _, _ in seen[1:]), end_s]
    return [Label(at_s, until_s, scene, words) for (at_s, scene, words), until_s in zip(seen, ends, strict=True)]


def _label(shot: Shot, start_s: float, end_s: float) -> Label:
    thing = shot.thing.strip()
    scene = f"still {shot.clip}{' with ' + thing if thing else ''}"
    return Label(start_s, end_s, scene, WORDS[thing or shot.clip])


def _shown(shot: Shot, clips: dict[str, list[Picture]], count: int) -> Iterator[Picture]:
    if not shot.thing:
        yield from cycle(clips[shot.clip])
    still = clips[shot.clip][0]
    if not shot.thing.strip():
        yield from cycle([still])
    for number, source in enumerate(cycle(clips[shot.thing])):
        yield _pasted(still, _cut_out(source, THINGS[shot.thing]), number / max(1, count - 1))


def _cut_out(picture: Picture, box: tuple[float, float, float, float]) -> Picture:
    left, top, width, height = box
    rows = slice(int(top * HEIGHT), int((top + height) * HEIGHT))
    return picture[rows, int(left * WIDTH) : int((left + width) * WIDTH)]


def _pasted(background: Picture, thing: Picture, progress: float) -> Picture:
    """The thing on its way from left to right, wholly inside the picture."""
    height, width = thing.shape[:2]
    left, top = int(progress * (WIDTH - width)), (HEIGHT - height) * 2 // 3
    picture = background.copy()
    picture[top : top + height, left : left + width] = thing
    return picture


def _pictures(clip: str) -> list[Picture]:
    """The clip at FPS, in the footage's size."""
    with av.open(str(CLIPS[clip])) as source:
        rate = float(source.streams.video[0].average_rate or FPS)
        frames = source.decode(video=0)
        wanted = (
            frame for number, frame in enumerate(frames) if int(number * FPS / rate) != int((number - 1) * FPS / rate)
        )
        return [np.asarray(frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray(), dtype=np.uint8) for frame in wanted]
