"""`watchword camera`: which cameras are watched, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from proto.areas import area_of, written
from proto.errors import Invalid
from proto.types import Area, Camera
from watchword.recording_cli import bytes_of, check_recordable, recording_of
from watchword.settings import Front

_CORNERS = "'0,0 0.5,0 0.5,0.3', or in pixels '1920x1080: 0,0 960,0 960,324'"
_UNMASKED = "Allow recording although there are masks: recordings stay unmasked."


@click.group()
def camera() -> None:
    """Choose which cameras are watched."""


def _speed(_: click.Context, __: click.Parameter, words: str) -> float:
    if words == "max":
        return 0.0
    try:
        speed = float(words)
    except ValueError:
        speed = -1.0
    if not 0 < speed <= 1000:
        raise Invalid(f"{words!r} is not a speed", todo="write 1 for real time, 4 for four times as fast, or max")
    return speed


def _areas(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[Area, ...]:
    return tuple(map(area_of, words))


@camera.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--loop", is_flag=True, help="Restart a file when it ends.")
@click.option(
    "--speed",
    default="1",
    callback=_speed,
    help="Replay speed of a file: 1 is real time, max is as fast as possible.",
)
@click.option("--start", metavar="TIME", help="Time of a file's first picture, such as 2026-05-01T10:00. Default: now.")
@click.option("--unchecked", is_flag=True, help="Register it even if it does not answer now.")
@click.option("--record-days", type=float, help="Record it, and keep at most so many days.")
@click.option("--record-bytes", callback=bytes_of, metavar="SIZE", help="Record it within so much, such as 20GB.")
@click.option(
    "--mask",
    "masks",
    multiple=True,
    callback=_areas,
    metavar="CORNERS",
    help=f"Blank an area: {_CORNERS}. Repeatable.",
)
@click.option("--recordings-stay-unmasked", "unmasked", is_flag=True, help=_UNMASKED)
@click.pass_obj
def camera_add(
    front: Front,
    name: str,
    url: str,
    loop: bool,
    speed: float,
    start: str | None,
    unchecked: bool,
    record_days: float | None,
    record_bytes: int | None,
    masks: tuple[Area, ...],
    unmasked: bool,
) -> None:
    """Watch the camera at URL under NAME: rtsp://…, http(s)://…, a file, or a device such as /dev/video0."""
    from cameras.source import probe
    from catalog.cameras import check_camera
    from proto.types import camera_name, now_ms
    from watchword.catalogs import open_registry
    from watchword.times import instant

    settings = front.settings()
    recorded = record_days is not None or record_bytes is not None
    added = Camera(
        name=camera_name(name),
        url=_absolute(url),
        loop=loop,
        speed=speed,
        start_ms=instant(start, now_ms()) if start else None,
        record=recording_of(record_days, record_bytes) if recorded else None,
        masks=masks,
        unmasked_recording=unmasked,
    )
    check_camera(added)
    if recorded:
        check_recordable(added)
    seen = ""
    if not unchecked:
        info, _ = probe(added, settings.camera.open_timeout_s)
        rate = f", {info.fps:g} frames a second" if info.fps else ""
        if recorded:
            check_recordable(added, info.codec)
        seen = f" ({info.width} x {info.height}{rate}, {info.codec})"
    with open_registry(settings) as registry:
        registry.add(added)
        kept = len(registry.get(name).masks) - len(masks)
    click.echo(f"watching {'and recording ' if recorded else ''}{name}{seen}")
    if kept:
        click.echo(f"it keeps the masks that it had: {kept}; `watchword camera mask clear {name}` takes them off")


@camera.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def camera_list(front: Front, as_json: bool) -> None:
    """Show the known cameras, and whether each still shows its view."""
    from catalog.cameras import CameraRegistry
    from catalog.views import Views
    from watchword.answers import show_cameras
    from watchword.catalogs import open_catalog

    with open_catalog(front.settings()) as catalog:
        cameras, views = CameraRegistry(catalog).all(), Views(catalog).all()
    show_cameras(cameras, views, as_json)


@camera.command("remove")
@click.argument("name")
@click.pass_obj
def camera_remove(front: Front, name: str) -> None:
    """Stop watching NAME. What it saw stays searchable; nothing deletes it yet. A recording that is added again is
    replayed from the start."""
    from catalog.cameras import CameraRegistry
    from catalog.progress import Progresses
    from watchword.catalogs import open_catalog

    with open_catalog(front.settings()) as catalog:
        CameraRegistry(catalog).remove(name)
        Progresses(catalog).forget(name)
    click.echo(f"no longer watching {name}; what it saw stays searchable")


@camera.group("mask")
def mask() -> None:
    """Blank parts of a camera's pictures, before anything else is done with them."""


@mask.command("add")
@click.argument("name")
@click.argument("areas", nargs=-1, required=True, callback=_areas, metavar="CORNERS…")
@click.option("--recordings-stay-unmasked", "unmasked", is_flag=True, help=_UNMASKED)
@click.pass_obj
def mask_add(front: Front, name: str, areas: tuple[Area, ...], unmasked: bool) -> None:
    """Blank these areas of NAME's pictures. Each is one argument: its corners as shares of the picture,
    '0,0 0.5,0 0.5,0.3', or in pixels of a size, '1920x1080: 0,0 960,0 960,324'."""

    def masked(camera: Camera) -> Camera:
        allowed = unmasked or camera.unmasked_recording
        return replace(camera, masks=(*camera.masks, *areas), unmasked_recording=allowed)

    changed = _changed(front, name, masked)
    click.echo(f"{name} has {len(changed.masks)} masks; what is in the index and was recorded before stays as it is")
    if changed.records:
        click.echo("its recordings are not masked, as it was said")


@mask.command("list")
@click.argument("name")
@click.pass_obj
def mask_list(front: Front, name: str) -> None:
    """Show the masks of NAME, as they can be given again."""
    _list_areas(_camera(front, name).masks, f"{name} has no masks")


@mask.command("clear")
@click.argument("name")
@click.pass_obj
def mask_clear(front: Front, name: str) -> None:
    """Take all masks off NAME. From now on everything is visible."""
    _changed(front, name, lambda camera: replace(camera, masks=(), unmasked_recording=False))
    click.echo(f"{name} has no masks any more: from now on all of its picture is looked at and kept")


def _list_areas(areas: tuple[Area, ...], none: str) -> None:
    click.echo("\n".join(map(written, areas)) or none)


def _camera(front: Front, name: str) -> Camera:
    from watchword.catalogs import open_registry

    with open_registry(front.settings()) as registry:
        return registry.get(name)


def _changed(front: Front, name: str, change: Callable[[Camera], Camera]) -> Camera:
    from watchword.catalogs import open_registry

    with open_registry(front.settings()) as registry:
        return registry.change(name, change)


def _absolute(url: str) -> str:
    from cameras.address import kind_of

    return str(Path(url).expanduser().absolute()) if kind_of(url) == "file" and "://" not in url else url
