"""Real servers for the tests: each is started once a session, when the first test asks for it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from proto.errors import WatchwordError
from tests.histories import examples
from tests.tools.apache_kafka import NoKafkaHere, apache_kafka_part, jars
from tests.tools.postgres import NoPostgresHere, Postgres
from tests.tools.s3 import S3
from tests.tools.servers import Server
from tests.tools.versitygw import NoS3Here
from watchword.stack.parts import Part, broker_part, milvus_part, redis_part
from watchword.stack.ports import Port

# The same examples at every run, so that a run tells about the change and not about its luck. `pytest
# --hypothesis-profile=explore` tries others, and more of them. No test depends on how fast the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=examples(40))
settings.register_profile("explore", deadline=None)
settings.load_profile("steady")

CACHE = Path.home() / ".cache" / "watchword"


SERVERS = {"broker", "milvus", "redis_url", "apache_kafka", "any_broker", "lite", "postgres", "s3", "issuer"}


SLOW = ("stack", "reference", "long")
_ALL_LONG = re.compile(r"^pytestmark = .*mark\.long", re.MULTILINE)


LONGEST = ("faults/test_drills.py", "watchword/test_up.py", "console/test_page.py", "evals/test_stack.py")
"""Files that take minutes. They go first: what is handed out last is what the others have to wait for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what needs a server, a real model, or long")
    parser.addoption("--rest", action="store_true", help="only what --fast leaves out")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast, a file of long tests is not even imported: most of them import torch."""
    if config.getoption("fast") and collection_path.suffix == ".py" and _ALL_LONG.search(collection_path.read_text()):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whatever asks for a real server; with --fast leave it out, with --rest all else."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)
    slow = {item for item in items if any(item.get_closest_marker(name) for name in SLOW)}
    if config.getoption("fast"):
        _leave_out(config, items, slow)
    if config.getoption("rest"):
        _leave_out(config, items, set(items) - slow)
        items.sort(key=lambda item: not item.nodeid.partition("::")[0].endswith(LONGEST))


def _leave_out(config: pytest.Config, items: list[pytest.Item], out: set[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if item in out])
    items[:] = [item for item in items if item not in out]


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL."""
    try:
        running = Postgres()
    except NoPostgresHere as reason:
        pytest.skip(f"no PostgreSQL here: {reason}")
    try:
        asyncio.run(running.server.start())
        yield running
    except NoPostgresHere as reason:
        pytest.skip(f"no PostgreSQL here: {reason}")
    finally:
        running.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server that speaks S3."""
    try:
        running = S3(tmp_path_factory.mktemp("s3"))
    except NoS3Here as reason:
        pytest.skip(f"no S3 here: {reason}")
    try:
        asyncio.run(running.server.start())
        yield running
    finally:
        running.server.end()


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """Apache Kafka's jars, fetched if need be."""
    try:
        return jars()
    except NoKafkaHere as reason:
        pytest.skip(f"no Apache Kafka here: {reason}")


@pytest.fixture(scope="session")
def apache_kafka(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of an Apache Kafka."""
    folder = tmp_path_factory.mktemp("apache-kafka")
    server = Server(apache_kafka_part(Port(), folder / "data", kafka_jars), folder / "log")
    try:
        asyncio.run(server.start())
        yield server.address
    finally:
        server.end()


@pytest.fixture(params=["embedded", "apache"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """HOST:PORT of the embedded broker and of an Apache Kafka, one after the other."""
    address: str = request.getfixturevalue("broker" if request.param == "embedded" else "apache_kafka")
    return address
