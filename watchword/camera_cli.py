"""`watchword camera`: which cameras are watched, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from manage.recordings import recording_of
from proto.areas import area_of, written
from proto.errors import Invalid
from proto.types import Area, Camera, group_name, site_name
from watchword.recording_cli import bytes_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from manage.cameras import CameraKeeper

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


def _groups(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(group_name, names)))


def _site(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    return None if name is None else site_name(name)


Command = TypeVar("Command", bound=Callable[..., object])


def _how(command: Command) -> Command:
    """The options that `add` and `set` have in common: how a camera is watched."""
    corners: dict[str, Any] = {"multiple": True, "callback": _areas, "metavar": "CORNERS"}
    for option in reversed(
        [
            click.option("--fps", type=float, help="Pictures looked at per second; otherwise as camera.fps says."),
            click.option("--novelty", type=float, help="What must differ, 0 to 1; otherwise as camera.novelty says."),
            click.option(
                "--packet-gate",
                type=click.Choice(["auto", "off"]),
                help="off: all of it is decoded; otherwise as camera.packet_gate says.",
            ),
            click.option("--mask", "masks", help=f"Blank an area: {_CORNERS}. Repeatable.", **corners),
            click.option("--ignore", "ignored", help="Movement in this area says nothing. Repeatable.", **corners),
            click.option("--group", "groups", multiple=True, callback=_groups, help="A group it is in. Repeatable."),
            click.option("--site", callback=_site, help="Only processes with this camera.site reach it; '': all do."),
        ]
    ):
        command = option(command)
    return command


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
@_how
@click.option("--recordings-stay-unmasked", "unmasked_recording", is_flag=True, help=_UNMASKED)
@click.pass_obj
def camera_add(
    front: Front,
    /,
    name: str,
    url: str,
    speed: float,
    start: str | None,
    unchecked: bool,
    record_days: float | None,
    record_bytes: int | None,
    **how: Any,
) -> None:
    """Watch the camera at URL under NAME.

    URL is rtsp(s)://…, rtsp+udp://… for RTP over UDP, http(s)://… of MJPEG, other video or an .m3u8 playlist,
    udp://HOST:PORT or tcp://HOST:PORT of MPEG-TS, a video file, a folder of videos or of pictures, or /dev/video0."""
    from manage.cameras import checked
    from proto.types import camera_name, now_ms
    from watchword.times import instant

    settings = front.settings()
    recorded = record_days is not None or record_bytes is not None
    added = Camera(
        name=camera_name(name),
        url=_absolute(url),
        speed=speed,
        start_ms=instant(start, now_ms()) if start else None,
        record=recording_of(record_days, record_bytes) if recorded else None,
        **{**how, "site": how["site"] or ""},
    )
    checked(added)
    seen = "" if unchecked else _looked_at(added, settings)
    with _keeper(front) as keeper:
        kept = len(keeper.add(added).camera.masks) - len(added.masks)
    click.echo(f"watching {'and recording ' if recorded else ''}{name}{seen}")
    if kept:
        click.echo(f"it keeps the masks that it had: {kept}; `watchword camera mask clear {name}` takes them off")


def _looked_at(camera: Camera, settings: Settings) -> str:
    """What the camera shows, in words. Raises what is wrong with it."""
    from cameras.source import probe
    from manage.cameras import checked

    info, _ = probe(camera, settings.camera.open_timeout_s)
    rate = f", {info.fps:g} frames a second" if info.fps else ""
    checked(camera, info.codec)
    return f" ({info.width} x {info.height}{rate}, {info.codec})"


@camera.command("set")
@click.argument("name")
@click.option("--url", help="Its new address. What it saw, and its name, stay.")
@_how
@click.option("--no-groups", is_flag=True, help="It is in no group any more.")
@click.option("--as-usual", is_flag=True, help="fps, novelty and packet gate as the settings say again.")
@click.option("--enable/--disable", "enabled", default=None, help="Watch it, or let it go for now.")
@click.option("--recordings-stay-unmasked/--recordings-are-masked", "unmasked_recording", default=None, help=_UNMASKED)
@click.option("--unchecked", is_flag=True, help="Take a new address even if it does not answer now.")
@click.pass_obj
def camera_set(
    front: Front, /, name: str, url: str | None, no_groups: bool, as_usual: bool, unchecked: bool, **how: Any
) -> None:
    """Change NAME while it is watched. It stays the same camera, and what it saw stays. Masks, areas to ignore and
    groups that are given take the place of those before; what is not given stays."""
    from manage.cameras import changed, checked

    given = {key: value for key, value in how.items() if value is not None and value != ()}
    if as_usual:
        given = {"fps": None, "novelty": None, "packet_gate": None, **given}
    if no_groups and "groups" not in given:
        given["groups"] = ()
    if url is not None:
        given["url"] = _absolute(url)
    if not given:
        raise Invalid("nothing is to be changed", todo="`watchword camera set --help` shows what can be")
    with _keeper(front) as keeper:
        before = keeper.kept(name).camera
        looks = before.watching and url is not None and not unchecked
        seen = _looked_at(checked(changed(before, given)), front.settings()) if looks else ""
        after = keeper.change(name, given).camera
    click.echo(f"{name} {'is watched' if after.enabled else 'is disabled'}{seen}; it takes a second or two")
    _say_unmasked(after)


def _say_unmasked(camera: Camera) -> None:
    if camera.masks and camera.records:
        click.echo(f"recordings of {camera.name} are not masked, as it was said")


@camera.command("list")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Only cameras of this group. Repeatable.")
@click.option("--follow", "-f", is_flag=True, help="Show how they are doing until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def camera_list(front: Front, groups: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Show the known cameras, how each is doing, and whether it still shows its view."""
    from watchword.camera_list import console, follow_cameras, listed, show_cameras
    from watchword.catalogs import open_catalog

    if follow and as_json:
        raise Invalid("--follow and --json are given", todo="give one of them; /api/v1/cameras is for programs too")
    with open_catalog(front.settings()) as catalog:
        if follow:
            follow_cameras(lambda: listed(catalog, groups), _a_second, console())
        else:
            show_cameras(listed(catalog, groups), as_json)


def _a_second() -> bool:
    time.sleep(1.0)
    return True


@camera.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--apply", "really", is_flag=True, help="Add them. Without it, it is only shown what would be added.")
@click.pass_obj
def camera_import(front: Front, file: Path, really: bool) -> None:
    """Add the cameras of FILE: Watchword's own YAML, or a configuration of Frigate. All of them or none."""
    from watchword.camera_import import against, cameras_in, in_words
    from watchword.catalogs import open_registry

    found = cameras_in(file)
    with open_registry(front.settings()) as registry:
        new, same, other = against(found, registry.all())
        for problem in found.problems:
            click.echo(f"{file}:{problem.line}: {problem.words}: {problem.todo}", err=True)
        for name in other:
            click.echo(f"{name} is there with other settings: `watchword camera set {name}` changes it", err=True)
        if wrong := len(found.problems) + len(other):
            raise Invalid(f"{file} has {wrong} problems, and no camera was added", todo="see the lines above")
        for line in found.notes:
            click.echo(line)
        for name in same:
            click.echo(f"{name} is there already, as it is in the file")
        if really:
            registry.add_all(new)
        for one in new:
            click.echo(f"{'watching' if really else 'would add'} {in_words(one)}")
    if new and not really:
        click.echo(f"{len(new)} cameras would be added: `watchword camera import {file} --apply` adds them")


@camera.command("remove")
@click.argument("name")
@click.pass_obj
def camera_remove(front: Front, name: str) -> None:
    """Stop watching NAME. What it saw stays searchable as long as its retention says; `watchword erase` removes it
    now. A recording that is added again is replayed from the start."""
    with _keeper(front) as keeper:
        keeper.remove(name)
    click.echo(f"no longer watching {name}; what it saw stays searchable")


def _area_commands(kind: Kind) -> click.Group:
    """`add`, `list` and `clear` of one kind of areas."""

    @click.group(kind.word, help=kind.help)
    def group() -> None:
        pass

    @group.command("add", help=kind.add)
    @click.argument("name")
    @click.argument("areas", nargs=-1, required=True, callback=_areas, metavar="CORNERS…")
    @click.pass_obj
    def add(front: Front, name: str, areas: tuple[Area, ...]) -> None:
        changed = _changed(front, name, lambda camera: kind.put(camera, (*kind.of(camera), *areas)))
        click.echo(f"{name} has {len(kind.of(changed))} {kind.many}; {kind.added}")
        _say_unmasked(changed)

    @group.command("list", help=f"Show the {kind.many} of NAME, as they can be given again.")
    @click.argument("name")
    @click.pass_obj
    def show(front: Front, name: str) -> None:
        click.echo("\n".join(map(written, kind.of(_camera(front, name)))) or f"{name} has no {kind.many}")

    @group.command("clear", help=f"Take all {kind.many} off NAME.")
    @click.argument("name")
    @click.pass_obj
    def clear(front: Front, name: str) -> None:
        _changed(front, name, lambda camera: kind.put(camera, ()))
        click.echo(f"{name} has no {kind.many} any more: {kind.cleared}")

    return group


@dataclass(frozen=True)
class Kind:
    """One kind of areas of a camera's picture, and the words that its commands use."""

    word: str
    many: str
    help: str
    add: str
    added: str
    cleared: str
    of: Callable[[Camera], tuple[Area, ...]]
    put: Callable[[Camera, tuple[Area, ...]], Camera]


_EACH = f"Each area is one argument: {_CORNERS}."
camera.add_command(
    _area_commands(
        Kind(
            "mask",
            "masks",
            "Blank parts of a camera's pictures, before anything else is done with them.",
            f"Blank these areas of NAME's pictures. {_EACH}",
            "what is in the index and was recorded before stays as it is",
            "from now on all of its picture is looked at and kept",
            lambda camera: camera.masks,
            lambda camera, areas: replace(
                camera, masks=areas, unmasked_recording=camera.unmasked_recording and bool(areas)
            ),
        )
    )
)
camera.add_command(
    _area_commands(
        Kind(
            "ignore",
            "areas to ignore",
            "Areas in which movement says nothing. They stay visible.",
            f"Ignore movement in these areas of NAME's pictures. {_EACH}",
            "movement there keeps no picture",
            "movement counts everywhere",
            lambda camera: camera.ignored,
            lambda camera, areas: replace(camera, ignored=areas),
        )
    )
)


@contextmanager
def _keeper(front: Front) -> Iterator[CameraKeeper]:
    """What adds, changes and removes cameras."""
    from manage.cameras import CameraKeeper
    from watchword.catalogs import open_catalog

    with open_catalog(front.settings()) as catalog:
        yield CameraKeeper(catalog)


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
