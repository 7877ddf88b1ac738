"""`watchword retention`, `watchword hold` and `watchword index`: how long things are kept, and what there is."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from proto.errors import Invalid
from proto.life import ALWAYS_MS, DAY_MS, DEFAULT, MOST_BYTES, MOST_DAYS, Hold, Rules, Stretch
from watchword.catalogs import open_catalog
from watchword.recording_cli import bytes_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from index.settings import MilvusSettings

_MOST_CAMERAS = 50


def milvus_of(settings: Settings) -> MilvusSettings:
    """The Milvus in the settings, else that of the stack on the data folder."""
    from watchword.stack import needed_stack

    if settings.milvus.endpoints:
        return settings.milvus
    stack = needed_stack(settings.data_dir, "a Milvus: --set 'milvus.endpoints=[\"http://HOST:PORT\"]'")
    return settings.milvus.model_copy(update={"endpoints": stack.addresses.milvus})


def check_camera(catalog: Catalog, name: str) -> None:
    """Raise Unknown unless the camera is or was registered."""
    from catalog.cameras import CameraRegistry

    CameraRegistry(catalog).get(name)


def time_of(begins: str | None, ends: str | None, camera: str, now: int, *, open_ended: bool) -> Stretch:
    """The time from --from to --to of a camera. Without --to: until now, or for ever."""
    from watchword.times import instant

    start_ms = instant(begins, now) if begins else 0
    end_ms = instant(ends, now) if ends else (ALWAYS_MS if open_ended else now)
    if start_ms >= end_ms:
        raise Invalid("the time does not end after it begins", todo="give --from before --to")
    return Stretch(camera, start_ms, end_ms)


def span_words(stretch: Stretch) -> str:
    """The time of a stretch for people."""
    from watchword.times import local

    begins = local(stretch.start_ms) if stretch.start_ms else "the beginning"
    return f"{begins} to {'no end' if stretch.end_ms >= ALWAYS_MS else local(stretch.end_ms)}"


@click.group()
def retention() -> None:
    """Choose how long moments are kept, for all cameras and for each."""


def _days_of(words: str) -> float:
    from watchword.times import seconds

    if words == "forever":
        return MOST_DAYS
    try:
        return float(words)
    except ValueError:
        return seconds(words) / 86_400


@retention.command("set")
@click.argument("camera", required=False)
@click.argument("days", required=False)
@click.option("--default", "for_all", metavar="DAYS", help="For cameras without a limit of their own.")
@click.option("--bytes", "size", metavar="SIZE", help="Keep what fits into so much, such as 20GB; any: no such limit.")
@click.option("--default-bytes", "each", metavar="SIZE", help="The same, for each camera without one of its own.")
@click.pass_obj
def retention_set(
    front: Front, camera: str | None, days: str | None, for_all: str | None, size: str | None, each: str | None
) -> None:
    """Keep CAMERA's moments for DAYS: 30, 12h, or forever, and within SIZE. Whichever ends first counts.

    What is older is hidden at once, in every answer, and removed in the background: moments, pictures, recordings.
    Bytes are those of moments and pictures, as measured each hour; recordings have a limit of their own besides.
    """
    from catalog.life import Life
    from proto.life import check_bytes, check_days

    of_all, of_one = (for_all, each) != (None, None), (days, size) != (None, None)
    if of_all == (camera is not None) or of_one != (camera is not None):
        raise Invalid("whose limit is not clear", todo="give CAMERA DAYS, CAMERA --bytes SIZE, or --default DAYS")
    day_words, size_words = (days, size) if camera is not None else (for_all, each)
    limit = None if day_words is None else check_days(_days_of(day_words))
    within = None if size_words is None else check_bytes(_size_of(size_words))
    with open_catalog(front.settings()) as catalog:
        if camera is not None:
            check_camera(catalog, camera)
        life = Life(catalog)
        if limit is not None:
            life.keep(camera or DEFAULT, limit)
        if within is not None:
            life.keep_within(camera or DEFAULT, within)
    whose = camera or "cameras without a limit of their own"
    click.echo(f"{whose}: kept {_both_words(limit, within)}")


def _size_of(words: str) -> int:
    return MOST_BYTES if words == "any" else bytes_of(None, None, words) or 0


@retention.command("clear")
@click.argument("camera", required=False)
@click.option("--default", "for_all", is_flag=True, help="The limit of cameras without one of their own.")
@click.pass_obj
def retention_clear(front: Front, camera: str | None, for_all: bool) -> None:
    """Keep CAMERA's moments as others': no limit of its own, in days or bytes. What was removed does not come back."""
    from catalog.life import Life

    if for_all == (camera is not None):
        raise Invalid("whose limit is not clear", todo="give CAMERA, or --default")
    with open_catalog(front.settings()) as catalog:
        Life(catalog).keep_as_others(camera or DEFAULT)
    click.echo(f"{camera}: kept as others" if camera else "cameras without a limit of their own: kept for ever")


@retention.command("show")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def retention_show(front: Front, as_json: bool) -> None:
    """Show the limits, and the holds that win over them."""
    from catalog.life import Life
    from proto.types import now_ms
    from watchword.times import local

    with open_catalog(front.settings()) as catalog:
        rules = Life(catalog).rules()
    if as_json:
        days = {camera: limit for camera, limit in rules.days.items() if camera}
        sizes = {camera: size for camera, size in rules.bytes.items() if camera}
        told = {
            "default": rules.days.get(DEFAULT),
            "cameras": days,
            "default_bytes": rules.bytes.get(DEFAULT),
            "cameras_bytes": sizes,
            "floors_ms": dict(rules.floors),
            "holds": [hold_told(one) for one in rules.holds],
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"all cameras: kept {_both_words(rules.days.get(DEFAULT), rules.bytes.get(DEFAULT)) or 'for ever'}")
    for camera in sorted(rules.days.keys() | rules.bytes.keys() - {DEFAULT}):
        if camera:
            click.echo(f"{camera}: kept {_both_words(rules.days.get(camera), rules.bytes.get(camera))}")
    for camera, floor_ms in sorted(rules.floors.items()):
        click.echo(f"{camera}: begins at {local(floor_ms)}: what was before did not fit into its bytes")
    _show_holds(rules)
    if rules.days and rules.clock_doubt(now_ms()):
        click.echo(
            "nothing is removed for its age now: the sweeper has not trusted the clock lately (it runs in the stream "
            "process); its log says why",
            err=True,
        )


@retention.command("trust-clock")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def trust_clock(front: Front, yes: bool) -> None:
    """Say that this machine's clock is right, after the sweeper refused to remove anything by it."""
    from catalog.life import Life
    from proto.types import now_ms
    from watchword.times import local

    if not yes:
        click.confirm(f"Is it {local(now_ms())} now? What is too old by that is removed for good.", abort=True)
    with open_catalog(front.settings()) as catalog:
        Life(catalog).trust(now_ms())
    click.echo("the clock is trusted")


@click.group()
def hold() -> None:
    """Keep what a quarrel or a court asks for, whatever limits and later erasures say."""


@hold.command("add")
@click.argument("camera")
@click.option(
    "--from", "begins", metavar="TIME", help="30s, 10m, 2h, 7d ago, or 2026-05-01T10:00. Default: all before."
)
@click.option("--to", "ends", metavar="TIME", help="Same form as --from. Default: no end.")
@click.option("--reason", required=True, help="Why: it is shown wherever the hold is.")
@click.pass_obj
def hold_add(front: Front, camera: str, begins: str | None, ends: str | None, reason: str) -> None:
    """Keep all moments of CAMERA that touch this time. Erasures that were asked for before stay in force."""
    from catalog.life import Life
    from proto.types import now_ms

    now = now_ms()
    stretch = time_of(begins, ends, camera, now, open_ended=True)
    with open_catalog(front.settings()) as catalog:
        check_camera(catalog, camera)
        life = Life(catalog)
        placed = life.hold(stretch, now, reason)
        before = [
            one.number
            for one in life.rules().erasures
            if one.stretch.camera == camera
            and one.number < placed.number
            and one.stretch.touches(stretch.start_ms, stretch.end_ms - 1)
        ]
    click.echo(f"hold {placed.number}: {camera}, {span_words(stretch)}")
    if before:
        click.echo(f"  erased before, and not kept: erasures {', '.join(map(str, before))}", err=True)


@hold.command("remove")
@click.argument("number", type=int)
@click.pass_obj
def hold_remove(front: Front, number: int) -> None:
    """End hold NUMBER. What it kept goes by its age, and by the erasures that it kept it from."""
    from catalog.life import Life
    from proto.types import now_ms

    with open_catalog(front.settings()) as catalog:
        Life(catalog).lift(number, now_ms())
    click.echo(f"hold {number} is lifted")


@hold.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def hold_list(front: Front, as_json: bool) -> None:
    """Show the holds that are in force."""
    from catalog.life import Life

    with open_catalog(front.settings()) as catalog:
        rules = Life(catalog).rules()
    if as_json:
        click.echo(json.dumps([hold_told(one) for one in rules.holds], indent=2))
        return
    _show_holds(rules)
    if not rules.holds:
        click.echo("no holds")


@click.group("index")
def index() -> None:
    """See what is stored."""


@index.command("status")
@click.option("--camera", "-c", "cameras", multiple=True, metavar="NAME", help="Only these cameras. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def index_status(front: Front, cameras: tuple[str, ...], as_json: bool) -> None:
    """Show buckets, moments, the oldest and newest of each camera, and what retention removes when."""
    told = asyncio.run(_status(front.settings(), cameras))
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    _show_status(told)


async def _status(settings: Settings, wanted: tuple[str, ...]) -> dict[str, Any]:
    from catalog.cameras import CameraRegistry
    from catalog.coverage import Coverage
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import folders_of, new_removal
    from life.status import status_of
    from proto.types import now_ms
    from watchword.sharding import map_of_now

    index = milvus_of(settings)
    with open_catalog(settings) as catalog:
        known = map_of_now(index, catalog)
        rows = new_removal(index, known)
        try:
            registry = CameraRegistry(catalog)
            names = [registry.get(name).name for name in wanted] or sorted(registry.names())[:_MOST_CAMERAS]
            newest = Coverage(catalog).looked_until(frozenset(names))
            pictures = Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails"))
            told = await status_of(rows, pictures, Life(catalog).rules(), names, now_ms())
        finally:
            await rows.close()
    for camera in told["cameras"]:
        camera["looked_until_ms"] = newest.get(camera["camera"])
    folders = folders_of(known.map()) or [settings.data_dir / "milvus"]
    if all(folder.is_dir() for folder in folders):
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        told["bytes"] = sum(path.stat().st_size for path in files)
    return told


def _show_status(told: dict[str, Any]) -> None:
    from manage.recordings import in_words
    from watchword.times import local

    for one in told["buckets"]:
        until = "no limit" if one["expires_ms"] is None else f"all too old on {local(one['expires_ms'])}"
        gone = f", {one['gone']:,} hidden" if one["gone"] else ""
        click.echo(f"{local(one['start_ms'])[:16]}  {one['hours']} h  {one['moments']:>9,} moments{gone}; {until}")
    size = f", {in_words(told['bytes'])} on this machine's disk" if "bytes" in told else ""
    click.echo(f"{len(told['buckets'])} buckets, {told['moments']:,} moments{size}")
    for one in told["cameras"]:
        oldest = local(one["oldest_ms"]) if one["oldest_ms"] else "none"
        newest = local(one["looked_until_ms"]) if one["looked_until_ms"] else "never looked at"
        days = "" if one["days"] is None else f"; kept {_limit_words(one['days'])}"
        click.echo(f"{one['camera']}: oldest moment {oldest}, looked at until {newest}{days}{_within_words(one)}")
        if one["held_below"]:
            click.echo(f"  beyond its bytes, and held: {one['held_below']:,} moments")
    click.echo(
        f"retention: {told['gone']:,} moments wait to be removed, about {told['gone_tomorrow']:,} more within a day"
    )
    for name, why in told["missing"].items():
        click.echo(f"  without {name}: {why}", err=True)


def _within_words(one: dict[str, Any]) -> str:
    from manage.recordings import in_words

    if one["bytes"] is None:
        return ""
    days = one["bytes_days"]
    pace = (
        "nothing came in the last day" if days is None else f"{days:.3g} days at {in_words(one['bytes_a_day'])} a day"
    )
    return f"; at most {in_words(one['bytes'])}: {pace}"


def hold_told(one: Hold) -> dict[str, Any]:
    """A hold for programs."""
    times = {"from_ms": one.stretch.start_ms, "to_ms": one.stretch.end_ms}
    return {"hold": one.number, "camera": one.stretch.camera, **times, "reason": one.reason, "placed_ms": one.placed_ms}


def _show_holds(rules: Rules) -> None:
    for one in rules.holds:
        click.echo(f"hold {one.number}: {one.stretch.camera}, {span_words(one.stretch)}: {one.reason}")


def _both_words(days: float | None, size: int | None) -> str:
    from manage.recordings import in_words

    words = [] if days is None else [_limit_words(days)]
    if size is not None:
        words.append("whatever it takes" if size >= MOST_BYTES else f"within {in_words(size)}")
    return ", ".join(words)


def _limit_words(days: float) -> str:
    if days >= MOST_DAYS:
        return "for ever"
    return f"{days * DAY_MS / 3_600_000:g} hours" if days < 2 else f"{days:g} days"
