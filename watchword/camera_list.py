"""The known cameras and how each is doing: as a table, as JSON, and followed while it changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cameras.address import shown as without_secrets
from catalog.cameras import CameraRegistry
from catalog.statuses import CameraStatus, Statuses, fields_of, status_now
from catalog.store import Catalog
from catalog.views import CameraView, Views
from proto.areas import written
from proto.errors import Transient, Unknown
from proto.scrub import scrubbed
from proto.types import Camera, now_ms
from watchword.times import local

_COLOURS = {"live": "green", "done": "green", "failing": "red", "silent": "red", "connecting": "yellow"}


@dataclass(frozen=True)
class Listed:
    """A camera, how it is doing, and how its view is."""

    camera: Camera
    status: CameraStatus
    view: CameraView | None


def listed(catalog: Catalog, groups: Sequence[str] = ()) -> list[Listed]:
    """The cameras, or those of these groups, as the catalog has them now. Unknown when a group has none."""
    cameras, statuses, views = CameraRegistry(catalog).all(), Statuses(catalog).all(), Views(catalog).all()
    for group in groups:
        if not any(group in one.groups for one in cameras):
            known = sorted({name for one in cameras for name in one.groups})
            todo = f"known here: {', '.join(known[:5])}" if known else "`watchword camera set NAME --group GROUP`"
            raise Unknown(f"no camera is in a group {group!r}", todo=todo)
    now = now_ms()
    return [
        Listed(one, status_now(one, statuses, now), views.get(one.name))
        for one in cameras
        if not groups or set(groups) & set(one.groups)
    ]


def show_cameras(rows: Sequence[Listed], as_json: bool) -> None:
    """Print the cameras, with passwords in addresses hidden."""
    if as_json:
        click.echo(json.dumps([plain(row) for row in rows], ensure_ascii=False, indent=2))
    elif not rows:
        click.echo("no cameras yet: watchword camera add NAME URL")
    else:
        console().print(_table(rows))
        for line in _advice(rows):
            click.echo(line)


def follow_cameras(read: Callable[[], list[Listed]], pause: Callable[[], bool], out: Console) -> None:
    """Show the cameras until `pause` says no. On a terminal the table stays; otherwise each change is a line."""
    rows = read()
    if not out.is_terminal:
        out.print(_table(rows))
        while pause():
            before, rows = rows, _read_on(read, rows)
            for line in changes(before, rows):
                out.print(line, markup=False)
        return
    with Live(_page(rows), console=out, auto_refresh=False) as live:
        while pause():
            rows = _read_on(read, rows)
            live.update(_page(rows), refresh=True)


def changes(before: Iterable[Listed], after: Iterable[Listed]) -> list[str]:
    """A line for each camera that is doing otherwise than before."""
    known = {row.camera.name: row for row in before}
    lines = []
    for row in after:
        was = known.get(row.camera.name)
        if was is None or was.status.state != row.status.state:
            state = row.status.state if was is None else f"{was.status.state} -> {row.status.state}"
            lines.append(f"{local(now_ms())} {row.camera.name}: {state}{_why(row.status)}")
    return lines


def plain(row: Listed) -> dict[str, Any]:
    """For programs. A camera whose view never changed is clear, and since when is not known."""
    one, view = row.camera, row.view
    return {
        "name": one.name,
        "url": without_secrets(one.url),
        "watching": one.watching,
        "enabled": one.enabled,
        "loop": one.loop,
        "groups": list(one.groups),
        "site": one.site,
        "fps": one.fps,
        "novelty": one.novelty,
        "packet_gate": one.packet_gate,
        "masks": [written(area) for area in one.masks],
        "ignored": [written(area) for area in one.ignored],
        "view": {
            "number": view.view if view else 0,
            "state": view.state if view else "clear",
            "since_ms": view.since_ms if view else None,
        },
        "status": fields_of(row.status),
    }


def console() -> Console:
    """A console wider than any terminal, since a path broken into lines could not be copied."""
    return Console(width=1000, highlight=False)


def _read_on(read: Callable[[], list[Listed]], rows: list[Listed]) -> list[Listed]:
    try:
        return read()
    except Transient:
        return rows  # the catalog is away for a moment


def _page(rows: Sequence[Listed]) -> Group:
    return Group(_table(rows), *(Text(line) for line in _advice(rows)))


def _table(rows: Sequence[Listed]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("camera", "state", "view", "pictures a second", "sends", "groups", "site", "watched by", "source"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        status, camera = row.status, row.camera
        state = f"[{_COLOURS.get(status.state, 'dim')}]{status.state}[/]"
        since = f" since {local(status.since_ms)}" if status.since_ms and status.state != "live" else ""
        marks = f" ({len(camera.masks)} masks)" if camera.masks else ""
        table.add_row(
            camera.name,
            f"{state}{since}{escape(_why(status))}",
            _view_words(row.view),
            _rates(status),
            _sends(status),
            " ".join(camera.groups),
            camera.site,
            escape(status.watched_by) + (f" at {status.cost:.1%} of a core" if status.cost else ""),
            escape(without_secrets(camera.url)) + marks,
        )
    return table


def _why(status: CameraStatus) -> str:
    return f": {scrubbed(status.why)}" if status.why else ""


def _view_words(view: CameraView | None) -> str:
    if view is None or view.state == "clear":
        return "clear"
    return f"[red]{view.state}[/] since {local(view.since_ms)}"


def _rates(status: CameraStatus) -> str:
    if status.state not in ("live", "silent", "done"):
        return ""
    return f"{status.fps_got:.3g} of {status.fps_wanted:g}, {status.fps_kept:.2g} kept"


def _sends(status: CameraStatus) -> str:
    if not status.width:
        return ""
    parts = [status.codec, f"{status.width}x{status.height}"]
    if status.source_fps:
        parts.append(f"{status.source_fps:.3g}/s")
    if status.bits_per_second:
        parts.append(f"{status.bits_per_second / 1e6:.2g} Mbit/s")
    if status.gop_frames > 1:
        parts.append(f"key frame each {status.gop_frames}")
    if status.gate != "off":
        parts.append(f"{status.decoded_share:.0%} decoded ({status.gate})")
    return " ".join(parts)


def _advice(rows: Iterable[Listed]) -> list[str]:
    return [f"{row.camera.name}: {sentence}" for row in rows for sentence in row.status.advice]
