"""One part of the stack: how to start it, and how to check that it is ready."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from catalog.files import disk_trouble
from proto.errors import Broken
from watchword.stack import binaries, ready
from watchword.stack.milvus import MilvusPorts, write_config
from watchword.stack.ports import Port

CHILD = Path(__file__).with_name("child.py")
LOOPBACK = Path(__file__).with_name("loopback.py")
MILVUS_ROOM_BYTES = 384 * 1024**2
"""Disk space of an empty Milvus; on a full disk it would crash."""
PLAIN_PYTHON = (sys.executable, "-I", "-S")
"""Starts in 15 ms, because it ignores the user's environment and installed packages."""


@dataclass(frozen=True)
class Launch:
    """How to start a program."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's environment."""

    def command(self) -> list[str]:
        """The program, wrapped so that it ends when this process does."""
        return [*PLAIN_PYTHON, str(CHILD), str(os.getpid()), *self.argv]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env}


@dataclass(frozen=True)
class Part:
    """What the supervisor must know about one part."""

    name: str
    address: Callable[[], str]
    """Where others reach it. It may change at a restart."""
    ready: Callable[[], Awaitable[None]]
    """Asks it once: returns if it serves, else raises a WatchwordError that says why not (see `ready.py`)."""
    plan: Callable[[], Launch] | None = None
    """Prepares each start, just before it. None: it runs elsewhere and is only checked."""
    needs: tuple[str, ...] = ()
    """Parts that must be ready before this one is started."""
    forgets: bool = False
    """A restart loses its data, so the parts that need it must restart too."""
    deadline_s: float = 60.0
    """A start that takes longer to become ready has failed."""
    silent_s: float = 60.0
    """It is restarted when it was ready and then did not answer for this long: it hangs or refuses connections. An
    answer that it does not serve now counts as an answer."""
    most_bytes: int = 0
    """It is restarted when it uses more memory than this; 0 means no limit."""
    stop: signal.Signals = signal.SIGTERM
    """The signal that asks it to stop."""
    grace_s: float = 3.0
    """How long it may take to stop before it is killed."""


def broker_part(port: Port, folder: Path) -> Part:
    """The embedded broker: Tansu, in memory."""

    def plan() -> Launch:
        program = binaries.tansu()
        url = f"tcp://127.0.0.1:{port.settle()}"
        _make(folder)
        arguments = ("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/")
        return Launch(argv=(str(program), "broker", *arguments), cwd=folder)

    # Tansu never drops records, whatever the retention of its topics: without a limit it would use all memory.
    most = max(1024**3, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    return Part("broker", lambda: port.address, lambda: ready.broker(port.address), plan, forgets=True, most_bytes=most)


def milvus_part(port: Port, folder: Path, cache: Path, say: binaries.Say) -> Part:
    """The embedded Milvus standalone server, with all its data in `folder`."""
    ports = MilvusPorts(proxy=port)

    def plan() -> Launch:
        program = binaries.milvus(cache, say)
        _make(folder)
        if shutil.disk_usage(folder).free < MILVUS_ROOM_BYTES:
            room = f"{MILVUS_ROOM_BYTES // 1024**2} MB"
            raise Broken(f"less than {room} are free for Milvus in {folder}", todo="the disk is full: free some space")
        ports.settle()
        environment = write_config(folder, ports)
        on_loopback = (*PLAIN_PYTHON, str(LOOPBACK)) if sys.platform == "linux" else ()
        libraries = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        return Launch(
            argv=(*on_loopback, str(program), "run", "standalone"),
            cwd=folder,
            env={**environment, libraries: str(program.parent)},
        )

    def address() -> str:
        return f"http://{port.address}"

    # On SIGTERM Milvus 2.3 waits minutes for its own components. What it acknowledged survives a kill.
    return Part("milvus", address, lambda: ready.milvus(address()), plan, deadline_s=120, stop=signal.SIGKILL)


def redis_part(port: Port, folder: Path) -> Part:
    """The embedded Redis: a cache with bounded memory and nothing on disk."""

    def plan() -> Launch:
        program = binaries.redis_server()
        settings = {
            "bind": "127.0.0.1",
            "port": str(port.settle()),
            "dir": str(folder),
            "maxmemory": "128mb",
            "maxmemory-policy": "allkeys-lru",
            "save": "",
            "appendonly": "no",
        }
        _make(folder)
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return Launch(argv=(str(program), *arguments), cwd=folder)

    def address() -> str:
        return f"redis://{port.address}/0"

    return Part("redis", address, lambda: ready.redis(address()), plan)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise disk_trouble("make", folder, problem) from problem
