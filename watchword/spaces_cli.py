"""`watchword index migrate`: what is stored is embedded again by another bundle."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from proto.errors import Broken, Invalid, Mismatch
from watchword.backup_cli import served_space
from watchword.catalogs import open_catalog
from watchword.life_cli import milvus_of
from watchword.settings import Front, Settings
from watchword.times import length

if TYPE_CHECKING:
    from index.removal import Removal
    from spaces.moving import Moved
    from workers.client import EncoderClient

_SAY_EVERY_S = 2.0


@click.command("migrate")
@click.option("--to", "bundle", metavar="BUNDLE", help="The bundle to go to: this command runs it itself.")
@click.option("--encoder", metavar="HOST:PORT", help="Instead of --to: a worker that serves that bundle.")
@click.option("--from", "old", metavar="SPACE", help="The space to leave. Default: the only other one.")
@click.option(
    "--share", default=0.25, show_default=True, metavar="SHARE", help="Work this share of the time, 0.01 to 1."
)
@click.option("--drop-old", is_flag=True, help="Afterwards delete the old space: from then on there is no way back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def migrate(
    front: Front,
    bundle: str | None,
    encoder: str | None,
    old: str | None,
    share: float,
    drop_old: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Embed stored pictures again in the space of another bundle, the newest first, while everything runs.

    It goes on where it was cut off. Set encoder.bundle to the new bundle and encoder.former_bundle to the old one, and
    start anew, before or after it: then both answer, each moment in the newest space that has it. To go back, exchange
    the two: the old space stays as it is until --drop-old.
    """
    if (bundle is None) == (encoder is None):
        raise Invalid("it is not clear where to go", todo="give --to BUNDLE, or --encoder HOST:PORT")
    if not 0.01 <= share <= 1:
        raise Invalid(f"a share of {share:g} cannot be worked", todo="give 0.01 to 1")
    moved = asyncio.run(_migrate(front.settings(), bundle, encoder, old, share, drop_old, yes, quiet=as_json))
    if as_json:
        click.echo(json.dumps({**asdict(moved), "refused": dict(moved.refused)}, indent=2))
    else:
        _show(moved)


async def _migrate(
    settings: Settings,
    bundle: str | None,
    address: str | None,
    old: str | None,
    share: float,
    drop_old: bool,
    yes: bool,
    *,
    quiet: bool,
) -> Moved:
    from catalog.backgrounds import Backgrounds
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import new_removal, new_store
    from spaces.moving import House, Move
    from watchword.sharding import followed_shards

    milvus = milvus_of(settings)
    async with AsyncExitStack() as closing:
        catalog = closing.enter_context(open_catalog(settings))
        known = await closing.enter_async_context(followed_shards(milvus, catalog))
        rows = new_removal(milvus, known)
        closing.push_async_callback(rows.close)
        encoder = await _encoder(settings, bundle, address, closing)
        space = (await encoder.describe()).space
        leaving = old or await _only_other(rows, space.id)
        if drop_old and await served_space(settings, must=True) == leaving:
            raise Mismatch(
                f"the encoder still serves the space {leaving}",
                todo="set encoder.bundle to the new one, and start anew",
            )
        store = new_store(space, milvus, known=known)
        closing.push_async_callback(store.close)
        await store.open()
        pictures = Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails"))
        house = House(rows, pictures, Backgrounds(catalog), Life(catalog))
        moved = await Move(house, leaving, store, encoder, share=share, say=_saying(quiet)).run()
        if drop_old:
            await _drop(rows, leaving, moved, yes=yes)
        return moved


async def _drop(rows: Removal, old: str, moved: Moved, *, yes: bool) -> None:
    from spaces.moving import drop_space

    # Those that were moved to another shard meanwhile may not have been seen.
    stay = moved.open + moved.unreadable + max(0, moved.total - moved.seen)
    if not yes:
        lost = f"; {stay:,} of its moments are not in the other space and are lost" if stay else ""
        await asyncio.to_thread(click.confirm, f"Delete the space {old}{lost}?", abort=True)
    elif stay:
        raise Broken(
            f"{stay:,} moments of the space {old} are not in the other one: open, without a picture, or not seen",
            todo="run it again without --yes, and answer",
        )
    click.echo(f"the space {old} is deleted: {await drop_space(rows, old)} buckets", err=True)


async def _encoder(
    settings: Settings, bundle: str | None, address: str | None, closing: AsyncExitStack
) -> EncoderClient:
    """A client of the worker at the address; without one, of a worker of this bundle in this process."""
    from workers.client import EncoderClient

    if bundle is not None:
        from models.bundle import load_bundle
        from watchword.bundles import bundle_folder
        from workers.service import serve_encoder

        loaded = await asyncio.to_thread(lambda: load_bundle(bundle_folder(settings, bundle, click.echo)))
        server = await serve_encoder(loaded, settings.encoder, "127.0.0.1:0")
        closing.push_async_callback(server.stop, 1.0)
        address = server.address
    client = EncoderClient(address or "", timeout_s=settings.encoder.timeout_s, tls=settings.encoder)
    closing.push_async_callback(client.close)
    return client


async def _only_other(rows: Removal, space: str) -> str:
    found = await rows.holdings()
    others = sorted({one.space for one in found.known} - {space})
    if len(others) != 1:
        which = (
            f"there are {', '.join(others)}" if others else f"all moments are in the space {space}, or there are none"
        )
        raise Invalid(f"it is not clear which space to leave: {which}", todo="name it: --from SPACE")
    return others[0]


def _saying(quiet: bool) -> Callable[[Moved], None]:
    begun_s = last_s = time.monotonic()

    def say(moved: Moved) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if quiet or now_s - last_s < _SAY_EVERY_S or not moved.moments:
            return
        last_s = now_s
        rest_s = (now_s - begun_s) / moved.seen * max(0, moved.total - moved.seen)
        click.echo(f"  {moved.seen:,} of {moved.total:,} moments; about {length(rest_s)} more", err=True)

    return say


def _show(moved: Moved) -> None:
    click.echo(f"{moved.moments:,} moments were embedded in the other space; {moved.there:,} were there")
    for count, words in [
        (moved.open, "go on, and are moved when they are closed: run it again"),
        (moved.unreadable, "stay behind: no picture of them can be read"),
        (moved.gone, "stay behind: erased, or too old"),
    ]:
        if count:
            click.echo(f"  {count:>9,} moments {words}")
    if moved.without_regions:
        click.echo(f"  {moved.without_regions:>9,} regions are left out: there is no picture of their instant")
    for why, count in moved.refused.items():
        click.echo(f"  {count:>9,} were refused by the index: {why}")
