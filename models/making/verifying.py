"""Checks a bundle for all its problems, not only the first."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from models.bundle import DETECTOR, MANIFEST, NEEDED, TEXTUAL, VISUAL, Manifest, file_digest, load_bundle
from models.engines.opening import open_engine
from models.making.onnx_rules import problems_of
from proto.errors import Poison, WatchwordError

Kind = Literal[
    "manifest", "missing", "hash", "extra", "path", "pickle", "external", "operator", "invalid", "batch", "canary"
]
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a bundle."""

    kind: Kind
    path: str
    words: str


def verify(folder: Path) -> list[Finding]:
    """All problems of the bundle; its towers are opened only when there is no other problem."""
    try:
        if (folder / MANIFEST).stat().st_size > _MOST_MANIFEST_BYTES:
            return [Finding("manifest", MANIFEST, "is far too large")]
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        return [Finding("manifest", MANIFEST, f"cannot be read ({error.strerror})")]
    except ValidationError as error:
        return [Finding("manifest", MANIFEST, f"is wrong: {problem['msg']}") for problem in error.errors()]
    findings = [*_named_files(folder, manifest), *_other_files(folder, manifest), *_towers(folder)]
    return findings or _canary(folder)


def _named_files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    for path in sorted(NEEDED - manifest.files.keys()):
        yield Finding("missing", path, "is not named in the manifest")
    for path, digest in manifest.files.items():
        file = folder / path
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or pure.as_posix() != path:
            yield Finding("path", path, "could lie outside the bundle")
        elif not file.resolve().is_relative_to(folder.resolve()):
            yield Finding("path", path, "is a link that leads out of the bundle")
        elif not file.is_file():
            yield Finding("missing", path, "is not there")
        elif file_digest(file) != digest:
            yield Finding("hash", path, "is not the file that the manifest names")


def _other_files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_dir() and not file.is_symlink():
            continue
        if file.is_file() and _is_pickle(file):
            yield Finding("pickle", path, "is a pickle, which may run a program when it is read")
        elif path not in manifest.files and path != MANIFEST:
            yield Finding("extra", path, "is not named in the manifest")


def _is_pickle(file: Path) -> bool:
    if file.suffix.lower() in _PICKLES:
        return True
    with file.open("rb") as content:
        start = content.read(2)
    if start == b"PK" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return start in _PICKLE_STARTS


def _towers(folder: Path) -> Iterator[Finding]:
    for path in (VISUAL, TEXTUAL, DETECTOR):
        file = folder / path
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            yield from (Finding(problem.kind, path, problem.words) for problem in problems_of(file))


def _canary(folder: Path) -> list[Finding]:
    try:
        open_engine(load_bundle(folder)).close()
    except Poison as error:
        return [Finding("canary", MANIFEST, f"holds a text that cannot be asked ({error.message})")]
    except WatchwordError as error:
        return [Finding("canary", MANIFEST, error.message)]
    return []
