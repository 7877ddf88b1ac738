"""A folder or a zip that comes about whole or not at all, with the hash of each file; and how one is read again."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from catalog.files import disk_trouble
from proto.errors import Invalid

_PIECE = 1 << 20
_ZIP = ".zip"
_MOST_READ = 64 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """A file of a parcel."""

    name: str
    bytes: int
    sha256: str


class Parcel(AbstractContextManager["Parcel"]):
    """Written under another name beside `out`, which it gets by `finish`; what was not finished is removed. Blocks.

    A process that is killed leaves the other name, `.NAME.….part`, which nothing takes for a parcel.
    """

    def __init__(self, out: Path) -> None:
        """A zip where the name ends so, else a folder. Raises Invalid when there is something of that name."""
        if out.exists() or out.is_symlink():
            raise Invalid(f"{out} is there already", todo="name another with -o: nothing is replaced")
        self._out = out
        self._part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
        self._zip: zipfile.ZipFile | None = None
        try:
            if out.suffix.lower() == _ZIP:
                handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._file = os.fdopen(handle, "w+b")
                self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)  # video and JPEG do not shrink
            else:
                self._part.mkdir(mode=0o700)
        except OSError as error:
            raise disk_trouble("write", out, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            with suppress(OSError, ValueError):  # a full disk does not take the end of a zip that is thrown away
                self._zip.close()
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
        else:
            shutil.rmtree(self._part, ignore_errors=True)

    def add(self, name: str, pieces: Iterable[bytes]) -> Packed:
        """Put a file into it."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._opened(name) as file:
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
        except OSError as error:
            raise disk_trouble("write", self._out, error) from error
        return Packed(name, size, digest.hexdigest())

    def finish(self) -> None:
        """Give it its name, once the disk has it."""
        try:
            if self._zip is not None:
                self._zip.close()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            if self._out.exists():
                raise Invalid(f"{self._out} came about meanwhile", todo="name another with -o: nothing is replaced")
            self._part.rename(self._out)
            inside = [] if self._zip else [self._out, *(path for path in self._out.iterdir() if path.is_dir())]
            for folder in (*inside, self._out.absolute().parent):
                _sync(folder)
        except OSError as error:
            raise disk_trouble("write", self._out, error) from error

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        if self._zip is not None:
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | 0o600) << 16
            with self._zip.open(member, "w", force_zip64=True) as packed:
                yield packed
            return
        path = self._part / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


class Opened(AbstractContextManager["Opened"]):
    """A parcel to be read. Blocks. Nothing outside of it is opened, whatever names are in it."""

    def __init__(self, path: Path) -> None:
        """Raises Invalid when it is neither a folder nor a zip."""
        self._folder = path
        self._zip: zipfile.ZipFile | None = None
        self.strange: list[str] = []
        """Names that no parcel has: links, and those that are there twice."""
        try:
            if path.is_dir():
                self.names = frozenset(self._walked(path))
            else:
                self._zip = zipfile.ZipFile(path)
                named = [one.filename for one in self._zip.infolist() if not one.is_dir()]
                self.names = frozenset(named)
                self.strange = sorted(name for name in self.names if named.count(name) > 1)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise Invalid(
                f"{path} is no folder and no zip that can be read ({getattr(error, 'strerror', None) or error})",
                todo="give what `watchword export` wrote",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, name: str) -> bytes:
        """A small file. Raises Invalid when it is not there, or large."""
        data = b"".join(self._pieces(name, _MOST_READ + 1)) if name in self.names else b""
        if not data or len(data) > _MOST_READ:
            raise Invalid(f"{self._folder} has no {name} that can be read", todo="give what `watchword export` wrote")
        return data

    def packed(self, name: str, most: int) -> Packed:
        """What a file is; it is read no further than `most` bytes."""
        digest, size = hashlib.sha256(), 0
        for piece in self._pieces(name, most):
            digest.update(piece)
            size += len(piece)
        return Packed(name, size, digest.hexdigest())

    def _pieces(self, name: str, most: int) -> Iterator[bytes]:
        try:
            with self._zip.open(name) if self._zip is not None else (self._folder / name).open("rb") as file:
                while most > 0 and (piece := file.read(min(_PIECE, most))):
                    most -= len(piece)
                    yield piece
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            raise Invalid(f"{name} cannot be read ({error})", todo="it is damaged: get it again") from error

    def _walked(self, folder: Path) -> Iterator[str]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                self.strange.append(name)
            elif path.is_file():
                yield name


def free_bytes(out: Path) -> int:
    """How much room there is for it."""
    try:
        return shutil.disk_usage(out.absolute().parent).free
    except OSError as error:
        raise disk_trouble("write", out, error) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
