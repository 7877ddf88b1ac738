"""Small programs in the place of the real parts."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proto.errors import Late, Transient
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import Port

Ask = Callable[[Port], Awaitable[None]]

SERVE = """
import signal, socket, sys
port, name, diary, stubborn = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
def write(word):
    with open(diary, "a") as file:
        file.write(f"{word} {name}\\n")
def leave(*_):
    write("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else leave)
server = socket.create_server(("127.0.0.1", port))
write("started")
print("this is", name, flush=True)
while True:
    server.accept()[0].close()
"""

GROWS = SERVE.replace(
    "while True:",
    """
import os
held = []
while True:
    if os.path.exists("grow"):
        os.unlink("grow")
        held.append(b"x" * 100_000_000)
""",
)
"""The same, and takes 100 MB when it is asked while a file `grow` is there."""

REFUSES = SERVE.replace(
    'write("started")', "signal.signal(signal.SIGUSR1, lambda *_: (server.close(), signal.pause()))\nwrite('started')"
)
"""The same, and lives on without its listener when it gets SIGUSR1."""

GREETS = SERVE.replace("server.accept()[0].close()", "client = server.accept()[0]; client.send(b'!'); client.close()")
"""The same, and says one byte to everybody who comes."""


@dataclass
class StandIns:
    """Makes parts, and keeps what they and their supervisor tell."""

    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def diary(self) -> list[str]:
        """What the children wrote, in order: `started NAME`, `stopped NAME`."""
        path = self.folder / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def part(
        self,
        name: str,
        *needs: str,
        program: str = SERVE,
        stubborn: bool = False,
        ready: Ask | None = None,
        **more: Any,
    ) -> Part:
        port = Port()
        ask = ready or connects
        words = ["stubborn"] if stubborn else []

        def plan() -> Launch:
            arguments = [str(port.settle()), name, str(self.folder / "diary"), *words]
            return Launch(argv=(sys.executable, "-I", "-S", "-c", program, *arguments), cwd=self.folder)

        return Part(name, lambda: port.address, lambda: ask(port), plan, needs=needs, **more)


async def connects(port: Port) -> None:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port.number)
        writer.close()
    except OSError as problem:
        raise Transient(f"nobody listens at {port.address}") from problem


async def greeted(port: Port) -> None:
    """Asks a program that GREETS."""
    try:
        async with asyncio.timeout(0.1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
            try:
                said = await reader.read(1)
            finally:
                writer.close()
    except TimeoutError:
        raise Late(f"{port.address} says nothing") from None
    except OSError as problem:
        raise Transient(f"nobody listens at {port.address}") from problem
    if not said:
        raise Late(f"{port.address} said nothing")


async def until(true: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.02)
