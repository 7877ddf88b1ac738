"""A PostgreSQL server of one's own, from the programs that a distribution installs."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pg8000.dbapi

from proto.errors import Transient
from tests.tools.servers import Server
from watchword.stack.child import PR_SET_PDEATHSIG, SIGKILL
from watchword.stack.parts import PLAIN_PYTHON, Launch, Part
from watchword.stack.ports import HOST, Port

OLDEST = 15
USER, PASSWORD = "watchword", "hush-hush"


class NoPostgresHere(Exception):
    """PostgreSQL cannot be run on this machine, with the reason."""


@cache
def programs() -> Path:
    """The folder of initdb and postgres."""
    folders = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            told = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=False
            ).stdout
            if int(told.split()[2].split(".")[0]) >= OLDEST:
                return folder
    raise NoPostgresHere(f"PostgreSQL {OLDEST} or later is not installed (Debian: postgresql)")


class Postgres:
    """One server. `server` starts, stops and kills it; every database starts empty."""

    def __init__(self, *, durable: bool = False, host: str = HOST, enter: tuple[str, ...] = ()) -> None:
        """Without `durable` it does not wait for the disk, which matters only to power cuts.

        `enter` is the command that starts a program on its host.
        """
        self._bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="watchword-postgres-"))
        self._as = _user()
        if self._as:
            shutil.chown(self.folder, *self._as)
        self._port = Port(host=host)
        self._enter = enter
        self._made = 0
        self._options = () if durable else ("-c", "fsync=off")
        part = Part("PostgreSQL", lambda: self._port.address, self._ready, self._plan, stop=signal.SIGINT, grace_s=10)
        self.server = Server(part, self.folder / "server.log")

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@{self._port.address}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database. Its order of text is that of a language, as where people install it."""
        self._made += 1
        name = f"catalog{self._made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run it as the owner of all."""
        host, _, port = self._port.address.rpartition(":")
        connection = pg8000.dbapi.connect(USER, host=host, port=int(port), database=database, password=PASSWORD)
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def close(self) -> None:
        self.server.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _ready(self) -> None:
        host, _, port = self._port.address.rpartition(":")
        ask = [str(self._bin / "pg_isready"), "-q", "-h", host, "-p", port, "-t", "2"]
        done = await asyncio.to_thread(subprocess.run, ask, check=False)
        if done.returncode:
            raise Transient("PostgreSQL does not take connections yet")

    def _plan(self) -> Launch:
        data = self.folder / "data"
        if not data.exists():
            self._initialise(data)
        port = self._port.settle()
        return Launch(
            argv=(
                *(*self._enter, *self._prefix()),
                *(str(self._bin / "postgres"), "-D", str(data), "-h", self._port.host, "-p", str(port), "-k", ""),
                *("-c", "max_connections=60", "-c", "shared_buffers=32MB", *self._options),
            ),
            cwd=self.folder,
        )

    def _initialise(self, data: Path) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            shutil.chown(secret, *self._as)
        command = [*self._prefix(), str(self._bin / "initdb"), "-D", str(data), "-U", USER, "-E", "UTF8", "--no-sync"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-locale"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        if done.returncode:
            raise NoPostgresHere(f"initdb failed: {done.stderr.strip()[-500:]}")
        with (data / "pg_hba.conf").open("a") as allowed:
            allowed.write("host all all samenet scram-sha-256\n")

    def _prefix(self) -> tuple[str, ...]:
        if not self._as:
            return ()
        user, group = self._as
        become = f"import ctypes, os, sys; os.setgroups([]); os.setgid({group}); os.setuid({user})"
        if sys.platform == "linux":  # with its user it lost the tie of `child.py` to this process
            become += f"; ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {SIGKILL}, 0, 0, 0)"
        # It becomes the server, so that a kill meets the server itself.
        return (*PLAIN_PYTHON, "-c", f"{become}; os.execv(sys.argv[1], sys.argv[1:])")


def _user() -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root: then the user that its package made."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam("postgres")
    except KeyError as error:
        raise NoPostgresHere("there is no user postgres, and root may not run it") from error
    return found.pw_uid, found.pw_gid
