"""What PostgreSQL says when something is wrong, told as one clear line; and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog
from proto.errors import Broken, Transient, WatchwordError
from proto.types import Camera
from tests.catalog.shared import OPEN, opened
from tests.tools.postgres import PASSWORD, NoPostgresHere, Postgres
from watchword.stack.ports import Port

GAP = Gap("gate", Reason.AWAY, 1000, 2000)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill. It syncs its log, as in production."""
    try:
        server = Postgres(durable=True)
    except NoPostgresHere as reason:
        pytest.skip(f"no PostgreSQL here: {reason}")
    try:
        asyncio.run(server.server.start())
        yield server
    finally:
        server.close()


def refused(url: str, **more: float) -> WatchwordError:
    catalog = Catalog(url, **more)
    try:
        with pytest.raises(WatchwordError) as caught:
            catalog.open()
    finally:
        catalog.close()
    assert PASSWORD not in str(caught.value) + repr(caught.value)
    assert caught.value.todo
    return caught.value


def test_a_server_of_a_test_ends_with_the_process_that_started_it(postgres: Postgres) -> None:
    program = (
        "import asyncio, time\n"
        "from tests.tools.postgres import Postgres\n"
        "own = Postgres()\n"
        "asyncio.run(own.server.start())\n"
        "print(own.server.pid, own.folder, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        os.kill(int(pid), 0)
        starter.kill()
    try:
        until_s = time.monotonic() + 60
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < until_s:
                os.kill(int(pid), 0)
                time.sleep(0.02)
    finally:
        shutil.rmtree(folder)


def test_a_wrong_password_is_told_without_it(postgres: Postgres) -> None:
    error = refused(postgres.url("postgres", password="wrong-one"))
    assert isinstance(error, Broken)
    assert "refuses the user or the password" in error.message
    assert "wrong-one" not in str(error)


def test_no_password_at_all_is_told(postgres: Postgres) -> None:
    assert isinstance(refused(postgres.url("postgres").replace(f":{PASSWORD}", "")), Broken)


def test_a_user_that_nobody_knows_is_told(postgres: Postgres) -> None:
    assert isinstance(refused(postgres.url("postgres", user="somebody")), Broken)


def test_a_database_that_is_missing_is_told_with_what_to_do(postgres: Postgres) -> None:
    error = refused(postgres.url("nowhere"))
    assert isinstance(error, Broken)
    assert "no such database" in error.message
    assert "CREATE DATABASE" in error.todo


def test_a_user_without_rights_is_told(postgres: Postgres) -> None:
    postgres.sql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'hush-hush'")
    database = postgres.new_database().rpartition("/")[2]
    error = refused(postgres.url(database, user="guest"))
    assert isinstance(error, Broken)
    assert "owner of the database" in error.todo


def test_where_nobody_listens_it_is_away() -> None:
    port = Port()
    error = refused(f"postgresql://me:{PASSWORD}@127.0.0.1:{port.settle()}/db")
    assert isinstance(error, Transient)
    assert "cannot be reached" in error.message


def test_a_host_that_does_not_exist_is_away() -> None:
    assert isinstance(refused(f"postgresql://me:{PASSWORD}@no.such.host.invalid/db"), Transient)


@pytest.fixture
def stranger() -> Iterator[int]:
    """A port where something else answers: a web server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                with taken:
                    taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_what_is_no_postgresql_is_told(stranger: int) -> None:
    assert "cannot be reached" in refused(f"postgresql://me:{PASSWORD}@127.0.0.1:{stranger}/db").message


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(f"postgresql://me:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/db", timeout_s=0.2)
    assert isinstance(error, Transient)


@pytest.mark.parametrize("more", ["sslmode=maybe", "connect_timeout=3", "sslmode=verify-full&sslrootcert=/nowhere.pem"])
def test_words_of_the_address_that_are_not_known_are_refused(more: str) -> None:
    with pytest.raises(Broken, match=r"catalog\.url|certificates"):
        Catalog(f"postgresql://me:{PASSWORD}@far/db?{more}")


def test_tls_that_the_server_does_not_speak_is_told(postgres: Postgres) -> None:
    assert "refuses SSL" in refused(postgres.url("postgres") + "?sslmode=require").message


def test_a_statement_that_takes_too_long_is_given_up_and_the_connection_lives_on(postgres: Postgres) -> None:
    catalog = Catalog(postgres.new_database(), timeout_s=0.5)
    catalog.open()
    with pytest.raises(Transient, match="took too long"), catalog.writing() as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    Coverage(catalog).declare([GAP])
    catalog.close()


def test_two_that_change_rows_crosswise_end_in_an_error_that_says_try_again(postgres: Postgres) -> None:
    catalog = opened(postgres.new_database())
    Coverage(catalog).declare([GAP])
    met = threading.Barrier(2, timeout=60)
    ended: list[WatchwordError] = []

    def change(first: str, second: str) -> None:
        try:
            with catalog.writing() as connection:
                connection.execute(text(f"LOCK TABLE {first}"))
                met.wait()
                connection.execute(text(f"LOCK TABLE {second}"))
        except WatchwordError as error:
            ended.append(error)

    threads = [threading.Thread(target=change, args=tables) for tables in (("marks", "views"), ("views", "marks"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in ended] == [Transient]


def test_connections_that_the_server_ended_are_replaced(postgres: Postgres) -> None:
    url = postgres.new_database()
    catalog = opened(url)
    Coverage(catalog).declare([GAP])
    database = url.rpartition("/")[2]
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    assert Coverage(catalog).gaps(None, None, None) == [GAP]


@pytest.mark.stack
def test_what_was_acknowledged_outlives_kills_and_those_who_wait_go_on(own: Postgres) -> None:
    """Several threads register cameras while the server is killed again and again."""
    catalog = opened(own.new_database())
    over = threading.Event()
    acknowledged: list[list[str]] = [[], [], []]
    strange: list[BaseException] = []

    def register(number: int) -> None:
        registry, made = CameraRegistry(catalog), 0
        while not over.is_set():
            name = f"cam-{number}-{made}"
            try:
                registry.add(Camera(name, "x.mp4"))
            except Transient:
                time.sleep(0.01)  # the server is away; what was refused is tried again
            except BaseException as error:
                strange.append(error)
                return
            else:
                acknowledged[number].append(name)
                made += 1

    threads = [threading.Thread(target=register, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = sum(map(len, acknowledged))
        deadline = time.monotonic() + 60
        while sum(map(len, acknowledged)) < before + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        asyncio.run(own.server.kill())
        asyncio.run(own.server.start())
    over.set()
    for thread in threads:
        thread.join(60)
    assert strange == []
    assert sum(map(len, acknowledged)) >= 60
    assert {name for made in acknowledged for name in made} <= CameraRegistry(catalog).names()
