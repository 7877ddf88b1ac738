"""The bundles on this machine: listing, verifying and benchmarking them."""

from __future__ import annotations

import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from pydantic import ValidationError

from models.bundle import MANIFEST, NEEDED, TEXTUAL, VISUAL, Bundle, Manifest, file_digest, load_bundle
from models.engine import Engine, canary_pictures, canary_texts, open_engine, tokenizer_of
from proto.errors import Broken, Poison, Unknown, WatchwordError

Kind = Literal[
    "manifest", "missing", "hash", "extra", "path", "pickle", "external", "operator", "invalid", "batch", "canary"
]
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024
_BATCHES = (1, 4, 8, 16)
_LEAST_RUNS = 5
_SECONDS_EACH = 1.0
_BENCH_TEXT = "a person riding a bicycle past a red truck at the gate"


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle in the list."""

    folder: Path
    bundle: Bundle | None
    problem: str
    """Why it cannot be used; empty when it can."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a bundle."""

    kind: Kind
    path: str
    words: str


@dataclass(frozen=True, slots=True)
class Pace:
    """The measured speed of a tower."""

    tower: Literal["image", "text"]
    batch: int
    call_ms: float
    """Median over its calls."""

    @property
    def per_second(self) -> float:
        return 1000 * self.batch / self.call_ms


def list_bundles(folders: Sequence[Path]) -> list[Entry]:
    """Every bundle in these folders, including unusable ones."""
    found = {
        path.parent
        for folder in folders
        for path in folder.glob(f"*/{MANIFEST}")
        if not path.parent.name.startswith(".")
    }
    return [_entry(folder) for folder in sorted(found)]


def find_bundle(name: str, folders: Sequence[Path]) -> Path:
    """The folder of the bundle with this name, or at this path. Unknown when there is neither."""
    if "/" in name or (Path(name) / MANIFEST).exists():
        if not Path(name).is_dir():
            raise Unknown(f"there is no folder {name}", todo="`watchword models list` shows the bundles")
        return Path(name)
    known = {entry.folder.name: entry.folder for entry in list_bundles(folders)}
    if name not in known:
        raise Unknown(
            f"there is no bundle {name!r}", todo=f"known here: {', '.join(known) or 'none'}; or name a folder"
        )
    return known[name]


def _entry(folder: Path) -> Entry:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        return Entry(folder, load_bundle(folder), "", size)
    except Broken as error:
        return Entry(folder, None, error.message, size)


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
    try:
        from models.onnx_rules import problems_of
    except ImportError as error:
        raise Broken("the package onnx is not installed", todo="pip install 'watchword[embedded]' brings it") from error

    for path in (VISUAL, TEXTUAL):
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


def bench(bundle: Bundle, *, threads: int) -> Iterator[Pace]:
    """The speed of each tower at each batch size, on prepared tensors."""
    engine = open_engine(bundle, threads=threads)
    try:
        picture = canary_pictures(bundle.preprocess)[:1]
        for batch in _BATCHES:
            pictures = np.repeat(picture, batch, axis=0)
            yield Pace("image", batch, _median_ms(lambda: engine.embed_images(pictures)))  # noqa: B023 - called at once
        yield Pace("text", 1, _text_ms(engine, bundle))
    finally:
        engine.close()


def _text_ms(engine: Engine, bundle: Bundle) -> float:
    ids, mask = canary_texts(tokenizer_of(bundle), [_BENCH_TEXT])
    return _median_ms(lambda: engine.embed_texts(ids, mask))


def _median_ms(call: Callable[[], object]) -> float:
    call()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _LEAST_RUNS or time.perf_counter() - begun < _SECONDS_EACH:
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)
