"""`watchword recording` and `watchword clip`: what is recorded of cameras, and a part of it as a file."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from manage.recordings import USUAL_DAYS, check_recordable, in_words, recording_of
from proto.errors import Invalid, Unknown, WatchwordError
from proto.types import Camera, Recording
from watchword.catalogs import open_registry
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from cameras.recording import Forecast
    from proto.v1 import query_pb2

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", re.IGNORECASE)
_PACE_SEGMENTS = 60


def bytes_of(_: click.Context | None, __: click.Parameter | None, words: str | None) -> int | None:
    """20GB, 500MB, 1.5TiB as a number."""
    if words is None:
        return None
    found = _BYTES.fullmatch(words.strip())
    if not found:
        raise Invalid(f"{words[:40]!r} is no size", todo="write 500MB, 20GB or 1.5TB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


@click.group()
def recording() -> None:
    """Choose which cameras are recorded, and see what there is."""


@recording.command("set")
@click.argument("name")
@click.option("--days", type=float, help=f"Keep at most so many days ({USUAL_DAYS:g} unless said before).")
@click.option("--bytes", "size", callback=bytes_of, metavar="SIZE", help="Take at most so much, such as 20GB.")
@click.pass_obj
def recording_set(front: Front, name: str, days: float | None, size: int | None) -> None:
    """Record NAME from now on, within these limits. It is watched on meanwhile."""
    with open_registry(front.settings()) as registry:
        camera = registry.get(name)
        check_recordable(camera)
        wanted = recording_of(days, size, camera.record)
        registry.record(name, wanted)
    click.echo(f"recording {name}: at most {wanted.days:g} days and {in_words(wanted.bytes)}, whichever comes first")


@recording.command("off")
@click.argument("name")
@click.pass_obj
def recording_off(front: Front, name: str) -> None:
    """Record NAME no longer. What was recorded goes when its days are over."""
    with open_registry(front.settings()) as registry:
        before = registry.get(name).record
        if before is None:
            raise Invalid(f"{name} is not recorded", todo="`watchword recording status` shows which cameras are")
        registry.record(name, Recording(before.days, before.bytes, on=False))
    click.echo(f"no longer recording {name}; what was recorded goes when its days are over")


@recording.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def recording_status(front: Front, as_json: bool) -> None:
    """Show what is recorded of each camera, and for how many days its limits last."""
    from watchword.times import length, local

    settings = front.settings()
    with open_registry(settings) as registry:
        registered = {camera.name: camera for camera in registry.all()}
    rows = [(name, *row) for name, row in sorted(_recorded(settings, registered).items())]
    if as_json:
        plain = [
            {"camera": name, "limits": asdict(limit) if limit else None, **(asdict(seen) if seen else {"bytes": 0})}
            for name, limit, seen in rows
        ]
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("nothing is recorded: watchword recording set NAME --days 7 --bytes 20GB")
    for name, limit, seen in rows:
        state = "not recorded" if limit is None or not limit.on else f"{limit.days:g} days, {in_words(limit.bytes)}"
        there = f"{in_words(seen.bytes)} from {local(seen.start_ms)} to {local(seen.end_ms)}" if seen else "nothing yet"
        lasts = f"; the limits hold {length(86_400 * seen.days)}" if seen and seen.days is not None else ""
        click.echo(f"{name}: {state}; there: {there}{lasts}")


@click.command("clip")
@click.argument("camera", required=False)
@click.option("--from", "begins", metavar="TIME", help="30s, 10m, 2h, 7d ago, or 2026-05-01T10:00.")
@click.option("--to", "ends", metavar="TIME", help="Same form as --from.")
@click.option("--moment", metavar="MOMENT", help="Instead of camera and time: the moment_id of a hit.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), metavar="FILE.mp4", help="Where to; - is standard output."
)
@click.pass_obj
def clip(
    front: Front, camera: str | None, begins: str | None, ends: str | None, moment: str | None, out: Path | None
) -> None:
    """Write a part of CAMERA's recording into a file that browsers play. It is not encoded anew, so it begins at the
    key frame before."""
    from proto.types import now_ms
    from watchword.times import instant

    if (moment is None) == (camera is None) or (camera is not None and not (begins and ends)):
        raise Invalid("what to play is not clear", todo="give CAMERA --from TIME --to TIME, or --moment MOMENT")
    now = now_ms()
    wanted: dict[str, Any] = {"moment_id": moment}
    if camera is not None and begins and ends:
        wanted = {"camera": camera, "start_ms": instant(begins, now), "end_ms": instant(ends, now)}
    asyncio.run(_write_clip(front.settings(), wanted, out))


async def _write_clip(settings: Settings, wanted: dict[str, Any], out: Path | None) -> None:
    from watchword.reaching import query_client

    async with query_client(settings) as client:
        parts = client.clip(**wanted)
        head = (await anext(parts)).head
        if str(out) == "-":
            async for part in parts:
                sys.stdout.buffer.write(part.data)
            return
        out = out or Path(f"{head.camera}-{head.start_ms}.mp4")
        # A clip that ended early must not look like a whole one.
        scratch = out.with_name(f"{out.name}.part")
        try:
            with _opened(scratch) as file:
                async for part in parts:
                    await asyncio.to_thread(file.write, part.data)
            scratch.replace(out)
        except OSError as error:
            raise Invalid(f"{out} cannot be written ({error.strerror})", todo="name another file with -o") from error
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
    _say(head, out)


def _say(head: query_pb2.ClipHead, out: Path) -> None:
    from watchword.times import span

    lasts_s = sum(one.end_ms - one.start_ms for one in head.spans) / 1000
    click.echo(
        f"{out}: {head.camera}, {span(head.start_ms, head.end_ms)}, {lasts_s:.1f} s, {in_words(head.bytes)}, "
        f"{head.codec or 'unknown codec'}"
    )
    for one in head.missing:
        why = "not recorded" if one.reason == "not recorded" else "recorded in another format: a clip of its own"
        click.echo(f"  {span(one.start_ms, one.end_ms)}: {why}", err=True)


def _opened(path: Path) -> BinaryIO:
    return path.open("wb")


def _recorded(settings: Settings, registered: dict[str, Camera]) -> dict[str, tuple[Recording | None, Forecast | None]]:
    """The limits of each camera that is recorded or was, and what there is."""
    from catalog.recordings import Recordings

    reader = Recordings(settings.data_dir / "recordings")
    limits = {name: camera.record for name, camera in registered.items() if camera.record is not None}
    found: dict[str, tuple[Recording | None, Forecast | None]] = {}
    for name in {*limits, *reader.cameras()}:
        with suppress(Unknown):
            found[name] = limits.get(name), _forecast(reader, name, limits.get(name))
    return found


def _forecast(reader: Any, name: str, limit: Recording | None) -> Forecast | None:
    from cameras.recording import forecast
    from catalog.recordings import read_index

    try:
        segments, there = reader.segments(name), reader.span(name)
    except WatchwordError:
        segments, there = [], None
    if there is None:
        return None
    size = sum(_size(path) for segment in segments for path in (segment.video, segment.index))
    latest = [read_index(segment.index) for segment in segments[-_PACE_SEGMENTS:]]
    pace = (
        sum(one.size for entries in latest for one in entries),
        sum(one.end_ms - one.start_ms for entries in latest for one in entries),
    )
    return forecast(size, there[0], there[1], pace, limit)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
