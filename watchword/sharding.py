"""The map of shards, wired: taken over from the settings, marked in the stores, followed, and moved by."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from proto.errors import Broken, Invalid, Transient, WatchwordError
from watchword.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalog.known_shards import KnownShards
    from catalog.store import Catalog
    from index.moving import Mover, Told
    from index.settings import MilvusSettings
    from proto.shards import KnownMap, ShardMap

log = logging.getLogger("watchword.index")

LEASE = "index/rebalance"
LEASE_MS = 20_000
"""More than a step of a move may take. A mover that was killed keeps others out for so long."""


async def known_shards(settings: MilvusSettings, catalog: Catalog) -> KnownShards:
    """The map, with what the settings say taken over. Broken when a store is not the shard that it should be."""
    from catalog.known_shards import KnownShards
    from catalog.shards import Shards
    from index.opening import check_kinds

    shards = Shards(catalog)
    for what in await asyncio.to_thread(shards.take_over, settings.endpoints, check_kinds):
        log.info("%s", what)
    known = KnownShards(shards)
    if not (await known.read()).shards:
        raise Broken("no Milvus is configured", todo="set milvus.endpoints, or let the stack start its own")
    await mark_all(shards.map(), settings, catalog)
    await known.read()
    return known


@asynccontextmanager
async def followed_shards(settings: MilvusSettings, catalog: Catalog) -> AsyncIterator[KnownShards]:
    """The map, followed for as long as a command writes moments by it."""
    async with _following(await known_shards(settings, catalog)) as known:
        yield known


@asynccontextmanager
async def followed_map(settings: MilvusSettings, catalog: Catalog) -> AsyncIterator[KnownMap]:
    """The map, followed for as long as a command reads by it; before there is one, the shards of the settings."""
    from catalog.known_shards import KnownShards
    from catalog.shards import Shards
    from index.shards import listed

    known = KnownShards(Shards(catalog))
    if not (await known.read()).shards:
        yield listed(settings)
        return
    async with _following(known):
        yield known


@asynccontextmanager
async def _following(known: KnownShards) -> AsyncIterator[KnownShards]:
    following = asyncio.create_task(known.follow())
    try:
        yield known
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def mark_all(of: ShardMap, settings: MilvusSettings, catalog: Catalog) -> None:
    """Mark the stores of shards that have no mark yet; those that are away are marked at a later start."""
    for entry in of.serving:
        if not entry.marked:
            try:
                await mark(entry.name, of, settings, catalog)
            except Transient as error:
                log.warning("shard %s cannot be marked yet: %s", entry.name, error)


async def map_for_commands(milvus: MilvusSettings, catalog: Catalog) -> ShardMap:
    """The map; made from the settings where no process has started yet."""
    from catalog.shards import Shards

    shards = Shards(catalog)
    of = await asyncio.to_thread(shards.map)
    return of if of.shards else (await known_shards(milvus, catalog)).map()


async def mark(
    name: str, of: ShardMap, settings: MilvusSettings, catalog: Catalog, *, address: str = "", emptied: bool = False
) -> None:
    """Have the store at the address (the shard's, if none is given) be this shard. Broken when it is another one's.

    `emptied`: it may have lost its mark, with all else.
    """
    from dataclasses import replace

    from catalog.shards import Shards
    from index.marks import mark_of
    from index.milvus import set_mark
    from index.opening import check_kinds, is_folder
    from proto.shards import ACTIVE, GONE, ShardEntry

    entry = of.shards.get(name, ShardEntry(name, address))
    # One that was removed may come back with another Milvus.
    needed = entry.marked and entry.state != GONE and not emptied
    state = ACTIVE if entry.state == GONE else entry.state
    entry = replace(entry, address=address or entry.address, marked=needed, state=state)
    before = {one: there for one, there in of.shards.items() if one != name or not emptied}
    check_kinds(before, {**of.shards, name: entry})
    for other in of.serving:
        # One that was away so far has no mark yet, and would get this shard's.
        if other.address == entry.address and other.name != name and not other.marked:
            raise Invalid(f"{address} is the address of shard {other.name}", todo="give each shard a Milvus of its own")
    if is_folder(entry.address):
        return  # its path is its name
    await set_mark(entry.address, mark_of(entry, of), settings)
    if name in of.shards and not of.shards[name].marked:
        await asyncio.to_thread(Shards(catalog).marked, name)


def new_mover(
    settings: Settings, milvus: MilvusSettings, catalog: Catalog, per_s: float, say: Callable[[Told], None]
) -> tuple[Mover, Callable[[], None]]:
    """What moves cameras, and what gives its lease back."""
    from catalog.leases import Leases
    from catalog.life import Life
    from catalog.shards import Shards
    from index.moving import Mover, Parts
    from index.opening import new_shard
    from proto.types import now_ms

    leases, life = Leases(catalog), Life(catalog)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    parts = Parts(
        book=Shards(catalog),
        opened=partial(new_shard, settings=milvus),
        take=lambda: leases.take(LEASE, holder, now_ms(), LEASE_MS),
        erased=lambda: life.rules().erased,
        bucket_hours=settings.milvus.bucket_hours,
        per_s=per_s,
        say=say,
    )
    return Mover(parts), partial(leases.give_back, LEASE, holder)


class MapOfNow:
    """The map as a command found it. Fulfils `proto.shards.KnownMap`."""

    def __init__(self, of: ShardMap) -> None:
        self._map = of

    def map(self) -> ShardMap:
        """It."""
        return self._map

    def is_fresh(self) -> bool:
        """A command does not write moments."""
        return True


def map_of_now(milvus: MilvusSettings, catalog: Catalog) -> KnownMap:
    """The map in the catalog; before there is one, the shards of the settings. Blocks."""
    from catalog.shards import Shards
    from index.shards import listed

    of = Shards(catalog).map()
    return MapOfNow(of) if of.shards else listed(milvus)


def shard_addresses(settings: Settings, otherwise: Sequence[str]) -> Sequence[str]:
    """Every shard that serves, as NAME=ADDRESS; what the settings say while the catalog has none. Blocks."""
    from catalog.shards import Shards
    from watchword.catalogs import catalog_as_it_is

    try:
        with catalog_as_it_is(settings) as catalog:
            serving = Shards(catalog).map().serving if catalog else ()
    except WatchwordError:
        return otherwise  # another check says what the catalog has
    return [f"{one.name}={one.address}" for one in serving] or otherwise
