"""`watchword camera discover`: which ONVIF cameras there are, and by which address each can be added."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from proto.errors import Invalid

if TYPE_CHECKING:
    from cameras.discovery import Discovered

_CLOCK_S = 2.0
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@click.command("discover")
@click.option("--seconds", default=3.0, show_default=True, help="How long to wait for answers.")
@click.option("--user", help="The user of the cameras; the password is asked for. It goes to every camera found.")
@click.option("--via", default="", metavar="ADDRESS", help="This machine's address in the network of the cameras.")
@click.option("--to", metavar="HOST:PORT", help="Ask this one instead of the whole network.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def discover_command(seconds: float, user: str | None, via: str, to: str | None, as_json: bool) -> None:
    """Look for ONVIF cameras in this network, and show the addresses of their streams. Nothing is added."""
    from cameras.discovery import GROUP, discover
    from cameras.onvif import Login

    if not 0 < seconds <= 60:
        raise Invalid(f"{seconds:g} s cannot be waited for", todo="give more than 0 and at most 60")
    login = Login(user, click.prompt("Password", hide_input=True, err=True)) if user else None
    found = discover(seconds, login, 5.0, to=_place(to) if to else GROUP, via=via)
    if as_json:
        click.echo(json.dumps([_told(one) for one in found], indent=2))
        return
    for one in found:
        _show(one)
    if not found:
        click.echo(
            "no camera answers: is ONVIF switched on in them, and are they in this network? --via chooses another one"
        )


def _place(words: str) -> tuple[str, int]:
    host, _, port = words.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Invalid(f"{words[:80]!r} is no host and port", todo="write HOST:3702")
    return host, int(port)


def _told(one: Discovered) -> dict[str, Any]:
    answered = {} if one.answered is None else asdict(one.answered)
    return {**asdict(one.found), **answered, "error": str(one.error) if one.error else None}


def _show(one: Discovered) -> None:
    named = " ".join(filter(None, (one.found.name, one.found.hardware)))
    click.echo(f"{one.found.host}{f' ({named})' if named else ''}")
    if one.error is not None or one.answered is None:
        click.echo(f"  {one.error}")
        return
    ahead_s = one.answered.clock_ahead_s
    if ahead_s is not None and abs(ahead_s) > _CLOCK_S:
        click.echo(f"  its clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's")
    name = _NO_NAME.sub("-", one.found.name).strip("-.")[:40] or one.found.host
    for stream in one.answered.streams:
        size = f" {stream.width} x {stream.height}" if stream.width else ""
        click.echo(f"  {stream.profile}: {stream.codec}{size}")
        click.echo(f"    watchword camera add {name} '{_with_login(stream.url)}'")
        if stream.picture_url:
            click.echo(f"    picture: {stream.picture_url}")
    if not one.answered.streams:
        click.echo("  it has no stream")


def _with_login(url: str) -> str:
    """With places for user and password, which most cameras want."""
    return url.replace("://", "://USER:PASSWORD@", 1).replace("'", "%27")
