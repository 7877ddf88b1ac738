"""`watchword export`: what was seen, as evidence: clips, pictures, moments, and a signed manifest of their hashes."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import platform
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.recordings import in_words
from proto.errors import Broken, Invalid, WatchwordError
from proto.life import Stretch
from proto.types import Camera
from watchword.auditing import audited, user
from watchword.catalogs import open_catalog
from watchword.erase_cli import stored_time
from watchword.life_cli import milvus_of, span_words, time_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from catalog.life import Life
    from catalog.store import Catalog
    from life.evidence import From, Gathered, Wanted
    from life.signing import Signer


@click.command("export")
@click.argument("camera", required=False)
@click.option("--from", "begins", metavar="TIME", help="30s, 10m, 2h, 7d ago, or 2026-05-01T10:00.")
@click.option("--to", "ends", metavar="TIME", help="Same form as --from. Default: now.")
@click.option("--moment", metavar="MOMENT", help="Instead of camera and time: the moment_id of a hit, and only that.")
@click.option("--out", "-o", type=click.Path(path_type=Path), metavar="PATH", help="A new folder, or a new file .zip.")
@click.option("--hold", metavar="NAME", help="Keep it from limits and erasures too, under this reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why: it stands in the manifest and in the audit.")
@click.option("--verify", type=click.Path(path_type=Path), metavar="PATH", help="Check an export, file by file.")
@click.option("--key", metavar="KEY", help="With --verify: the public key that must have signed it.")
@click.option("--show-key", is_flag=True, help="Print the public key that exports are signed with here.")
@click.pass_obj
def export_command(
    front: Front,
    camera: str | None,
    begins: str | None,
    ends: str | None,
    moment: str | None,
    out: Path | None,
    hold: str | None,
    reason: str,
    verify: Path | None,
    key: str | None,
    show_key: bool,
) -> None:
    """Write what CAMERA saw into a folder or a zip, for those who were not there: its video, cut without encoding it
    anew, pictures, moments, what was not looked at, and a signed manifest with the hash of each file.

    Nothing that was erased or is too old is in it, nor what a mask covers. It comes about whole or not at all.
    """
    if [camera, moment, verify, show_key or None].count(None) != 3 or (camera and not begins) or (key and not verify):
        raise Invalid(
            "what to export is not clear",
            todo="give CAMERA --from TIME --to TIME, or --moment MOMENT; or --verify PATH, or --show-key",
        )
    settings = front.settings()
    if verify is not None:
        _verify(settings, verify, key)
        return
    with open_catalog(settings) as catalog:
        signer = _signer(settings, catalog)
        if show_key:
            click.echo(signer.installation)
            return
        stretch = asyncio.run(_wanted_time(settings, catalog, camera, begins, ends, moment))
        path = out or Path(f"{stretch.camera}-{stretch.start_ms}")
        _export(settings, catalog, signer, stretch, path, moment=moment or "", reason=reason, hold=hold)


async def _wanted_time(
    settings: Settings, catalog: Catalog, camera: str | None, begins: str | None, ends: str | None, moment: str | None
) -> Stretch:
    from catalog.cameras import CameraRegistry
    from proto.types import now_ms

    if camera is not None:
        stretch = time_of(begins, ends, CameraRegistry(catalog).get(camera).name, now_ms(), open_ended=False)
        if stretch.end_ms > now_ms():
            raise Invalid("the time ends in the future", todo="export what is there now, and later again")
        return stretch
    return await stored_time(settings, catalog, moment or "")


def _export(
    settings: Settings,
    catalog: Catalog,
    signer: Signer,
    stretch: Stretch,
    out: Path,
    *,
    moment: str,
    reason: str,
    hold: str | None,
) -> None:
    """Have it held if that is wanted, written, and noted in the audit before and after."""
    from catalog.cameras import CameraRegistry
    from catalog.life import Life

    life = Life(catalog)
    entry = {
        "what": "export",
        "camera": stretch.camera,
        "start_ms": stretch.start_ms,
        "end_ms": stretch.end_ms,
        **({"moment": moment} if moment else {}),
        **({"reason": reason} if reason else {}),
    }
    audited(settings, {**entry, "outcome": "begun"})
    outcome = "broken"
    try:
        held = _held(life, stretch, hold) if hold is not None else None
        wanted = _wanted(CameraRegistry(catalog).get(stretch.camera), stretch, moment, reason)
        asked = {**wanted.asked, "time": _clock(life), "hold": held}
        found, manifest = _written(settings, catalog, life, signer, replace(wanted, asked=asked), out)
        outcome = "ok"
    except WatchwordError as error:
        outcome = type(error).__name__.lower()
        raise
    finally:
        audited(settings, {**entry, "outcome": outcome})
    size = sum(one["bytes"] for one in manifest["files"])
    pictures = sum(one["what"] == "picture" for one in manifest["files"])
    click.echo(
        f"{out}: {stretch.camera}, {span_words(stretch)}: {len(found.clips)} clips, {len(found.moments)} moments, "
        f"{pictures} pictures, {in_words(size)}"
    )
    for one in found.without:
        missed = span_words(Stretch(stretch.camera, one["start_ms"], one["end_ms"]))
        click.echo(f"  no video of {missed}: {one['reason']}", err=True)
    click.echo(f"signed by {signer.installation}; `watchword export --verify {out}` checks it")


def _held(life: Life, stretch: Stretch, name: str) -> dict[str, Any]:
    """First of all: what is held cannot go while it is exported."""
    from proto.types import now_ms

    placed = life.hold(stretch, now_ms(), name)
    click.echo(f"hold {placed.number}: {stretch.camera}, {span_words(stretch)}")
    return {"hold": placed.number, "name": name}


def _wanted(camera: Camera, stretch: Stretch, moment: str, reason: str) -> Wanted:
    from cameras.picture import masked_jpeg
    from life.evidence import Wanted

    asked = {
        "asked_by": {"user": user(), "machine": platform.node()},
        "reason": reason,
        "software": f"watchword {importlib.metadata.version('watchword')}",
    }
    if not camera.masks:
        return Wanted(stretch, moment, asked, None, clips=True, masks="the camera has no masks")
    words = "video is not masked, as was permitted for this camera" if camera.unmasked_recording else "without video"
    return Wanted(
        stretch,
        moment,
        asked,
        lambda jpeg: masked_jpeg(jpeg, camera.masks),
        clips=camera.unmasked_recording,
        masks=f"pictures are blanked in {len(camera.masks)} areas; {words}",
    )


def _written(
    settings: Settings, catalog: Catalog, life: Life, signer: Signer, wanted: Wanted, out: Path
) -> tuple[Gathered, dict[str, Any]]:
    from life.evidence import export, gathered

    async def found() -> Gathered:
        at, close = _from(settings, catalog, life)
        try:
            return await gathered(at, wanted)
        finally:
            await close()

    there = asyncio.run(found())
    at, _ = _from(settings, catalog, life)
    label = f"about {in_words(there.bytes)}"
    with click.progressbar(length=there.bytes, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        return there, export(at, wanted, there, signer, out, bar.update)


def _from(settings: Settings, catalog: Catalog, life: Life) -> tuple[From, Any]:
    from catalog.coverage import Coverage
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from catalog.recordings import Recordings
    from index.opening import new_removal
    from life.evidence import From
    from proto.types import now_ms
    from watchword.sharding import map_of_now

    milvus = milvus_of(settings)
    rows = new_removal(milvus, map_of_now(milvus, catalog))
    at = From(
        index=rows,
        pictures=Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails")),
        coverage=Coverage(catalog),
        recordings=Recordings(settings.data_dir / "recordings"),
        rules=life.rules,
        now_ms=now_ms,
        longest_ms=milvus.longest_moment_s * 1000,
    )
    return at, rows.close


def _clock(life: Life) -> dict[str, Any]:
    """What is known of the clock of this machine, which may be another one than the camera's host."""
    from life.receipts import date
    from proto.types import now_ms
    from watchword.host_clock import synchronised

    store_ms, here_ms = life.clock_ms(), now_ms()
    trusted_ms = life.rules().trusted_ms
    kept = synchronised()
    return {
        "exported_on": {
            "machine": platform.node(),
            "synchronised": None if kept is None else kept[0],
            "most_error_ms": None if kept is None else kept[1],
            "ahead_of_catalog_ms": None if store_ms is None else here_ms - store_ms,
        },
        "clock_last_found_right": date(trusted_ms) if trusted_ms else None,
    }


def _signer(settings: Settings, catalog: Catalog) -> Signer:
    from catalog.life import Life
    from life.signing import Signer

    return Signer(Life(catalog), settings.retention.signing_key.get_secret_value())


def _verify(settings: Settings, path: Path, expected: str | None) -> None:
    """Says who signed it. It needs no catalog: an export is checked where it is handed in."""
    from life.evidence import verified
    from watchword.catalogs import catalog_as_it_is

    manifest, key, differs = verified(path)
    whose = "; compare it with the key that they gave you, or give that with --key"
    if expected is not None:
        if key != expected.strip():
            raise Broken(f"{path} was signed by another key, {key}", todo="ask who handed it in where it comes from")
        whose = ", as expected"
    else:
        with suppress(WatchwordError), catalog_as_it_is(settings) as catalog:
            if catalog is not None and _signer(settings, catalog).installation == key:
                whose = ", this installation"
    for line in differs:
        click.echo(f"  {line}", err=True)
    if differs:
        raise Broken(
            f"{path} is not as it was exported: {len(differs)} differ", todo="get it again from who exported it"
        )
    click.echo(f"{path}: all {len(manifest['files'])} files are as they were exported:")
    for name in ("camera", "from", "to", "moment", "made", "asked_by", "reason", "software", "hold", "masks", "time"):
        click.echo(f"  {name}: {json.dumps(manifest.get(name))}")  # as JSON, since it is somebody's file
    click.echo(f"signed by {key}{whose}")
