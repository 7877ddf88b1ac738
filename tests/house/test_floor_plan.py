"""The walls of the house: imports run one way, each vendor is met in one file, files stay readable."""

from __future__ import annotations

import ast
import gc
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    *("proto", "models", "workers", "broker", "catalog", "cameras"),
    *("stream", "index", "query", "life", "backup", "spaces", "identity", "manage", "gateway", "evals", "watchword"),
    *("loadtests", "clients"),
)

# What a room may import of the others. A name with a dot is a room inside a room if it has a line of its own, else one
# module.
MAY_IMPORT: dict[str, set[str]] = {
    "proto": set(),
    "models": {"proto"},
    "models.engines": {"proto", "models"},
    "models.making": {"proto", "models", "models.engines"},
    "index": {"proto"},
    "workers": {"proto", "models", "models.engines"},
    "broker": {"proto"},
    "catalog": {"proto"},
    "identity": {"proto"},
    "cameras": {"proto", "broker", "catalog"},
    "stream": {"proto", "broker", "catalog", "index", "workers.client", "workers.settings"},
    "query": {"proto", "catalog", "identity", "index", "workers.client", "workers.settings"},
    "life": {"proto", "catalog", "index"},
    "backup": {"proto", "catalog", "index"},
    "spaces": {"proto", "catalog", "index"},
    "manage": {"proto", "catalog", "cameras"},
    "gateway": {"proto", "identity", "query.client", "manage.client"},
    "evals": {"proto", "query.client", "query.calibration"},
    "watchword": {*ROOMS, "models.engines", "models.making"} - {"loadtests", "clients"},
    "loadtests": {*ROOMS, "models.engines", "models.making"} - {"clients"},
    # What is installed without the house.
    "clients": set(),
}

# The one module that may import a vendor, and that turns the vendor's errors into ours. A vendor that is both run and
# asked to make something has a second one.
ONLY_IN: dict[str, str] = {
    "pymilvus": "index/milvus.py index/milvus_calls.py",
    "faiss": "index/scan/codes.py",
    "redis": "query/cache.py",
    "starlette": " ".join(
        f"gateway/{name}.py" for name in ("app", "api", "calls", "clips", "desk", "live", "login", "managing")
    ),
    "uvicorn": "gateway/serving.py",
    "mcp": "gateway/assistant.py",
    "mcp_types": "gateway/assistant.py",
    # Each says in SQL what it keeps; catalog/sqlite.py and postgres.py turn the errors into ours.
    "sqlalchemy": " ".join(
        f"catalog/{name}.py"
        for name in (
            *("store", "sqlite", "postgres", "tables", "migrating", "migrations/versions/r0001_first"),
            *("tokens", "migrations/versions/r0002_tokens", "migrations/versions/r0003_life"),
            *("cameras", "coverage", "forgetting", "leases", "life", "progress", "views", "backgrounds", "statuses"),
            "facts",
            *("migrations/versions/r0004_statuses", "shards", "migrations/versions/r0005_shards"),
            *("fleet", "migrations/versions/r0006_fleet", "migrations/versions/r0007_crashes"),
            "migrations/versions/r0008_size_limits",
        )
    ),
    "alembic": " ".join(
        f"catalog/{name}.py"
        for name in (
            *("migrating", "migrations/env", "migrations/versions/r0001_first"),
            *("migrations/versions/r0002_tokens", "migrations/versions/r0003_life"),
            *("migrations/versions/r0004_statuses", "migrations/versions/r0005_shards"),
            "migrations/versions/r0006_fleet",
            "migrations/versions/r0007_crashes",
            "migrations/versions/r0008_size_limits",
        )
    ),
    "pg8000": "catalog/postgres.py",
    "obstore": "catalog/s3.py",
    "pyarrow": "backup/packing.py",
    "cryptography": "life/signing.py",
    "jwt": "identity/jwts.py",
    "aiokafka": "broker/kafka.py broker/identity.py",
    "faust": "stream/app.py",
    "mode": "stream/app.py",
    # Reading cameras, remuxing what they send, and writing the composed videos of the evaluation set.
    "av": "cameras/source.py cameras/sparing.py cameras/picture.py cameras/remux.py evals/yard/compose.py",
    "onnxruntime": "models/engines/ort.py models/making/quantize.py",
    "huggingface_hub": "models/making/hub.py",
    "httpx": "models/making/hub.py",
    "timm": "models/engines/torch_engine.py",
    "tensorrt": "models/engines/trt.py",
    "pycuda": "models/engines/trt.py",
    "open_clip": "models/engines/torch_engine.py models/making/export.py",
    "torch": "models/engines/torch_engine.py models/making/export.py",
    "safetensors": "models/making/export.py",
    "matplotlib": "evals/picture.py",
    "yaml": "watchword/lines.py",
    "pickle": "models/making/checkpoint.py",
    "opentelemetry": "proto/otel.py",
}


def sources() -> list[Path]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if not path.stem.endswith(("_pb2", "_pb2_grpc"))]


@cache  # several tests ask, and parsing is what takes the time
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """What the rules are about: the imports, and where the environment is read."""
    text = path.read_text()
    gc.disable()  # what another test left behind may be collected while Python 3.11 parses, which then fails
    try:
        tree = ast.parse(text)
    finally:
        gc.enable()
    return tuple(
        node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) or reads_environment(node)
    )


def reads_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute in this house"
            for name in node.names:
                yield f"{node.module}.{name.name}"


def crossings(path: Path) -> list[str]:
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    wrong = []
    for name in imports(path):
        other = room_of(name)
        if other.split(".")[0] not in ROOMS or other == room:
            continue
        allowed = MAY_IMPORT[room]
        if other not in allowed and ".".join(name.split(".")[:2]) not in allowed:
            wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    return wrong


def room_of(module: str) -> str:
    """The room of a module's dotted name, which may be one inside another room."""
    top, *rest = module.split(".")
    inner = ".".join([top, *rest[:1]])
    return inner if inner in MAY_IMPORT else top


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


def test_the_rules_catch_a_stray_import_between_the_rooms_inside_a_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "models/engines"
    room.mkdir(parents=True)
    stray = room / "stray.py"
    stray.write_text("from models.making.sealing import seal\nfrom models.bundle import Bundle\n")
    assert crossings(stray) == ["models/engines/stray.py imports models.making.sealing.seal"]


def test_a_file_stays_under_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {path: lines for path, lines in long.items() if lines > 400} == {}


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT)) for path in sources() if any(reads_environment(node) for node in nodes(path))
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
