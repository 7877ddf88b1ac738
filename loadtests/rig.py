"""The environment of the long load tests: parts of the stack and a real Apache Kafka, each a child process.

Nothing is restarted when it ends by itself: a load test must notice that. Everything ends with its block, however the
block ends, and with this process, however it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.tools.apache_kafka import apache_kafka_part, jars
from tests.tools.servers import Server
from watchword.settings import Settings, read_settings
from watchword.stack import Addresses
from watchword.stack.compose import Stack
from watchword.stack.ports import Port

INTERRUPTED = 130
_PATIENCE = 4
_BEGUN_S = time.monotonic()


def say(text: str) -> None:
    """Print progress."""
    print(f"[{time.monotonic() - _BEGUN_S:6.0f} s] {text}", flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every long load test."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs, samples and data there")
    return found


def run(test: Callable[[argparse.Namespace, Path], Coroutine[Any, Any, int]], asked: argparse.Namespace) -> int:
    """Run `test` in a folder; returns its exit code. SIGINT and SIGTERM stop it, and what it started, in order."""

    async def whole(folder: Path) -> int:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await test(asked, folder)

    # aiokafka logs every connection that fails while something starts or stops.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(whole(folder))
        except asyncio.CancelledError:
            print("interrupted: everything that was started has ended", file=sys.stderr)
            return INTERRUPTED


@dataclass(frozen=True)
class Running:
    """Running parts of the stack."""

    servers: Mapping[str, Server]
    addresses: Addresses

    @property
    def ended(self) -> list[str]:
        """The parts that ended by themselves."""
        return [name for name, server in self.servers.items() if not server.alive]


@asynccontextmanager
async def running(settings: Settings, folder: Path, *names: str) -> AsyncIterator[Running]:
    """These parts of the stack, with the given settings; they serve inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(settings, say)
    # Other programs may keep the machine busy: a slow start is no reason to fail.
    parts = [replace(part, deadline_s=_PATIENCE * part.deadline_s) for part in stack.parts() if part.name in names]
    servers = {part.name: Server(part, folder / f"{part.name}.log") for part in parts}
    try:
        for server in servers.values():
            await server.start()
        yield Running(servers, stack.addresses())
    finally:
        await _end(list(reversed(servers.values())))


@asynccontextmanager
async def apache_kafka(folder: Path) -> AsyncIterator[Server]:
    """A broker that serves inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(apache_kafka_part(Port(), folder / "kafka", jars()), folder / "kafka.log")
    try:
        await server.start()
        yield server
    finally:
        await _end([server])


async def _end(servers: list[Server]) -> None:
    """Stop them one after another, in order; kill them if this is interrupted."""
    try:
        for server in servers:
            if server.alive:
                await server.stop()
    finally:
        for server in servers:
            server.end()


def settings_in(folder: Path, values: Mapping[str, object] | None = None) -> Settings:
    """Settings with all data in `folder`; `values` has dotted keys."""
    return read_settings({"data_dir": str(folder)} | {key: str(value) for key, value in (values or {}).items()})


async def metrics(address: str) -> dict[str, float]:
    """The metrics of one of our processes, by name and labels as written on /metrics. Empty when it is down."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"http://{address}/metrics") as reply:
            text = await reply.text()
        families = text_string_to_metric_families(text)
        return {_key(sample.name, sample.labels): sample.value for family in families for sample in family.samples}
    return {}


def _key(name: str, labels: Mapping[str, str]) -> str:
    told = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name}{{{told}}}" if told else name
