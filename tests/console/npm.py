"""npm packages of the console and of tests, installed once for each package.json, outside the tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "console"
BUILT = Path(__file__).parents[2] / "gateway" / "console"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchword-tests"
_INSTALL = ("install", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock", "--silent")
_LEAST_NODE = 20


def node_modules(scratch: Path, source: Path = SOURCE) -> Path:
    """The folder of the packages of `source`. Skips the test where they cannot be had, and says why."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not (npm and node):
        pytest.skip("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < _LEAST_NODE:
        pytest.skip(f"node is {version.strip()}, {source.name} needs {_LEAST_NODE}")
    wanted = (source / "package.json").read_bytes()
    installed = _CACHE / f"{source.name}-{hashlib.blake2b(wanted, digest_size=8).hexdigest()}"
    if not (installed / "node_modules").is_dir():
        fresh = scratch / "install"
        fresh.mkdir()
        (fresh / "package.json").write_bytes(wanted)
        ended = subprocess.run([npm, *_INSTALL], cwd=fresh, capture_output=True, text=True, timeout=150, check=False)
        if ended.returncode != 0:
            pytest.skip(f"the npm packages of {source.name} cannot be had: {ended.stderr.strip()[-200:]}")
        installed.parent.mkdir(parents=True, exist_ok=True)
        if not installed.exists():
            shutil.move(fresh, installed)
    return installed / "node_modules"
