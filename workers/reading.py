"""Prepares admitted items for an engine in threads: decodes pictures, tokenises texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from models.preprocess import Picture, Pictures
from models.tokens import Ids, Tokens
from proto.errors import Poison, WatchwordError
from workers.queued import QueuedItem

log = logging.getLogger("watchword.workers")

_DECODERS = 2
"""Decoder threads per engine, which share a batch."""


class ReadImage(Protocol):
    """The part of `models.preprocess.Preprocessor` used here."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture: ...


class Tokenizer(Protocol):
    """The part of `models.tokens.TextTokenizer` used here."""

    def __call__(self, text: str) -> Tokens: ...

    def padded(self, texts: Sequence[Tokens]) -> tuple[Ids, Ids]: ...


class Reader:
    """Prepares items for all engines. An item that cannot be read fails alone, immediately."""

    def __init__(self, read_image: ReadImage, tokenizer: Tokenizer, engines: int) -> None:
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

    def _text(self, batch: list[QueuedItem], place: int) -> Tokens:
        content = batch[place].content
        assert isinstance(content, str)
        return self._tokenizer(content)


async def _prepare(batch: list[QueuedItem], prepare: Callable[[int], int | Tokens], pool: ThreadPoolExecutor) -> None:
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


def _prepared(prepare: Callable[[int], int | Tokens], places: range) -> list[int | Tokens | WatchwordError]:
    return [_one_prepared(prepare, place) for place in places]


def _one_prepared(prepare: Callable[[int], int | Tokens], place: int) -> int | Tokens | WatchwordError:
    try:
        return prepare(place)
    except WatchwordError as error:
        # The traceback's frames would keep the half-read picture alive until the next garbage collection.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    except Exception as error:
        log.exception("an item met a fault while it was read")
        return Poison("not_an_image", f"the item cannot be read ({error})", todo="send another")
