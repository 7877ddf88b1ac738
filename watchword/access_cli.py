"""`watchword token` and `watchword audit`: who may ask and see what, and who did."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from proto.access import Role
from proto.errors import Broken, Invalid
from proto.types import now_ms
from watchword.settings import Front
from watchword.times import local

if TYPE_CHECKING:
    from catalog.tokens import Token

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@click.group()
def token() -> None:
    """Choose who may ask, and of which cameras."""


@token.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True, help="What for."
)
@click.option("--camera", "-c", "cameras", multiple=True, metavar="NAME", help="Only this camera. Repeatable.")
@click.option(
    "--group", "-g", "groups", multiple=True, metavar="GROUP", help="Only cameras that are in it then. Repeatable."
)
@click.option("--expires", metavar="SPAN", help="Ends after this: 12h, 30d. Default: never.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def token_create(
    front: Front,
    name: str,
    role: str,
    cameras: tuple[str, ...],
    groups: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> None:
    """Make a token for NAME, and show its secret. It is shown this once.

    With --camera and --group it is for the cameras that are named and those of the groups, together. A camera that
    comes into a group can be seen about a second later, and one that leaves it no longer.
    """
    from catalog.cameras import CameraRegistry, unknown_camera, unknown_group
    from catalog.tokens import TokenRegistry
    from watchword.catalogs import open_catalog

    now = now_ms()
    until_ms = None if expires is None else now + _span_ms(expires)
    with open_catalog(front.settings()) as catalog:
        known = CameraRegistry(catalog).all()
        names = frozenset(camera.name for camera in known)
        for camera in cameras:
            if camera not in names:
                raise unknown_camera(camera, names)
        known_groups = {group for camera in known for group in camera.groups}
        for group in groups:
            if group not in known_groups:
                raise unknown_group(group, known_groups)
        only = tuple(sorted(set(cameras))) or None
        made, secret = TokenRegistry(catalog).create(
            name, Role(role), only, now, until_ms, groups=tuple(sorted(set(groups)))
        )
    if as_json:
        click.echo(json.dumps({"id": made.id, "name": made.name, "token": secret}, ensure_ascii=False))
        return
    click.echo(f"token {made.id} of {made.name}, {made.role}, {_of(made)}. Keep it, it is not shown again:")
    click.echo(secret)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def token_list(front: Front, as_json: bool) -> None:
    """Show every token, without its secret."""
    from catalog.tokens import TokenRegistry
    from watchword.catalogs import open_catalog

    with open_catalog(front.settings()) as catalog:
        tokens = TokenRegistry(catalog).all()
    now = now_ms()
    if as_json:
        rows = [
            {
                "id": one.id,
                "name": one.name,
                "role": one.role,
                "cameras": None if one.cameras is None else list(one.cameras),
                "groups": list(one.groups),
                "created_ms": one.created_ms,
                "expires_ms": one.expires_ms,
                "revoked_ms": one.revoked_ms,
                "used_ms": one.used_ms or None,
                "counts": one.counts(now),
            }
            for one in tokens
        ]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not tokens:
        click.echo("no tokens yet: watchword token create NAME")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "name", "role", "sees", "state", "last used"):
        table.add_column(heading, no_wrap=True)
    for one in tokens:
        used = local(one.used_ms) if one.used_ms else "never"
        table.add_row(one.id, one.name, one.role, _of(one), _state(one.expires_ms, one.revoked_ms, now), used)
    Console(width=1000, highlight=False).print(table)


@token.command("revoke")
@click.argument("name")
@click.pass_obj
def token_revoke(front: Front, name: str) -> None:
    """End the token of this NAME or id. Everywhere it counts for about a second more."""
    from catalog.tokens import TokenRegistry
    from watchword.catalogs import open_catalog

    with open_catalog(front.settings()) as catalog:
        ended = TokenRegistry(catalog).revoke(name, now_ms())
    click.echo(f"token {ended.id} of {ended.name} does not count any more")


@click.group()
def audit() -> None:
    """See who asked what."""


@audit.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--head", default="", metavar="HASH", help="A hash that was printed before: a line must have it.")
@click.pass_obj
def audit_verify(front: Front, folder: Path | None, head: str) -> None:
    """Check that no line of the audit was changed, taken out or put in. Default: that of the data folder.

    Print and keep the head of each chain elsewhere: without it nothing tells that the newest lines were cut off.
    """
    from catalog.audit import verify

    found = verify(folder or front.settings().data_dir / "audit", head)
    for one in found:
        told = f"lines {one.first} to {one.last} follow each other, head {one.head}" if one.lines else "no line yet"
        click.echo(f"{one.name}: {one.trouble or told}")
    if any(one.trouble for one in found):
        raise Broken("the audit was tampered with, or damaged", todo="compare it with a backup, from the named line on")


def _span_ms(words: str) -> int:
    found = _SPAN.fullmatch(words)
    if not found or not int(found[1]):
        raise Invalid(f"{words[:40]!r} is no span of time", todo="write 12h or 30d")
    return int(found[1]) * _MS[found[2]]


def _of(one: Token) -> str:
    if one.cameras is None:
        return "all cameras"
    return ", ".join([*one.cameras, *(f"group {group}" for group in one.groups)])


def _state(expires_ms: int | None, revoked_ms: int | None, now: int) -> str:
    if revoked_ms is not None:
        return f"revoked {local(revoked_ms)}"
    if expires_ms is None:
        return "counts"
    return f"counts until {local(expires_ms)}" if now < expires_ms else f"expired {local(expires_ms)}"
