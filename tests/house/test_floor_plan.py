"""The walls of the house: imports run one way, each vendor is met in one file, files stay readable."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    *("proto", "models", "workers", "broker", "catalog", "cameras"),
    *("stream", "index", "query", "evals", "watchword", "loadtests"),
)

# What a room may import of the others. A name with a dot opens that one module only.
MAY_IMPORT: dict[str, set[str]] = {
    "proto": set(),
    "models": {"proto"},
    "index": {"proto"},
    "workers": {"proto", "models"},
    "broker": {"proto"},
    "catalog": {"proto"},
    "cameras": {"proto", "broker", "catalog"},
    "stream": {"proto", "broker", "catalog", "index", "workers.client", "workers.settings"},
    "query": {"proto", "catalog", "index", "workers.client", "workers.settings"},
    "evals": {"proto", "query.client"},
    "watchword": set(ROOMS) - {"loadtests"},
    "loadtests": set(ROOMS),
}

# The one module that may import a vendor, and that turns the vendor's errors into ours. A vendor that is both run and
# asked to make something has a second one.
ONLY_IN: dict[str, str] = {
    "pymilvus": "index/milvus.py",
    "redis": "query/cache.py",
    # Each says in SQL what it keeps; catalog/store.py turns the errors into ours.
    "sqlalchemy": " ".join(
        f"catalog/{name}.py" for name in ("store", "tables", "coverage", "leases", "progress", "views", "backgrounds")
    ),
    "aiokafka": "broker/kafka.py broker/identity.py",
    "faust": "stream/app.py",
    "mode": "stream/app.py",
    # Reading cameras, and writing the composed videos of the evaluation set.
    "av": "cameras/source.py evals/yard/compose.py",
    "onnxruntime": "models/ort.py models/quantize.py",
    "huggingface_hub": "models/hub.py",
    "httpx": "models/hub.py",
    "timm": "models/torch_engine.py",
    "tensorrt": "models/trt.py",
    "pycuda": "models/trt.py",
    "open_clip": "models/torch_engine.py models/export.py",
    "torch": "models/torch_engine.py models/export.py",
    "safetensors": "models/export.py",
    "matplotlib": "evals/picture.py",
    "pickle": "models/checkpoint.py",
}


def sources() -> list[Path]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if not path.stem.endswith(("_pb2", "_pb2_grpc"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute in this house"
            for name in node.names:
                yield f"{node.module}.{name.name}"


def crossings(path: Path) -> list[str]:
    room = path.relative_to(ROOT).parts[0]
    wrong = []
    for name in imports(path):
        top = name.split(".")[0]
        if top not in ROOMS or top == room:
            continue
        allowed = MAY_IMPORT[room]
        if top not in allowed and ".".join(name.split(".")[:2]) not in allowed:
            wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    return wrong


def test_rooms_import_in_one_direction_only() -> None:
    assert [line for path in sources() for line in crossings(path)] == []


def test_each_vendor_is_imported_by_one_module_only() -> None:
    strays = []
    for path in sources():
        place = path.relative_to(ROOT)
        for name in imports(path):
            homes = ONLY_IN.get(name.split(".")[0])
            if homes and str(place) not in homes.split() and place.parts[0] != "loadtests":
                strays.append(f"{place} imports {name}")
    assert strays == []


def test_the_rules_catch_a_stray_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "stream"
    room.mkdir()
    stray = room / "stray.py"
    stray.write_text("from workers.service import serve_encoder\nfrom workers.client import Encoder\n")
    assert crossings(stray) == ["stream/stray.py imports workers.service.serve_encoder"]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_under_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    }
    # The wrapper that becomes a child passes its environment on; it reads nothing from it.
    assert readers <= {"watchword/settings.py", "watchword/stack/parts.py", "watchword/stack/child.py"}


def test_no_package_registry_is_named_anywhere() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "crates" + ".io", "maven" + ".org"]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            found += [f"{name}: {host}" for host in hosts if host in text]
    assert found == []


def test_every_dependency_is_pinned_without_an_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    wrong = [line for line in lines if line and not line.startswith("#") and ("==" not in line or "//" in line)]
    assert wrong == []
