"""`watchword index shards` and `watchword index rebalance`: which Milvus servers there are, and what lies on which."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from proto.errors import Broken, Invalid, Transient, WatchwordError
from watchword.catalogs import open_catalog
from watchword.life_cli import milvus_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from index.moving import Mover, Told
    from index.settings import MilvusSettings
    from proto.shards import ShardMap

_SAY_S = 1.0


@click.group()
def shards() -> None:
    """Show and change the shards: the Milvus servers that share the cameras.

    A shard has a name; its address may change. What is added or drained gets or loses its cameras by `index rebalance`.
    """


@shards.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def shards_list(front: Front, as_json: bool) -> None:
    """Show each shard: its address, its share of the cameras, and whether it answers as what it should be."""
    settings = front.settings()

    async def told(milvus: MilvusSettings, catalog: Catalog) -> list[dict[str, Any]]:
        return await _described(await _map(milvus, catalog), milvus)

    found = _with_catalog(settings, told)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        more = f", {one['being_moved']:.0%} being moved" if one["being_moved"] else ""
        former = f", {one['former']:.0%} more may lie there" if one["former"] else ""
        share = f"{one['share']:.0%} of cameras{more}{former}"
        click.echo(f"{one['name']}  {one['state']}  {one['address']}  {share}; {one['trouble'] or 'answers'}")


@shards.command("add")
@click.argument("name")
@click.argument("address")
@click.pass_obj
def shards_add(front: Front, name: str, address: str) -> None:
    """Add the Milvus at ADDRESS as shard NAME, or stop draining NAME. `index rebalance` gives it cameras."""
    from proto.shards import check_name

    check_name(name)

    async def added(milvus: MilvusSettings, catalog: Catalog) -> None:
        from catalog.shards import Shards
        from index.opening import is_folder
        from watchword.sharding import mark

        of = await _map(milvus, catalog)
        await mark(name, of, milvus, catalog, address=address.rstrip("/"))
        await asyncio.to_thread(Shards(catalog).add, name, address)
        if not is_folder(address):
            await asyncio.to_thread(Shards(catalog).marked, name)

    _with_catalog(front.settings(), added)
    click.echo(f"shard {name} is active; `watchword index rebalance` gives it its share of the cameras")


@shards.command("address")
@click.argument("name")
@click.argument("address")
@click.option("--emptied", is_flag=True, help="The Milvus there has lost all that the shard held: go on without it.")
@click.pass_obj
def shards_address(front: Front, name: str, address: str, emptied: bool) -> None:
    """Say that shard NAME is at ADDRESS now. It must be the same Milvus, which is checked."""

    async def moved(milvus: MilvusSettings, catalog: Catalog) -> None:
        from catalog.shards import Shards
        from watchword.sharding import mark

        of = await _map(milvus, catalog)
        of.get(name)
        await mark(name, of, milvus, catalog, address=address.rstrip("/"), emptied=emptied)
        await asyncio.to_thread(Shards(catalog).move_to, name, address)

    _with_catalog(front.settings(), moved)
    click.echo(f"shard {name} is at {address.rstrip('/')}; running processes go there within a second")


@shards.command("drain")
@click.argument("name")
@click.pass_obj
def shards_drain(front: Front, name: str) -> None:
    """Have `index rebalance` move everything away from shard NAME."""

    async def drained(milvus: MilvusSettings, catalog: Catalog) -> None:
        from catalog.shards import Shards

        await _map(milvus, catalog)
        await asyncio.to_thread(Shards(catalog).drain, name)

    _with_catalog(front.settings(), drained)
    click.echo(f"shard {name} is draining; `watchword index rebalance` moves its cameras to the others")


@shards.command("remove")
@click.argument("name")
@click.pass_obj
def shards_remove(front: Front, name: str) -> None:
    """Forget shard NAME. Refused while it holds moments, by the map or by its own count."""
    settings = front.settings()

    async def removed(milvus: MilvusSettings, catalog: Catalog) -> None:
        from catalog.shards import Shards
        from watchword.sharding import new_mover

        of = await _map(milvus, catalog)
        of.get(name)
        mover, _ = new_mover(settings, milvus, catalog, 1.0, lambda _: None)
        try:
            if name in of.everywhere:
                rows = 0  # the catalog says so, also where the shard does not answer
            else:
                rows = await mover.held(name)
        finally:
            await mover.close()
        if rows:
            raise Invalid(
                f"shard {name} still has {rows:,} rows that the map does not know, or that were erased",
                todo="`watchword index rebalance --look` finds moments; what was erased goes within the hour",
            )
        await asyncio.to_thread(Shards(catalog).remove, name)

    _with_catalog(settings, removed)
    click.echo(f"shard {name} is removed; its Milvus can be stopped once milvus.endpoints does not name it")


@click.command("rebalance")
@click.option("--rate", default=500.0, show_default=True, help="Most moments to copy in a second.")
@click.option("--look", is_flag=True, help="First look through every shard for moments where none should be.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@click.pass_obj
def rebalance(front: Front, rate: float, look: bool, dry_run: bool) -> None:
    """Move cameras between shards until each active one has its share, and draining ones have none.

    Searches and writes go on. It may be ended at any time, and goes on where it was when it is run again.
    """
    if not rate > 0:
        raise Invalid(f"a rate of {rate:g} moves nothing", todo="give moments a second, such as --rate 500")
    settings = front.settings()

    async def moved(milvus: MilvusSettings, catalog: Catalog) -> None:
        from watchword.sharding import new_mover

        of = await _map(milvus, catalog)
        if dry_run:
            _say_plan(of)
            return
        mover, give_back = new_mover(settings, milvus, catalog, rate, _Teller())
        try:
            await _until_alone(mover)
            if look:
                found = await mover.look()
                click.echo(f"moments of {found} slots were found where nobody looked; they are found from now on")
            done = await mover.rebalance()
        finally:
            await mover.close()
            await asyncio.to_thread(give_back)
        click.echo(f"moved {done} slots" if done else "every camera is where it should be")

    _with_catalog(settings, moved)


async def _until_alone(mover: Mover) -> None:
    """Wait as long as a mover that was killed keeps others out. One that lives goes on, and NotMine is raised."""
    from index.moving import NotMine
    from watchword.sharding import LEASE_MS

    until_s = time.monotonic() + LEASE_MS / 1000 + 2
    while True:
        try:
            return await mover.take()
        except NotMine:
            if time.monotonic() > until_s:
                raise
        await asyncio.sleep(0.5)


class _Teller:
    """Says how far a move is: when something begins or ends, and once a second."""

    def __init__(self) -> None:
        self._said = ("", "", False)
        self._at_s = 0.0

    def __call__(self, told: Told) -> None:
        what = (told.source, told.target, told.switched)
        now_s = time.monotonic()
        if what == self._said and now_s - self._at_s < _SAY_S:
            return
        if what != self._said:
            step = "clears" if told.switched else "fills"
            click.echo(f"{told.source} -> {told.target}: {step} {told.slots} slots")
        elif told.looked_ms:
            from watchword.times import local

            waiting = f", {told.waiting} wait for their worker" if told.waiting else ""
            click.echo(
                f"{told.source} -> {told.target}: {told.copied:,} moments copied, {told.removed:,} removed{waiting}; "
                f"at {local(told.looked_ms)[:16]}"
            )
        self._said, self._at_s = what, now_s
        sys.stdout.flush()


def _say_plan(of: ShardMap) -> None:
    from proto.shards import moves

    planned = Counter((of.slots[number].now, to) for number, to in moves(of))
    for (source, target), count in sorted(planned.items()):
        click.echo(f"{source} -> {target}: {count} of {len(of.slots)} slots")
    left = sum(bool(slot.also) for slot in of.slots)
    if left:
        click.echo(f"{left} slots have former places that are looked through and cleared")
    if not planned and not left:
        click.echo("every camera is where it should be")


async def _described(of: ShardMap, milvus: MilvusSettings) -> list[dict[str, Any]]:
    from watchword.stack.state import without_password

    troubles = await asyncio.gather(*(_trouble(of, one.name, milvus) for one in of.serving))
    now = Counter(slot.now for slot in of.slots)
    coming = Counter(slot.coming for slot in of.slots if slot.coming)
    also = Counter(name for slot in of.slots for name in slot.also if name != slot.coming)
    return [
        {
            "name": one.name,
            "address": without_password(one.address),
            "state": one.state,
            "share": now[one.name] / len(of.slots),
            "being_moved": coming[one.name] / len(of.slots),
            "former": also[one.name] / len(of.slots),
            "slots": now[one.name],
            "epoch": of.epoch,
            "trouble": trouble,
        }
        for one, trouble in zip(of.serving, troubles, strict=True)
    ]


async def _trouble(of: ShardMap, name: str, milvus: MilvusSettings) -> str:
    """Why the shard does not answer; empty when it does."""
    from index.opening import new_shard
    from proto.types import SpaceInfo

    soon = milvus.model_copy(update={"timeout_s": min(3.0, milvus.timeout_s)})
    shard = new_shard(of.shards[name], of, space=SpaceInfo("0" * 16, 2), settings=soon, makes=False)
    try:
        await shard.buckets(fresh=True)
    except WatchwordError as error:
        return error.message
    finally:
        await shard.close()
    return ""


async def _map(milvus: MilvusSettings, catalog: Catalog) -> ShardMap:
    from watchword.sharding import map_for_commands

    return await map_for_commands(milvus, catalog)


def _with_catalog(settings: Settings, work: Callable[[MilvusSettings, Catalog], Coroutine[Any, Any, Any]]) -> Any:
    with open_catalog(settings) as catalog:
        return asyncio.run(work(_milvus(settings, catalog), catalog))


def _milvus(settings: Settings, catalog: Catalog) -> MilvusSettings:
    """As in the settings or of the running stack; the map has addresses where neither has."""
    from catalog.shards import Shards

    try:
        return milvus_of(settings)
    except (Broken, Transient):
        if Shards(catalog).map().shards:
            return settings.milvus
        raise
