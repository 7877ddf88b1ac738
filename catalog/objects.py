"""Where pictures rest: a folder, or a bucket of S3. Both have the same names, so one can be copied to the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from catalog.files import disk_trouble, write_whole
from catalog.settings import BucketSettings, MediaSettings
from proto.errors import Broken

_FORM = "set media.url to s3://bucket or s3://bucket/prefix, or to nothing for a folder"


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, as a listing tells it."""

    name: str
    written_ns: int
    """When it was written last. S3 tells whole seconds."""


class Objects(Protocol):
    """Bytes by name. Safe for threads; methods block.

    They raise Transient when the store is away, and Broken when it refuses: wrong credentials, no such bucket, full.
    """

    def put(self, name: str, data: bytes) -> None:
        """Store it whole, in place of an earlier one. A reader sees the one or the other."""

    def get(self, name: str) -> bytes | None:
        """The object; None when there is none of this name."""

    def list(self, folder: str) -> Sequence[Stored]:
        """Those whose names begin with `folder` and a slash, in no order. A folder among them may stand for all that is
        in it."""

    def has(self, name: str) -> bool:
        """Whether there is an object of this name."""

    def remove(self, names: Collection[str]) -> None:
        """Remove them. One that is missing is passed over."""

    def tidy(self, folder: str) -> None:
        """Remove what an empty folder leaves behind, where folders are more than names."""


class FolderObjects:
    """A folder of files. It is made when the first object is put."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Unless `durable`, nothing waits for the disk: a picture lost to a power cut is written again when its moment
        is replayed."""
        self._folder = folder
        self._durable = durable

    def put(self, name: str, data: bytes) -> None:
        # One scratch folder: else every folder would have to be swept for files that killed processes left.
        write_whole(self._folder / name, data, durable=self._durable, beside=self._folder / "scratch")

    def get(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_trouble("read", path, error) from error

    def list(self, folder: str) -> Sequence[Stored]:
        try:
            return [Stored(f"{folder}/{path.name}", _written_ns(path)) for path in (self._folder / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk_trouble("read", self._folder / folder, error) from error

    def remove(self, names: Collection[str]) -> None:
        for name in names:
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise disk_trouble("remove", self._folder / name, error) from error

    def has(self, name: str) -> bool:
        try:
            return (self._folder / name).is_file()
        except OSError as error:
            raise disk_trouble("read", self._folder / name, error) from error

    def tidy(self, folder: str) -> None:
        with suppress(OSError):  # it is missing, or something was put there meanwhile
            (self._folder / folder).rmdir()


def objects_of(settings: MediaSettings, folder: Path) -> Objects:
    """The store that the settings name; `folder` where they name none. Broken when they cannot be right."""
    url = settings.url
    if not url:
        return FolderObjects(folder)
    if not is_bucket(url):
        raise Broken(f"pictures cannot be kept in {url.rpartition('@')[2][:80]!r}", todo=_FORM)
    return bucket_of(url, settings, "media")


def is_bucket(url: str) -> bool:
    """Whether it is s3://bucket or s3://bucket/prefix, and nothing more."""
    parts = urlsplit(url)
    return parts.scheme == "s3" and bool(parts.netloc) and "@" not in parts.netloc and not parts.query


def bucket_of(url: str, settings: BucketSettings, section: str) -> Objects:
    """The bucket of this address. Errors name the section of the settings that leads to it."""
    from catalog.s3 import S3Objects

    parts = urlsplit(url)
    return S3Objects(parts.netloc, parts.path.strip("/"), settings, section)


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
