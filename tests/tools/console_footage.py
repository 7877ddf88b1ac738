"""What the cameras of the console's pictures show: composed of pieces that are all under CC BY 4.0."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from evals.yard.compose import write
from evals.yard.folder import recipe
from evals.yard.scenes import DAY, DUSK, Video, scripted

SIZE = (960, 540)
# Only places and cut-outs of Intel's sample videos and of the Lomiri wallpapers: evals/yard/SOURCES.md.
SCRIPTS = {
    "yard": ("carpark", DAY, "car-white 9 away, woman-blonde 3, cyclist 2.5, car-grey 9 away, walker 1.5"),
    "gate": ("road", DUSK, "car-redtop 9 away, man-hoodie 4, cyclist 3, car-whitefront 9 toward"),
    "hall": ("warehouse", DAY, "worker 6 away, man-tshirt 6, woman-darkhair 7+, worker 4"),
    "lobby": ("room", DAY, "woman-cardigan 7, man-greyshirt 8, man-hoodie 7+, woman-cardigan-back 12 away"),
    "path": ("meadow", DAY, "cyclist 4, woman-blonde 5, man-greyshirt 5+, cyclist 6"),
}


def footage() -> Mapping[str, Path]:
    """The clips by camera. They are composed once, and kept outside the tree."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchword-tests" / "console-footage"
    cache.mkdir(parents=True, exist_ok=True)
    videos = (scripted(name, "test", place, light, SIZE, said) for name, (place, light, said) in SCRIPTS.items())
    return {video.name: _composed(video, cache) for video in videos}


def _composed(video: Video, cache: Path) -> Path:
    path = cache / f"{video.name}-{recipe(video)[:12]}.mp4"
    if not path.is_file():
        print(f"  composing {video.seconds:.0f} s of {video.name}", flush=True)
        unfinished = path.with_suffix(".part")
        write(video, unfinished)
        unfinished.replace(path)
    return path
