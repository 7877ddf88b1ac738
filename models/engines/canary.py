"""The canary: vectors recorded when a bundle was sealed, which every engine must give again before it serves."""

from __future__ import annotations

import numpy as np

from models.bundle import Bundle, RecordedObject
from models.detector import Detector, Found, detector_picture
from models.engines.engine import Engine, Finder
from models.engines.scene import canary_scene
from models.preprocess import Pictures, Pixels, PreprocessConfig, fitted
from models.tokens import Ids, TextTokenizer
from proto.errors import Broken
from proto.types import Vectors

_LEAST_COSINE = 0.99
_CONSTANT_ABOVE = 0.9999
"""If the vectors of different pictures have a higher cosine, the engine ignores its input."""
_RECORDED_OBJECTS = 5
_RECORDED_FROM = 0.1
"""Objects are recorded from this score on, so that a detector with another threshold has some too."""
_OTHER_SCORE, _OTHER_SIDE = 0.05, 0.03
"""How far a found object's score, and each side of its box, may be from what was recorded."""
_TODO = "another engine or other runtime options may run this bundle; if none does, get the bundle again"


def tokenizer_of(bundle: Bundle) -> TextTokenizer:
    """The tokenizer of the bundle's text tower."""
    return TextTokenizer(bundle.tokenizer, window=bundle.text_window, fixed=bundle.text_fixed)


def check_canary(engine: Engine, bundle: Bundle) -> None:
    """Broken unless the engine reproduces the vectors recorded when the bundle was sealed."""
    canary = bundle.manifest.canary
    pictures = engine.embed_images(canary_pictures(bundle.preprocess, engine.abilities.numbers))
    texts = engine.embed_texts(*canary_texts(tokenizer_of(bundle), list(canary.texts)))
    _compare("pictures", pictures, np.array(canary.pictures, np.float32), engine)
    _compare("texts", texts, np.array(list(canary.texts.values()), np.float32), engine)


def canary_pictures(config: PreprocessConfig, numbers: type[np.float32 | np.uint8] = np.float32) -> Pictures:
    """Two pictures, drawn with integers so that they are the same on every machine."""
    height, width = config.size
    y, x = np.mgrid[:height, :width]
    waves: Pixels = np.stack([x * 3 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8)
    rings: Pixels = np.stack([(x - width // 2) ** 2 // 64 % 256, x * y // 97 % 256, y * 255 // height], axis=2).astype(
        np.uint8
    )
    pictures: Pictures = np.empty((2, 3, height, width), numbers)
    for pixels, out in zip((waves, rings), pictures, strict=True):
        fitted(pixels, config, out)
    return pictures


def canary_texts(tokenizer: TextTokenizer, texts: list[str]) -> tuple[Ids, Ids]:
    """Ids and mask of the canary's texts."""
    return tokenizer.padded([tokenizer(text) for text in texts])


def recorded_objects(detector: Detector, finder: Finder) -> list[RecordedObject]:
    """What the canary of this detector records: the surest objects in the drawn scene."""
    found = _seen(detector, finder)[:_RECORDED_OBJECTS]
    return [RecordedObject(kind=one.kind, score=one.score, box=_sides(one)) for one in found]


def check_detector(detector: Detector, finder: Finder, recorded: list[RecordedObject]) -> None:
    """Broken unless the opened detector finds the objects that were recorded."""
    found = _seen(detector, finder)
    for known in recorded:
        if not any(_same(known, one) for one in found):
            what = ", ".join(f"{one.kind} {one.score:.2f}" for one in found) or "nothing"
            raise Broken(
                f"the detector misses the recorded {known.kind} {known.score:.2f}: it finds {what}", todo=_TODO
            )


def _seen(detector: Detector, finder: Finder) -> list[Found]:
    return finder.detect([detector_picture(canary_scene(), detector.config)], threshold=_RECORDED_FROM)[0]


def _same(known: RecordedObject, found: Found) -> bool:
    apart = np.abs(np.subtract(known.box, _sides(found))).max()
    return found.kind == known.kind and abs(found.score - known.score) <= _OTHER_SCORE and bool(apart <= _OTHER_SIDE)


def _sides(found: Found) -> tuple[float, float, float, float]:
    return found.box.left, found.box.top, found.box.right, found.box.bottom


def _compare(what: str, found: Vectors, recorded: Vectors, engine: Engine) -> None:
    if found.shape != recorded.shape:
        raise Broken(f"{engine.name} gives {what} the shape {found.shape} instead of {recorded.shape}", todo=_TODO)
    if not np.isfinite(found).all():
        raise Broken(f"{engine.name} gives {what} vectors that are not numbers", todo=_TODO)
    if float(found[0] @ found[1]) > _CONSTANT_ABOVE:
        raise Broken(f"{engine.name} gives different {what} the same vector", todo=_TODO)
    cosine = float(np.sum(found * recorded, axis=1).min())
    if cosine < _LEAST_COSINE:
        raise Broken(f"{engine.name} gives {what} other vectors than were recorded (cosine {cosine:.3f})", todo=_TODO)
