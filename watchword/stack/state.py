"""The published state of a running stack: `stack.json` in its data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from catalog.files import write_whole
from proto.errors import Transient
from proto.shards import named
from watchword.settings import Settings

STATE_NAME = "stack.json"

Phase = Literal["waiting", "starting", "ready", "restarting", "elsewhere", "away", "stopped"]


@dataclass(frozen=True)
class PartState:
    """The current state of one part."""

    name: str
    phase: Phase
    address: str = ""
    """Without a password."""
    pid: int | None = None
    restarts: int = 0
    since: float = 0.0
    """Unix time at which it entered this phase."""
    why: str = ""
    """Why it is not ready; empty when it is."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of a stack's parts."""

    broker: str
    milvus: tuple[str, ...]
    redis: str
    encoder: str
    query: str
    ops: Mapping[str, str] = field(default_factory=dict)
    """HOST:PORT of /ready and /metrics, by process."""
    gateway: str = ""


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up on a data folder."""

    pid: int
    addresses: Addresses


def write_state(folder: Path, addresses: Addresses, states: Sequence[PartState]) -> None:
    """Publish the state; the file is replaced atomically at each change."""
    told = {
        "pid": os.getpid(),
        "addresses": {
            **asdict(addresses),
            "redis": without_password(addresses.redis),
            "milvus": [without_password(endpoint) for endpoint in addresses.milvus],
        },
        "pids": {state.name: state.pid for state in states if state.pid is not None},
        "phases": {state.name: state.phase for state in states},
    }
    write_whole(folder / STATE_NAME, json.dumps(told, indent=1).encode(), durable=False)


def remove_state(folder: Path) -> None:
    """Remove the file when the stack has stopped."""
    (folder / STATE_NAME).unlink(missing_ok=True)


def running_stack(folder: Path) -> RunningStack | None:
    """The stack that runs on this folder; None without one, or when only a killed one's file is left."""
    try:
        told = json.loads((folder / STATE_NAME).read_text())
        addresses = told["addresses"]
        stack = RunningStack(
            int(told["pid"]), Addresses(**{**addresses, "milvus": tuple(addresses["milvus"]), "ops": addresses["ops"]})
        )
        os.kill(stack.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stack


def needed_stack(folder: Path, instead: str) -> RunningStack:
    """The stack that runs on this folder. Transient without one: it says what to name `instead`."""
    stack = running_stack(folder)
    if stack is None:
        raise Transient(f"no stack runs on {folder}", todo=f"start it with `watchword up`, or name {instead}")
    return stack


def query_address(settings: Settings) -> str:
    """The query service's address: from the settings, else that of this folder's stack. Transient when neither."""
    if settings.query.address:
        return settings.query.address
    return needed_stack(
        settings.data_dir, "another: --data-dir FOLDER or --set query.address=HOST:PORT"
    ).addresses.query


def without_password(url: str) -> str:
    """The address without its password, for display. A shard's may have a name before it."""
    name, address = named(url)
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return url
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{name}={shown}" if name else shown
