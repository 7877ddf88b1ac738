"""Real servers for the tests: each is started once a session, when the first test asks for it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proto.errors import WatchwordError
from watchword.stack.parts import Part, broker_part, milvus_part, redis_part
from watchword.stack.ports import Port

CACHE = Path.home() / ".cache" / "watchword"


@contextmanager
def serving(part: Part, log: Path) -> Iterator[str]:
    """The part, ready; it ends with the block, or with this process."""
    assert part.plan is not None
    launch = part.plan()
    with log.open("wb") as file:
        child = subprocess.Popen(
            launch.command(),
            cwd=launch.cwd,
            env=launch.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        asyncio.run(_until_ready(part, child, log))
        yield part.address()
    finally:
        child.send_signal(part.stop)
        try:
            child.wait(part.grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def _until_ready(part: Part, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + part.deadline_s
    while True:
        try:
            return await part.ready()
        except WatchwordError as problem:
            if child.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{part.name} did not start ({problem}):\n{log.read_text(errors='replace')[-3000:]}")
        await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a Kafka broker."""
    folder = tmp_path_factory.mktemp("broker")
    with serving(broker_part(Port(), folder), folder / "log") as address:
        yield address


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """http://HOST:PORT of a Milvus standalone server."""
    folder = tmp_path_factory.mktemp("milvus")
    with serving(milvus_part(Port(), folder / "data", CACHE, print), folder / "log") as address:
        yield address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """redis://HOST:PORT/0 of a Redis server."""
    folder = tmp_path_factory.mktemp("redis")
    with serving(redis_part(Port(), folder), folder / "log") as address:
        yield address
