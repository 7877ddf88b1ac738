"""An S3 server of one's own: versitygw (Apache-2.0), built once by Go into the cache folder.

python -m tests.tools.s3          builds it, which takes minutes; `make test` does it before the tests
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from pydantic import SecretStr

from catalog.settings import MediaSettings
from proto.errors import Transient
from tests.tools.kube import CACHE
from tests.tools.servers import Server
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import HOST, Port

_VERSION = "v1.8.0"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{_VERSION}"
KEY, SECRET = "somebody", "hush-hush-hush"


class NoS3Here(Exception):
    """The server is not here and cannot be built, with the reason."""


@cache
def program() -> Path:
    """The server's program."""
    kept = CACHE / f"versitygw-{_VERSION}"
    if not kept.exists():
        raise NoS3Here("versitygw is not built: `python -m tests.tools.s3` does it, with Go")
    return kept


def build() -> Path:
    """The server's program, built if need be. It takes minutes."""
    kept = CACHE / f"versitygw-{_VERSION}"
    if kept.exists():
        return kept
    if shutil.which("go") is None:
        raise NoS3Here("Go is not installed, which builds versitygw")
    print(f"building versitygw {_VERSION}, an S3 server for the tests (once; some minutes)", flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GOPATH": folder, "GOBIN": f"{folder}/bin", "GOFLAGS": "-modcacherw"}
        done = subprocess.run(
            ["go", "install", _MODULE], capture_output=True, text=True, env=environment, check=False, cwd=folder
        )
        if done.returncode:
            raise NoS3Here(f"versitygw cannot be built: {done.stderr[-300:]}")
        shutil.copy(f"{folder}/bin/versitygw", f"{kept}.new")
    Path(f"{kept}.new").rename(kept)
    return kept


class S3:
    """One server. `server` starts, stops and kills it; its objects are files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._program = program()
        self.folder = folder
        self._port = Port()
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
            socket.create_connection((HOST, self._port.number), 1).close()
        except OSError as error:
            raise Transient("versitygw does not take connections yet") from error

    def _plan(self) -> Launch:
        (self.folder / "buckets").mkdir(parents=True, exist_ok=True)
        return Launch(
            argv=(
                *(str(self._program), "--quiet", "--keep-alive", "--port", f"{HOST}:{self._port.settle()}"),
                *("posix", str(self.folder / "buckets")),
            ),
            cwd=self.folder,
            env={"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        )


if __name__ == "__main__":
    try:
        print(f"the S3 server for the tests: {build()}")
    except NoS3Here as reason:
        print(f"tests on S3 will be skipped: {reason}")
