"""Write the stubs of proto/v1/*.proto into a folder: `python tests/tools/make_stubs.py FOLDER`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> None:
    """Generate messages, services and their types, with imports as `proto.v1`, into `folder`."""
    sources = sorted(f"proto/v1/{path.name}" for path in (ROOT / "proto/v1").glob("*.proto"))
    plugin = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [
            "protoc",
            f"-I{ROOT}",
            f"--plugin=protoc-gen-mypy={plugin / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugin / 'protoc-gen-mypy_grpc'}",
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
            *sources,
        ]
        if protoc.main(arguments):
            raise SystemExit("protoc failed; its message is above")
        for path in sorted(Path(scratch, "proto/v1").iterdir()):
            shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
