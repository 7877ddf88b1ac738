"""versitygw (Apache-2.0), a server that speaks S3, built once by Go into the cache folder.

python3 -m tests.tools.versitygw          builds it, which takes minutes; `make test` does it while it sets up

Only what Python brings is imported here, so that it can be built before there is an environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_VERSION = "v1.8.0"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{_VERSION}"
_KEPT = Path.home() / ".cache" / "watchword" / "tools" / f"versitygw-{_VERSION}"


class NoS3Here(Exception):
    """The server is not here and cannot be built, with the reason."""


@cache
def program() -> Path:
    """The server's program."""
    if not _KEPT.exists():
        raise NoS3Here("versitygw is not built: `python3 -m tests.tools.versitygw` does it, with Go")
    return _KEPT


def build() -> Path:
    """The server's program, built if need be. It takes minutes."""
    if _KEPT.exists():
        return _KEPT
    if shutil.which("go") is None:
        raise NoS3Here("Go is not installed, which builds versitygw")
    print(f"building versitygw {_VERSION}, an S3 server for the tests (once; some minutes)", flush=True)
    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GOPATH": folder, "GOBIN": f"{folder}/bin", "GOFLAGS": "-modcacherw"}
        done = subprocess.run(
            ["go", "install", _MODULE], capture_output=True, text=True, env=environment, check=False, cwd=folder
        )
        if done.returncode:
            raise NoS3Here(f"versitygw cannot be built: {done.stderr[-300:]}")
        shutil.copy(f"{folder}/bin/versitygw", f"{_KEPT}.new")
    Path(f"{_KEPT}.new").rename(_KEPT)
    return _KEPT


if __name__ == "__main__":
    try:
        print(f"the S3 server for the tests: {build()}")
    except NoS3Here as reason:
        print(f"tests on S3 will be skipped: {reason}")
