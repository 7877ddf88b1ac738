"""What a process does that records until it is killed."""

from __future__ import annotations

import threading
from pathlib import Path

from cameras.recorder import Recorder
from cameras.remux import Tap
from cameras.settings import RecordingSettings
from proto.types import Camera, Recording
from tests.cameras.filming import tap_into


def record(folder: Path, path: Path, start_ms: int) -> None:
    """Record the film into the folder, again and again."""
    pace = threading.Event()
    recorder = Recorder(folder, RecordingSettings(segment_s=5, keep_free_bytes=0))
    recorder.follow([Camera("gate", "rtsp://gate", record=Recording(3650, 100_000_000))])
    recorder.start()
    while True:
        start_ms = tap_into(Tap("gate", lambda: True, recorder._give), path, start_ms)
        pace.wait(0.05)
