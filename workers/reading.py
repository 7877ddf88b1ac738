"""Prepares admitted items for an engine in threads: decodes pictures, tokenises texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from models.detector import Detector, crop_of, detector_picture
from models.preprocess import Picture, Pictures, Pixels
from models.tokens import Ids, Tokens
from proto.errors import Poison, WatchwordError
from proto.types import Box
from workers.queued import Prepared, QueuedItem, Sight

log = logging.getLogger("watchword.workers")

_DECODERS = 2
"""Decoder threads per engine, which share a batch."""
_SIGHT_SIDE = 1280
"""A picture to look for objects in is decoded with a long side of about this at most. Bounds the memory."""


class ReadImage(Protocol):
    """The part of `models.preprocess.Preprocessor` used here."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture: ...

    def pixels(self, data: bytes, side: int) -> Pixels: ...

    def fitted(self, pixels: Pixels, out: Picture) -> Picture: ...


class Tokenizer(Protocol):
    """The part of `models.tokens.TextTokenizer` used here."""

    def __call__(self, text: str) -> Tokens: ...

    def padded(self, texts: Sequence[Tokens]) -> tuple[Ids, Ids]: ...


class Reader:
    """Prepares items for all engines. An item that cannot be read fails alone, immediately."""

    def __init__(
        self, read_image: ReadImage, tokenizer: Tokenizer, engines: int, detector: Detector | None = None
    ) -> None:
        self._detector = detector
        self._read_image = read_image
        self._tokenizer = tokenizer
        self._decoders = ThreadPoolExecutor(_DECODERS * engines, thread_name_prefix="decode")
        # A separate thread, so that texts never wait behind a huge picture.
        self._text_thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of every decoded picture."""
        return self._read_image.shape

    async def images(self, batch: list[QueuedItem], pictures: Pictures) -> None:
        """Decode each into its place in `pictures`."""
        await _prepare(batch, partial(self._image, batch, pictures), self._decoders)

    async def texts(self, batch: list[QueuedItem]) -> None:
        await _prepare(batch, partial(self._text, batch), self._text_thread)

    async def objects(self, batch: list[QueuedItem]) -> None:
        """Decode each, for the detector and for the crops of what it finds."""
        await _prepare(batch, partial(self._sight, batch), self._decoders)

    async def crops(self, pixels: Pixels, boxes: Sequence[Box], pictures: Pictures) -> None:
        """Scale each part of the picture into its place in `pictures`."""

        margin = self._detector.config.margin if self._detector else 0.0

        def scale() -> None:
            for box, out in zip(boxes, pictures, strict=True):
                self._read_image.fitted(crop_of(pixels, box, margin), out)

        await asyncio.get_running_loop().run_in_executor(self._decoders, scale)

    def padded(self, batch: Sequence[QueuedItem]) -> tuple[Ids, Ids]:
        """Ids and mask of the tokenised texts."""
        return self._tokenizer.padded([item.prepared for item in batch if isinstance(item.prepared, Tokens)])

    def close(self) -> None:
        self._decoders.shutdown()
        self._text_thread.shutdown()

    def _image(self, batch: list[QueuedItem], pictures: Pictures, place: int) -> int:
        content = batch[place].content
        assert isinstance(content, bytes)
        self._read_image(content, pictures[place])
        return place

    def _sight(self, batch: list[QueuedItem], place: int) -> Sight:
        content = batch[place].content
        assert isinstance(content, bytes)
        assert self._detector is not None, "a worker without a detector admits none"
        pixels = self._read_image.pixels(content, _SIGHT_SIDE)
        return Sight(pixels, detector_picture(pixels, self._detector.config))

    def _text(self, batch: list[QueuedItem], place: int) -> Tokens:
        content = batch[place].content
        assert isinstance(content, str)
        return self._tokenizer(content)


async def _prepare(batch: list[QueuedItem], prepare: Callable[[int], Prepared], pool: ThreadPoolExecutor) -> None:
    """Run `prepare` for each place in the batch and keep its result, or its error, with the item."""
    loop = asyncio.get_running_loop()
    shares = [range(first, len(batch), _DECODERS) for first in range(min(_DECODERS, len(batch)))]
    jobs = [loop.run_in_executor(pool, _prepared, prepare, share) for share in shares]
    for share, job in zip(shares, jobs, strict=True):
        for place, result in zip(share, await job, strict=True):
            if isinstance(result, WatchwordError):
                batch[place].fail(result)
            else:
                batch[place].prepared = result


def _prepared(prepare: Callable[[int], Prepared], places: range) -> list[Prepared | WatchwordError]:
    return [_one_prepared(prepare, place) for place in places]


def _one_prepared(prepare: Callable[[int], Prepared], place: int) -> Prepared | WatchwordError:
    try:
        return prepare(place)
    except WatchwordError as error:
        # The traceback's frames would keep the half-read picture alive until the next garbage collection.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    except Exception as error:
        log.exception("an item met a fault while it was read")
        return Poison("not_an_image", f"the item cannot be read ({error})", todo="send another")
