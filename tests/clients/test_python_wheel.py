"""The Python client as it is installed: what its wheel holds, and that it needs nothing else of this tree."""

from __future__ import annotations

import ast
import asyncio
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import google
import grpc
import pytest
import typing_extensions

from tests.clients.house import a_house

SOURCE = Path(__file__).parents[2] / "clients/python"
PACKAGE = SOURCE / "watchword_client"
MAY_IMPORT = {*sys.stdlib_module_names, "grpc", "google", "watchword_client"}


def test_it_imports_grpc_and_protobuf_only() -> None:
    strays = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            strays += [f"{path.name}: {name}" for name in names if name.partition(".")[0] not in MAY_IMPORT]
    assert strays == []


def test_it_asks_for_what_its_stubs_ask_for() -> None:
    needs = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["dependencies"]
    made_by = re.search(r"GRPC_GENERATED_VERSION = '(.+)'", (PACKAGE / "v1/query_pb2_grpc.py").read_text())
    version = re.search(r"Protobuf Python Version: (.+)", (PACKAGE / "v1/query_pb2.py").read_text())
    assert made_by and version
    assert needs == [f"grpcio>={made_by[1]},<2", f"protobuf>={version[1]},<{int(version[1].partition('.')[0]) + 2}"]


def built(folder: Path) -> Path:
    """Its wheel, made from a copy and without a network."""
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    build = f"import setuptools.build_meta as backend; backend.build_wheel({str(folder / 'dist')!r})"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", capture_output=True, check=True)
    (wheel,) = (folder / "dist").iterdir()
    return wheel


SCRIPT = """
import sys
sys.path += [{target!r}, {needs!r}]
from watchword_client import Client
with Client({address!r}) as watch:
    print(watch.search("red truck gate").hits[0].camera)
strangers = [name for name in ("proto", "models", "index", "numpy", "torch", "pydantic") if name in sys.modules]
print(strangers)
"""


@pytest.mark.long
async def test_the_wheel_alone_asks_a_running_service(tmp_path: Path) -> None:
    wheel = await asyncio.to_thread(built, tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"watchword_client", "watchword_client-0.1.0.dist-info"}
    inside = {f"watchword_client/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*.*")}
    assert {name for name in names if name.startswith("watchword_client/")} == {
        name for name in inside if "__pycache__" not in name
    }
    assert "watchword_client-0.1.0.dist-info/licenses/LICENSE" in names

    target, needs = tmp_path / "target", tmp_path / "needs"
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target), str(wheel)]
    await asyncio.to_thread(lambda: subprocess.run([sys.executable, *install], check=True))
    needs.mkdir()
    for module in (next(iter(google.__path__)), Path(str(grpc.__file__)).parent, Path(typing_extensions.__file__)):
        (needs / Path(module).name).symlink_to(module)
    async with a_house(tmp_path) as server:
        script = SCRIPT.format(target=str(target), needs=str(needs), address=server.address)
        # -I and -S: nothing of this environment or tree is found, only what the script names.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", script), stdout=subprocess.PIPE, cwd=tmp_path
        )
        out, _ = await child.communicate()
    assert out.decode().split() == ["gate", "[]"]
