"""Real things that tests of several rooms use: the built-in bundle and real frames."""

from __future__ import annotations

import fcntl
import os

import av
import numpy as np
import pytest
import simplejpeg

from models.bundle import Bundle, load_bundle
from models.making.builtin import builtin_bundle
from models.preprocess import Pixels
from tests.clips import CLIPS


@pytest.fixture(scope="session")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The built-in bundle, assembled once a test run, also where several processes share the run."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (folder / "builtin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return load_bundle(builtin_bundle(folder / "cache", lambda _: None))


def frames(clip: str, *, every: int = 12) -> list[Pixels]:
    """Every so-manieth frame of one of CLIPS, decoded."""
    with av.open(str(CLIPS[clip])) as source:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for number, frame in enumerate(source.decode(video=0))
            if number % every == 0
        ]


def jpeg(pixels: Pixels, quality: int = 88) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality)
    return encoded


def picture(width: int = 320, height: int = 180, seed: int = 0) -> Pixels:
    """A smooth coloured picture that no other seed gives."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (9 + seed) + seed), np.cos(y / (7 + seed)), np.sin((x + y) / (13 + seed))]
    return ((np.stack(waves, axis=2) + 1) * 127).astype(np.uint8)
