"""Measures the speed of a bundle's engine on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.bundle import Bundle
from models.detector import detector_picture
from models.engines.canary import canary_pictures, canary_texts, tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine

_BATCHES = (1, 4, 8, 16)
_LEAST_RUNS = 5
_SECONDS_EACH = 1.0
_WIDE = (720, 1280, 3)
"""The shape of most cameras' pictures."""
_BENCH_TEXT = "a person riding a bicycle past a red truck at the gate"


@dataclass(frozen=True, slots=True)
class Pace:
    """The measured speed of a tower."""

    tower: Literal["image", "text", "objects"]
    """`objects` is the detector."""
    batch: int
    call_ms: float
    """Median over its calls."""

    @property
    def per_second(self) -> float:
        return 1000 * self.batch / self.call_ms


def bench(bundle: Bundle, *, threads: int) -> Iterator[Pace]:
    """The speed of each tower at each batch size, on prepared tensors."""
    engine = open_engine(bundle, threads=threads)
    try:
        picture = canary_pictures(bundle.preprocess)[:1]
        for batch in _BATCHES:
            pictures = np.repeat(picture, batch, axis=0)
            yield Pace("image", batch, _median_ms(lambda: engine.embed_images(pictures)))  # noqa: B023 - called at once
        yield Pace("text", 1, _text_ms(engine, bundle))
        if bundle.detector is not None:
            wide = detector_picture(np.zeros(_WIDE, np.uint8), bundle.detector.config)
            for count in sorted({1, engine.abilities.detects}):
                looks = [wide] * count
                yield Pace("objects", count, _median_ms(lambda: engine.detect(looks)))  # noqa: B023 - called at once
    finally:
        engine.close()


def _text_ms(engine: Engine, bundle: Bundle) -> float:
    ids, mask = canary_texts(tokenizer_of(bundle), [_BENCH_TEXT])
    return _median_ms(lambda: engine.embed_texts(ids, mask))


def _median_ms(call: Callable[[], object]) -> float:
    call()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _LEAST_RUNS or time.perf_counter() - begun < _SECONDS_EACH:
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)
