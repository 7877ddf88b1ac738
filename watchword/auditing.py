"""Where the settings want the audit, for the query service and for commands that hand something out."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.audit import Sink


def audit_sink(settings: Settings) -> Sink | None:
    """Where lines of the audit go; None: nowhere."""
    from catalog.audit import FolderSink, LogSink

    match settings.access.audit:
        case "folder":
            return FolderSink(settings.data_dir / "audit", settings.access.audit_bytes)
        case "log":
            return LogSink()
        case "off":
            return None


def audited(settings: Settings, entry: Mapping[str, Any]) -> None:
    """Note what this user does by a command. Raises Broken when it cannot be noted: then it is not to be done."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"at": at, "who": user(), "from": f"command on {socket.gethostname()}", **entry}
    if settings.access.audit == "log":
        click.echo(f"audit: {json.dumps(line)}", err=True)  # a command has no log
    elif sink := audit_sink(settings):
        try:
            sink.write([line])
        finally:
            sink.close()


def user() -> str:
    """The name of the user whose process this is."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # as in containers
        return f"user {number}"
