"""Write the stubs of proto/v1/*.proto, those of the Python client, and what is published: `make proto`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

from tests.tools.published import record

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "proto/v1"
CLIENT = ROOT / "clients/python/watchword_client/v1"

_SHARED_POOL = "_descriptor_pool.Default()"


def make(folder: Path) -> None:
    """Generate messages, services and their types, with imports as `proto.v1`, into `folder`."""
    _generate("proto/v1", [path.name for path in SOURCES.glob("*.proto")], folder)


def make_client(folder: Path) -> None:
    """Generate what the Python client is made of, with imports as `watchword_client.v1`, into `folder`.

    Its messages are registered apart from all others of the process: a client beside a server, or beside another
    package with a file of the same name, must not collide with it.
    """
    _generate("watchword_client/v1", ["query.proto"], folder)
    messages = folder / "query_pb2.py"
    text = messages.read_text()
    assert text.count(_SHARED_POOL) == 1
    messages.write_text(text.replace(_SHARED_POOL, "_descriptor_pool.DescriptorPool()"))


def _generate(package: str, names: list[str], folder: Path) -> None:
    plugin = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [
            "protoc",
            f"-I{package}={SOURCES}",
            f"--plugin=protoc-gen-mypy={plugin / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugin / 'protoc-gen-mypy_grpc'}",
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
            *(f"{package}/{name}" for name in sorted(names)),
        ]
        if protoc.main(arguments):
            raise SystemExit("protoc failed; its message is above")
        for path in sorted(Path(scratch, package).iterdir()):
            shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    record(SOURCES)
    make(SOURCES)
    make_client(CLIENT)
