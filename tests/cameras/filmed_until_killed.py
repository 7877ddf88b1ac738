"""A process that records until it is killed: python -m tests.cameras.filmed_until_killed FOLDER FILM MS."""

from __future__ import annotations

import sys
from pathlib import Path

from cameras.recorder import Recorder
from cameras.remux import Tap
from cameras.settings import RecordingSettings
from proto.types import Camera, Recording
from tests.cameras.filming import tap_into


def main() -> None:
    folder, path, start_ms = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    recorder = Recorder(folder, RecordingSettings(segment_s=5, keep_free_bytes=0))
    recorder.follow([Camera("gate", "rtsp://gate", record=Recording(3650, 100_000_000))])
    recorder.start()
    while True:
        tap = Tap("gate", lambda: True, recorder._give)
        start_ms = tap_into(tap, path, start_ms)


if __name__ == "__main__":
    main()
