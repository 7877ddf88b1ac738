"""A server of S3 for tests, and the settings that lead to it."""

from __future__ import annotations

import socket
from pathlib import Path

from pydantic import SecretStr

from catalog.settings import MediaSettings
from proto.errors import Transient
from tests.tools.servers import Server
from tests.tools.versitygw import program
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import HOST, Port

KEY, SECRET = "somebody", "hush-hush-hush"


class S3:
    """One server. `server` starts, stops and kills it; its objects are files in `folder`."""

    def __init__(self, folder: Path, *, host: str = HOST, enter: tuple[str, ...] = ()) -> None:
        """`enter` is the command that starts a program on its host."""
        self._program = program()
        self.folder = folder
        self._enter = enter
        self._port = Port(host=host)
        self._made = 0
        part = Part("versitygw", lambda: self._port.address, self._ready, self._plan, grace_s=5)
        self.server = Server(part, folder / "server.log")

    @property
    def endpoint(self) -> str:
        return f"http://{self._port.address}"

    def settings(self, bucket: str, *, key: str = KEY, secret: str = SECRET, timeout_s: float = 5.0) -> MediaSettings:
        """Settings under which pictures go to a prefix of the bucket."""
        return MediaSettings(
            url=f"s3://{bucket}/some/where",
            endpoint=self.endpoint,
            key=SecretStr(key),
            secret=SecretStr(secret),
            allow_http=True,
            timeout_s=timeout_s,
        )

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        self._made += 1
        name = f"pictures-{self._made}"
        (self.folder / "buckets" / name).mkdir()
        return name

    async def _ready(self) -> None:
        try:
            socket.create_connection((self._port.host, self._port.number), 1).close()
        except OSError as error:
            raise Transient("versitygw does not take connections yet") from error

    def _plan(self) -> Launch:
        (self.folder / "buckets").mkdir(parents=True, exist_ok=True)
        return Launch(
            argv=(
                *(*self._enter, str(self._program), "--quiet", "--keep-alive"),
                *("--port", f"{self._port.host}:{self._port.settle()}", "posix", str(self.folder / "buckets")),
            ),
            cwd=self.folder,
            env={"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        )
