"""The space of the bundle before, wired into the query service: it is searched from when its worker answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from proto.errors import WatchwordError
from watchword.settings import Settings
from workers.client import EncoderClient

if TYPE_CHECKING:
    from catalog.known_shards import KnownShards
    from catalog.media import Thumbnails
    from catalog.store import Catalog
    from index.store import MomentStore
    from query.cache import VectorCache
    from query.search import Searcher

log = logging.getLogger("watchword.query")

Answered = TypeVar("Answered")

_AGAIN_S = 2.0


async def also_search_former(
    settings: Settings,
    closing: AsyncExitStack,
    catalog: Catalog,
    known: KnownShards,
    cache: VectorCache,
    thumbnails: Thumbnails,
    searcher: Searcher,
    present: MomentStore,
) -> None:
    """Wait for a worker of the former bundle, however long; from then on its space is searched too."""
    from catalog.backgrounds import Backgrounds
    from index.opening import new_store
    from query.backgrounds import BackgroundReader
    from query.bank import Bank
    from query.judging import Judge
    from query.space import SearchedSpace
    from watchword.questions import everyday_questions

    section = settings.encoder
    encoder = EncoderClient(section.former_address, timeout_s=section.timeout_s, tls=section)
    closing.push_async_callback(encoder.close)
    info = await _once_it_answers(encoder.describe)
    if info.space.id == present.space.id:
        log.warning("the former bundle has the space of the present one, so there is nothing more to search")
        return
    store = new_store(info.space, settings.milvus, lambda: everyday_questions(encoder), known)
    closing.push_async_callback(store.close)
    await _once_it_answers(store.open)
    judge = Judge(
        info.calibration,
        Bank(encoder, cache, info.space, kinds=info.kinds),
        BackgroundReader(Backgrounds(catalog), info.space),
    )
    judge.start()
    closing.push_async_callback(judge.stop)
    searcher.also_search(SearchedSpace(encoder, store, cache, judge, thumbnails, settings.query, newer=present))
    log.info("moments of the space %s are searched too, until they are embedded again", info.space.id)


async def _once_it_answers(ask: Callable[[], Awaitable[Answered]]) -> Answered:
    why = ""
    while True:
        try:
            return await ask()
        except WatchwordError as error:
            if error.message != why:
                log.warning("moments of the former bundle cannot be searched yet: %s", error)
            why = error.message
            await asyncio.sleep(_AGAIN_S)
