"""Do stored moments agree with what happened? Compares moments with the labels of composed footage.

    python -m loadtests.moments [--fps 2] [--scene-change 0.15] [--novelty 0.02]

Runs footage with known cuts, appearances and departures through source, gate, encoder (built-in bundle) and moment
builder in this process, and scores the moments: do they begin and end where the scenes do, and does a search with a
scene's own picture, or with words, rank that scene's moment first?
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cameras.notes import Notes
from cameras.settings import CameraSettings
from cameras.watching import Watching
from catalog.coverage import Gap
from catalog.progress import Progress
from catalog.views import CameraView
from models.bundle import load_bundle
from proto.errors import Poison
from proto.types import Camera, Moment, Span, Vector
from proto.v1.events_pb2 import Frame
from stream.consumer import Record
from stream.frames import Arrived, Embedded, said_by
from stream.moments import MomentBuilder
from stream.settings import StreamSettings
from tests.tools.footage import Label, compose
from watchword.bundles import bundle_folder
from watchword.settings import Settings, read_settings
from workers.client import Encoder, EncoderClient
from workers.service import serve_encoder

TOLERANCE_S = 0.5
_LOG = "0" * 32
BEGIN_MS = 1_767_225_600_000
"""Time of the footage's first picture: in 2026, so that times look realistic."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """How well the found boundaries agree with the true ones."""

    found: int
    true: int
    matched: int

    @property
    def precision(self) -> float:
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.matched / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def match_boundaries(found: Sequence[float], true: Sequence[float], tolerance_s: float = TOLERANCE_S) -> Boundaries:
    """Pair found with true boundaries within the tolerance, each at most once, as many pairs as possible."""
    left = sorted(true)
    matched = 0
    for time_s in sorted(found):
        # Earlier true ones can no longer pair: later found ones are even farther away.
        while left and left[0] < time_s - tolerance_s:
            left.pop(0)
        if left and left[0] <= time_s + tolerance_s:
            left.pop(0)
            matched += 1
    return Boundaries(len(found), len(true), matched)


def overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Intersection over union of two spans of time."""
    common = min(first[1], second[1]) - max(first[0], second[0])
    whole = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, common) / whole if whole > 0 else float(first == second)


def hit_rate(
    answers: Sequence[tuple[float, float]], truths: Sequence[Sequence[tuple[float, float]]], iou: float
) -> float:
    """The share of questions whose answer overlaps a true span by at least `iou`."""
    hits = [
        max(overlap(answer, truth) for truth in spans) >= iou for answer, spans in zip(answers, truths, strict=True)
    ]
    return sum(hits) / len(hits) if hits else 0.0


def seconds(moment: Span) -> tuple[float, float]:
    return (moment.start_ms - BEGIN_MS) / 1000, (moment.end_ms - BEGIN_MS) / 1000


def nearest(moments: Sequence[Moment], question: Vector) -> Moment:
    return moments[int(np.argmax([moment.vector @ question for moment in moments]))]


class _Collecting:
    """Collects frames in place of the broker."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    async def send(self, frame: Frame) -> None:
        self.frames.append(frame)


class _Nothing:
    """A catalog that stores nothing."""

    def declare(self, gaps: Sequence[Gap]) -> None:
        pass

    def get(self, camera: str) -> Progress | None:  # noqa: ARG002
        return None

    def put(self, progress: Progress) -> None:
        pass

    def forget(self, camera: str) -> None:
        pass

    def view_of(self, camera: str) -> CameraView | None:  # noqa: ARG002
        return None

    def put_view(self, view: CameraView) -> None:
        pass


async def kept_frames(clip: Path, settings: CameraSettings, side: int) -> list[Frame]:
    """What a camera process publishes of the clip."""
    sender = _Collecting()
    camera = Camera("footage", str(clip), speed=0, start_ms=BEGIN_MS)
    watching = Watching(camera, sender, settings, side, Notes(_Nothing(), _Nothing(), _Nothing()))
    watching.start()
    while watching.state.now in ("waiting", "open"):  # noqa: ASYNC110  # its thread tells nobody
        await asyncio.sleep(0.05)
    watching.leave()
    await watching.left()
    if watching.state.now == "failed":
        raise SystemExit(watching.state.error)
    return sender.frames


async def vectors_of(encoder: Encoder, pictures: Sequence[bytes]) -> list[Vector]:
    found = await encoder.embed_images(pictures)
    return [vector for vector in found if not isinstance(vector, Poison)]


def build(frames: Sequence[Frame], vectors: Sequence[Vector], space: str, settings: StreamSettings) -> list[Moment]:
    """The closed moments that the stream worker makes of one camera's frames."""
    builder = MomentBuilder(space, _LOG, 0, "footage", settings)
    stored: dict[str, Moment] = {}
    for offset, (frame, vector) in enumerate(zip(frames, vectors, strict=True)):
        # Log time equals captured time, as if the broker took each frame when it was captured.
        record = Record(0, offset, frame.camera.encode(), b"", frame.captured_ms)
        arrived = Arrived(record, record.mark, (0, frame.camera), said_by(frame), frame.jpeg, frame.captured_ms)
        seen = Embedded(arrived, vector.astype(np.float64))
        stored |= {write.moment.id: write.moment for write in builder.add(seen, frame.captured_ms / 1000)}
    end_ms = frames[-1].captured_ms + round(settings.silent_s * 1000)
    stored |= {write.moment.id: write.moment for write in builder.tick(end_ms, end_ms / 1000)}
    return sorted(stored.values(), key=lambda moment: moment.start_ms)


async def measure(settings: Settings, folder: Path) -> str:
    """Compose, run and score; returns the table."""
    clip = folder / "footage.mp4"
    labels = await asyncio.to_thread(compose, clip)
    bundle = await asyncio.to_thread(lambda: load_bundle(bundle_folder(settings, settings.encoder.bundle, print)))
    server = await serve_encoder(bundle, settings.encoder, "127.0.0.1:0")
    try:
        async with EncoderClient(server.address, timeout_s=60) as encoder:
            side = (await encoder.describe()).image_side
            frames = await kept_frames(clip, settings.camera, side)
            vectors = await vectors_of(encoder, [frame.jpeg for frame in frames])
            moments = build(frames, vectors, bundle.space.id, settings.stream)
            words = sorted({label.words for label in labels})
            asked = await encoder.embed_texts(words)
    finally:
        await server.stop(1)
    by_words = [(text, vector) for text, vector in zip(words, asked, strict=True) if not isinstance(vector, Poison)]
    return table(labels, frames, vectors, moments, by_words)


def table(
    labels: Sequence[Label],
    frames: Sequence[Frame],
    vectors: Sequence[Vector],
    moments: Sequence[Moment],
    words: Sequence[tuple[str, Vector]],
) -> str:
    minutes = labels[-1].end_s / 60
    edges = match_boundaries([seconds(moment)[0] for moment in moments[1:]], [label.start_s for label in labels[1:]])
    pictures, truths = [], []
    for label in labels:
        middle_ms = BEGIN_MS + 500 * (label.start_s + label.end_s)
        own = min(range(len(frames)), key=lambda number: abs(frames[number].captured_ms - middle_ms))
        pictures.append(seconds(nearest(moments, vectors[own])))
        truths.append([(other.start_s, other.end_s) for other in labels if other.scene == label.scene])
    told = [seconds(nearest(moments, vector)) for _, vector in words]
    meant = [[(label.start_s, label.end_s) for label in labels if label.words == text] for text, _ in words]
    rows = [
        ("footage", f"{minutes * 60:.0f} s, {len(labels)} scenes"),
        ("frames kept", f"{len(frames)}"),
        ("moments", f"{len(moments)} ({len(moments) / minutes:.1f} a minute; {len(labels) / minutes:.1f} true)"),
        (f"boundaries within {TOLERANCE_S} s", f"{edges.matched} of {edges.true} true, {edges.found} found"),
        ("  precision / recall / F1", f"{edges.precision:.2f} / {edges.recall:.2f} / {edges.f1:.2f}"),
    ]
    for iou in (0.5, 0.7):
        by_picture, by_words = hit_rate(pictures, truths, iou), hit_rate(told, meant, iou)
        rows.append((f"R1 at IoU {iou}, by picture / by words", f"{by_picture:.2f} / {by_words:.2f}"))
    return "\n".join(f"{name:<38}{value}" for name, value in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", default="2")
    parser.add_argument("--scene-change", default="0.15")
    parser.add_argument("--novelty", default="0.02")
    arguments = parser.parse_args()
    flags = {
        "camera.fps": arguments.fps,
        "camera.novelty": arguments.novelty,
        "stream.scene_change": arguments.scene_change,
    }
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        print(asyncio.run(measure(read_settings(flags), Path(scratch))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
