"""Crops, and an encoder that sees objects in pictures: what there is follows from a picture's bytes alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from proto.errors import Poison
from proto.types import Box, Moment, Vector
from proto.v1.events_pb2 import Crop
from tests.stream.rig import SPACE, SceneEncoder, vector
from workers.client import EncoderInfo, Seen

KINDS = ("car", "dog", "person")
DETECT_COST = 1.0


class Sighted(SceneEncoder):
    """Has a detector, which finds at most `most` objects in a picture."""

    def __init__(self, most: int = 3) -> None:
        super().__init__()
        self._most = most
        self.detections = 0
        self.objects = 0

    @property
    def cost(self) -> float:
        """Of everything it was asked for, in pictures embedded."""
        return self.pictures + DETECT_COST * self.detections + self.objects

    async def describe(self) -> EncoderInfo:
        return replace(await super().describe(), kinds=KINDS, detect_cost=DETECT_COST)

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        self.detections += len(images)
        found: list[list[Seen] | Poison] = [
            objects_in(one, self._most) if one.isdigit() else Poison("not_an_image", "no digits") for one in images
        ]
        self.objects += sum(min(len(one), 7) for one in found if not isinstance(one, Poison))
        return found


def objects_in(picture: bytes, most: int = 3) -> list[Seen]:
    """What is in this picture."""
    random = np.random.default_rng(list(hashlib.blake2b(picture, digest_size=8).digest()))
    seen = []
    for _ in range(int(random.integers(0, most + 1))):
        left, top = random.uniform(0, 0.7, 2)
        width, height = random.uniform(0.1, 0.3, 2)
        towards: Vector = vector(int(random.integers(0, SPACE.dimension)))
        kind, score = KINDS[random.integers(0, len(KINDS))], float(np.float32(random.uniform(0.45, 1)))
        seen.append(Seen(kind, score, Box(left, top, left + width, top + height), towards))
    return sorted(seen, key=lambda one: -one.score)


def crop(number: int, **more: object) -> Crop:
    """Something that moved: which, and therefore where, says the number."""
    left, top = (number * 37 % 70) / 100, (number * 53 % 70) / 100
    values = {"jpeg": str(number).encode(), "left": left, "top": top, "right": left + 0.2, "bottom": top + 0.2}
    return Crop(**(values | more))  # type: ignore[arg-type]


def close_up(moment: Moment) -> tuple[object, ...]:
    """What of a moment's regions must be the same at every replay."""
    regions = [
        (one.at_ms, one.box, one.kind, one.score, one.vector.tobytes(), one.since_ms, one.until_ms)
        for one in moment.regions
    ]
    return moment.objects, tuple(regions)
