"""`watchword backup` and `watchword restore`: everything that cannot be made again, to another place and back."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proto.errors import Broken, Invalid, WatchwordError
from watchword.catalogs import open_catalog
from watchword.life_cli import milvus_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from backup.giving import Given, Target
    from backup.manifest import Manifest
    from backup.place import Place
    from backup.taking import Say
    from backup.verifying import Verified
    from catalog.store import Catalog
    from index.store import MomentStore
    from proto.types import SpaceInfo

_PLACE = "a folder, or s3://bucket/prefix (the section [backup] of the settings leads to its server)"
_SAY_EVERY_S = 2.0


@click.command("backup")
@click.argument("to", metavar="TO")
@click.option("--full", is_flag=True, help="Read and write everything again, whatever is there.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def backup(front: Front, to: str, full: bool, as_json: bool) -> None:
    """Copy moments, pictures and the catalog's facts to TO: a folder, or s3://bucket/prefix.

    Run it again and again, also while everything runs: only what changed is written, and what was erased or became too
    old leaves TO. A run that was cut off goes on. Tokens, keys, recordings and the broker's frames are not in it.
    """
    manifest, written, kept = asyncio.run(_backup(front.settings(), to, full=full, quiet=as_json))
    told = {
        "moments": manifest.count("moments"),
        "pictures": manifest.count("pictures"),
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "written_bytes": written,
        "files_kept": kept,
        "spaces": list(manifest.spaces),
        "left": dict(manifest.left),
        "left_out": dict(manifest.left_out),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    _show_backup(to, manifest, written)


async def _backup(settings: Settings, to: str, *, full: bool, quiet: bool) -> tuple[Manifest, int, int]:
    from backup.taking import Backup, Source
    from catalog.facts import Facts
    from catalog.leases import Leases
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import new_removal
    from life.signing import Signer
    from watchword.sharding import followed_map
    from watchword.sweeping import holder_name

    place = _place(settings, to)
    milvus = milvus_of(settings)
    async with AsyncExitStack() as closing:
        catalog = closing.enter_context(open_catalog(settings))
        rows = new_removal(milvus, await closing.enter_async_context(followed_map(milvus, catalog)))
        closing.push_async_callback(rows.close)
        source = Source(
            rows=rows,
            pictures=Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails")),
            facts=Facts(catalog),
            life=Life(catalog),
            leases=Leases(catalog),
            installation=Signer(Life(catalog)).installation,
            version=version("watchword"),
        )
        run = Backup(source, place, settings.backup, holder_name(), whole=full, say=_saying(quiet))
        manifest, writing = await run.take()
    return manifest, writing.written, writing.kept


def _show_backup(to: str, manifest: Manifest, written: int) -> None:
    from manage.recordings import in_words

    click.echo(
        f"{to}: {manifest.count('moments'):,} moments, {manifest.count('pictures'):,} pictures, "
        f"{manifest.count('facts'):,} facts; {in_words(manifest.bytes)}, of which {in_words(written)} were written now"
    )
    words = {"erased": "erased", "expired": "too old", "newer": "newer than this backup"}
    for why, count in sorted(manifest.left_out.items()):
        click.echo(f"  {count:>9,} moments of the index are not in it: {words[why]}")
    if manifest.left:
        click.echo(f"  {sum(manifest.left.values()):>9,} moments left the backup: erased, or too old")


@click.command("restore")
@click.argument("from_", metavar="FROM")
@click.option("--verify", is_flag=True, help="Afterwards compare hashes, counts, and 100 searches with exact ones.")
@click.option("--dry-run", is_flag=True, help="Only read FROM, and say whether it is whole.")
@click.option("--any-space", is_flag=True, help="Also moments of bundles that the encoder does not serve.")
@click.option("--disable-cameras", is_flag=True, help="Register its cameras without watching them.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def restore(
    front: Front, from_: str, verify: bool, dry_run: bool, any_space: bool, disable_cameras: bool, as_json: bool
) -> None:
    """Bring back what `watchword backup` copied to FROM, into this installation, whatever its layout is.

    What is here stays. What was erased here or before the backup, and what is too old by the limits here, does not come
    back. It may be repeated, and goes on where it was cut off.
    """
    settings = front.settings()
    if dry_run:
        _show_checked(from_, *asyncio.run(_check(settings, from_, quiet=as_json)), as_json=as_json)
        return
    given, found = asyncio.run(
        _restore(settings, from_, verify=verify, any_space=any_space, disable=disable_cameras, quiet=as_json)
    )
    if as_json:
        told = {**asdict(given), "left_out": dict(given.left_out)}
        click.echo(json.dumps({**told, "verified": None if found is None else _verified_told(found)}, indent=2))
    else:
        _show_given(given, found)
    if found is not None and not found.good:
        raise Broken("the index is not what the backup says", todo="run the restore again; look at the index's log")


async def _check(settings: Settings, where: str, *, quiet: bool) -> tuple[Manifest, Verified]:
    from backup.verifying import check_files

    place = _place(settings, where)
    manifest = await place.manifest()
    return manifest, await check_files(place, manifest, _saying(quiet))


async def _restore(
    settings: Settings, where: str, *, verify: bool, any_space: bool, disable: bool, quiet: bool
) -> tuple[Given, Verified | None]:
    from backup.giving import Restore
    from backup.verifying import verify as compare

    place = _place(settings, where)
    manifest = await place.manifest()
    served = None if any_space else await served_space(settings)
    if served is not None and manifest.spaces and served not in manifest.spaces:
        from backup.giving import chosen

        chosen(manifest, [served])
    async with AsyncExitStack() as closing:
        target = await _target(settings, closing)
        run = Restore(place, target, settings.backup, disable_cameras=disable, say=_saying(quiet))
        given = await run.give()
        return given, await compare(place, target, say=_saying(quiet)) if verify else None


async def _target(settings: Settings, closing: AsyncExitStack) -> Target:
    from backup.giving import Target
    from catalog.backgrounds import Backgrounds
    from catalog.cameras import CameraRegistry
    from catalog.coverage import Coverage
    from catalog.facts import Facts
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import new_removal, new_store
    from watchword.sharding import followed_shards

    milvus = milvus_of(settings)
    catalog: Catalog = closing.enter_context(open_catalog(settings))
    known = await closing.enter_async_context(followed_shards(milvus, catalog))
    stores: dict[str, MomentStore] = {}

    async def store(space: SpaceInfo) -> MomentStore:
        if space.id not in stores:
            stores[space.id] = new_store(space, milvus, known=known)
            closing.push_async_callback(stores[space.id].close)
            await stores[space.id].open()
        return stores[space.id]

    rows = new_removal(milvus, known)
    closing.push_async_callback(rows.close)
    return Target(
        store=store,
        rows=rows,
        pictures=Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails")),
        facts=Facts(catalog),
        cameras=CameraRegistry(catalog),
        life=Life(catalog),
        coverage=Coverage(catalog),
        backgrounds=Backgrounds(catalog),
    )


async def served_space(settings: Settings, *, must: bool = False) -> str | None:
    """The space of the encoder that the settings or the running stack name; None when there is none to ask, or, unless
    it `must`, when it does not answer."""
    from watchword.stack import running_stack
    from workers.client import EncoderClient

    stack = running_stack(settings.data_dir)
    address = settings.encoder.address or (stack.addresses.encoder if stack else "")
    if not address:
        return None
    client = EncoderClient(address, timeout_s=settings.encoder.timeout_s, tls=settings.encoder)
    try:
        return (await client.describe()).space.id
    except WatchwordError as error:
        if must:
            raise
        click.echo(f"the encoder was not asked which space it serves: {error}", err=True)
        return None
    finally:
        await client.close()


def _place(settings: Settings, where: str) -> Place:
    from backup.place import Place
    from catalog.objects import FolderObjects, bucket_of, is_bucket

    if is_bucket(where):
        return Place(bucket_of(where, settings.backup, "backup"), where.rstrip("/"))
    if "://" in where:
        raise Invalid(f"a backup cannot lie at {where.rpartition('@')[2][:80]!r}", todo=f"name {_PLACE}")
    folder = Path(where).expanduser().absolute()
    return Place(FolderObjects(folder, durable=True), str(folder))


def _saying(quiet: bool) -> Say:
    """Tells of progress on standard error, not too often."""
    last_s = 0.0

    def say(what: str, done: int, total: int) -> None:
        nonlocal last_s
        if not quiet and time.monotonic() - last_s >= _SAY_EVERY_S:
            last_s = time.monotonic()
            click.echo(f"  {done:,} of {total:,} {what}", err=True)

    return say


def _show_checked(where: str, manifest: Manifest, found: Verified, *, as_json: bool) -> None:
    from watchword.times import local

    if as_json:
        spaces = list(manifest.spaces)
        told = {"begun_ms": manifest.begun_ms, "spaces": spaces, **_verified_told(found)}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(
        f"{where}: as of {local(manifest.begun_ms)}, by Watchword {manifest.made_by}; {found.moments:,} moments in "
        f"{len(manifest.spaces)} spaces, {found.pictures:,} pictures; all {found.files} files are whole"
    )


def _show_given(given: Given, found: Verified | None) -> None:
    click.echo(
        f"restored {given.moments:,} moments ({given.there:,} were there), {given.pictures:,} pictures, "
        f"{given.cameras} cameras, {given.rules} erasures and holds"
    )
    words = {"erased": "were erased", "expired": "are too old", "refused": "the index refused"}
    for why, count in sorted(given.left_out.items()):
        said = f" ({given.refused})" if why == "refused" else ""
        click.echo(f"  {count:>9,} moments stay away: {words[why]}{said}")
    if given.lost:
        click.echo(f"  what {given.lost} cameras saw after the backup is lost, and answers say so")
    if found is not None:
        click.echo(
            f"verified: {found.files} files by their hash; {found.moments:,} moments, {found.missing:,} missing, "
            f"{found.differ:,} different; {found.right} of {found.questions} searches as exact ones"
        )


def _verified_told(found: Verified) -> dict[str, Any]:
    return {**asdict(found), "good": found.good}
