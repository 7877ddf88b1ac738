"""Real video of which only what the packet gate asks for is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from cameras.settings import CameraSettings
from evals.yard.pictures import Planes
from loadtests.packets import Watched, film, watch

WIDTH, HEIGHT, FPS = 160, 96, 10
EVENTS = ((36.0, 39.0),)
BOTH_WAYS = {"preset": "veryfast", "crf": "26", "g": "30", "bf": "2", "sc_threshold": "0"}


def pictures(seconds: float) -> Iterator[Planes]:
    """A still view over noise, in which something flickering passes by."""
    dice = np.random.default_rng(3)
    still = np.tile(np.linspace(40, 200, WIDTH), (HEIGHT, 1)) + 20 * (np.arange(HEIGHT)[:, None] // 12 % 2)
    chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    for number in range(round(seconds * FPS)):
        picture = still + dice.normal(0, 3, still.shape)
        for begin_s, end_s in EVENTS:
            if begin_s <= number / FPS < end_s:
                left = int((WIDTH - 30) * (number / FPS - begin_s) / (end_s - begin_s))
                picture[30:70, left : left + 30] = dice.uniform(30, 220, (5, 5)).repeat(8, 0).repeat(6, 1)
        yield Planes(np.clip(picture, 16, 235).astype(np.uint8), chroma, chroma)


def watched(path: Path, packet_gate: Literal["auto", "off"]) -> Watched:
    return watch(path, CameraSettings(packet_gate=packet_gate))


def test_nothing_of_what_moves_is_lost_and_every_picture_is_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "passing.mp4"
    film(pictures(50), [path], [BOTH_WAYS], FPS)
    whole, spared = watched(path, "off"), watched(path, "auto")
    assert spared.looked == whole.looked
    assert spared.decoded < 0.85 * whole.decoded == 0.85 * whole.packets
    for begin_s, end_s in EVENTS:
        moving = [at_s for at_s in whole.kept_s if begin_s <= at_s <= end_s]
        assert moving
        assert set(np.round(moving, 2)) <= set(np.round(spared.kept_s, 2))
