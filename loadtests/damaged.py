"""Damaged streams, thousands of them: each must end in pictures or in a typed error, and take no process with it.

`python -m loadtests.damaged --streams 10000` damages real video in many ways and has it read as cameras are, in child
processes, so that a decoder that crashes or hangs is counted and not the end. It prints what came of each kind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cameras.settings import CameraSettings
from cameras.source import watch
from proto.errors import WatchwordError
from proto.types import Camera

_EACH = 200
"""Streams of one child."""
_LONGEST_S = 20.0
"""A child in which one stream takes longer hangs."""
_MOST_PICTURES = 60
_SETTINGS = CameraSettings(fps=10, open_timeout_s=5, silent_after_s=5)
_FORMS = (("mpegts", "libx264"), ("matroska", "libx264"), ("mp4", "libx264"), ("mpegts", "libx265"), ("mjpeg", "mjpeg"))

Damage = Callable[[bytearray, random.Random], bytes]


def _flipped(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 60)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(1, len(data))])


def _torn(data: bytearray, chance: random.Random) -> bytes:
    begin = chance.randrange(len(data))
    return bytes(data[:begin] + data[begin + chance.randrange(1, 5000) :])


def _noisy(data: bytearray, chance: random.Random) -> bytes:
    begin = chance.randrange(len(data))
    data[begin : begin + chance.randrange(1, 3000)] = chance.randbytes(chance.randrange(1, 3000))
    return bytes(data)


def _shuffled(data: bytearray, chance: random.Random) -> bytes:
    pieces = [data[begin : begin + 188] for begin in range(0, len(data), 188)]
    for _ in range(chance.randint(1, 20)):
        one, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        pieces[one], pieces[other] = pieces[other], pieces[one]
    return b"".join(pieces)


def _garbage(_: bytearray, chance: random.Random) -> bytes:
    return b"".join(b"\0\0\0\1" + chance.randbytes(chance.randrange(1, 400)) for _ in range(50))


DAMAGES: dict[str, Damage] = {
    "bits flipped": _flipped,
    "cut off": _cut,
    "torn": _torn,
    "noise in it": _noisy,
    "packets exchanged": _shuffled,
    "garbage NAL units": _garbage,
}


def damaged(number: int, clips: list[tuple[str, bytes]]) -> tuple[str, str, bytes]:
    """The stream with this number: what was done to it, how its file ends, and its bytes."""
    chance = random.Random(number)
    name = list(DAMAGES)[number % len(DAMAGES)]
    suffix, data = chance.choice(clips)
    return name, ".h264" if name == "garbage NAL units" else suffix, DAMAGES[name](bytearray(data), chance)


def read(number: int, clips: list[tuple[str, bytes]], folder: Path) -> tuple[str, str]:
    """What was done to a stream, and what came of it."""
    name, suffix, data = damaged(number, clips)
    path = folder / f"stream{suffix}"
    path.write_bytes(data)
    seen = 0
    try:
        for _picture in watch(Camera("damaged", str(path), speed=0.0, start_ms=0), _SETTINGS, threading.Event()):
            seen += 1
            if seen >= _MOST_PICTURES:
                break
    except WatchwordError as error:
        return name, f"{type(error).__name__} {'after pictures' if seen else 'at once'}"
    return name, "pictures"


def child(first: int, count: int) -> None:
    """Read so many streams; a line for each, and before it one that says which."""
    with tempfile.TemporaryDirectory() as folder:
        clips = list(_clips(Path(folder)))
        for number in range(first, first + count):
            print(json.dumps([number]), flush=True)
            print(json.dumps([number, *read(number, clips, Path(folder))]), flush=True)


def run(first: int, streams: int, seconds: float) -> int:
    """Read them all in children, one after the other. The exit code: 0 when each ended as it should."""
    found: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    number, until_s = first, time.monotonic() + seconds
    while number < first + streams and time.monotonic() < until_s:
        count = min(_EACH, first + streams - number)
        done, trouble = _watched(number, count, found)
        if trouble:
            name = list(DAMAGES)[done % len(DAMAGES)]
            wrong.append(f"stream {done} ({name}): {trouble}")
            done += 1
        number = done
        print(f"{number - first:,} streams", file=sys.stderr)
    for (name, outcome), times in sorted(found.items()):
        print(f"{name:20} {outcome:28} {times:7,}")
    print(f"{number - first:,} streams; without a typed end: {len(wrong)}")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong or number < first + streams else 0


def _watched(first: int, count: int, found: Counter[tuple[str, str]]) -> tuple[int, str]:
    """Let a child read; the number of the stream that is next, or of that which was its end, and why."""
    words = [sys.executable, "-m", "loadtests.damaged", "--child", str(first), str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        now, heard_s, over = first, [time.monotonic()], threading.Event()

        def guard() -> None:
            while not over.wait(0.5):
                if time.monotonic() - heard_s[0] > _LONGEST_S + (30.0 if now == first else 0.0):
                    process.kill()
                    return

        watcher = threading.Thread(target=guard, daemon=True)
        watcher.start()
        noise: list[str] = []
        reader = threading.Thread(target=lambda: noise.extend(process.stderr or ()), daemon=True)
        reader.start()
        for line in process.stdout:
            heard_s[0] = time.monotonic()
            told = json.loads(line)
            now = told[0]
            if len(told) > 1:
                found[told[1], told[2]] += 1
                now += 1
        code = process.wait()
        over.set()
        reader.join(5)
    if code == 0:
        return first + count, ""
    return now, f"it hung for {_LONGEST_S:.0f} s" if code == -9 else f"exit {code}: {''.join(noise[-1:]).strip()[:200]}"


def _clips(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Short real encodings to damage: how the file ends, and its bytes."""
    from tests.cameras.filming import film

    for container, codec in _FORMS:
        suffix = {"mpegts": ".ts", "matroska": ".mkv", "mp4": ".mp4", "mjpeg": ".mjpeg"}[container]
        path = film(folder / f"whole-{codec}{suffix}", 2, size=(160, 96), codec=codec, container=container)
        yield suffix, path.read_bytes()
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first stream: each is the same at every run"
    )
    parser.add_argument("--seconds", type=float, default=3600.0, help="give up after so long")
    parser.add_argument("--child", nargs=2, type=int, metavar=("FIRST", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        os.nice(5)
        child(*given.child)
        return
    sys.exit(run(given.first, given.streams, given.seconds))


if __name__ == "__main__":
    main()
