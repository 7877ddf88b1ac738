"""The pictures of moments: one JPEG file each, and one for each other instant at which a region of it was seen."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from catalog.files import disk_trouble, write_whole
from proto.errors import Invalid, Unknown
from proto.types import MOST_REGIONS, check_moment_ids

_LATEST_MS = 2**63


class Thumbnails:
    """A folder of pictures by moment id. Methods block on the disk: call them from a thread.

    Besides its own picture a moment may have MOST_REGIONS more, by the instant at which they were taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, moment_id: str, jpeg: bytes, at_ms: int | None = None) -> None:
        """Store the moment's picture, or its picture of that instant. Replaces an earlier one.

        If the moment has too many pictures of instants, the one that was written first is removed. Raises Broken when
        the disk refuses.
        """
        # Not synced: a picture lost to a power cut is written again when its moment is replayed.
        # One scratch folder: else all 256 folders would have to be swept for files that killed processes left.
        write_whole(self._path(moment_id, at_ms), jpeg, durable=False, beside=self._folder / "scratch")
        if at_ms is not None:
            others = [path for path in self._instants(moment_id) if path != self._path(moment_id, at_ms)]
            self._remove(sorted(others, key=_written_ns)[: max(0, len(others) + 1 - MOST_REGIONS)])

    def keep(self, moment_id: str, instants: Collection[int]) -> None:
        """Remove the moment's pictures of other instants, whose regions it no longer has; its own picture stays."""
        names = {f"{at_ms}.jpg" for at_ms in instants}
        self._remove([path for path in self._instants(moment_id) if path.name not in names])

    def get(self, moment_id: str, at_ms: int | None = None) -> bytes:
        """The moment's picture of that instant; without one, the moment's own. Raises Unknown when there is none."""
        picture = None if at_ms is None else self.of_instant(moment_id, at_ms)
        if picture is None:
            picture = _read(self._path(moment_id))
        if picture is None:
            raise Unknown(
                f"there is no picture of moment {moment_id}", todo="give the id of a hit; its picture may have expired"
            )
        return picture

    def of_instant(self, moment_id: str, at_ms: int) -> bytes | None:
        """The moment's picture of that instant."""
        return _read(self._path(moment_id, at_ms))

    def _path(self, moment_id: str, at_ms: int | None = None) -> Path:
        check_moment_ids([moment_id])
        # 256 folders: a folder of a million files is slow to list and to delete. An id begins with its time.
        folder = self._folder / moment_id[-2:]
        if at_ms is None:
            return folder / f"{moment_id}.jpg"
        if not 0 <= at_ms < _LATEST_MS:
            raise Invalid(f"{at_ms} is not a time", todo="give the at_ms that a hit shows")
        # A folder for each moment, so that its pictures are listed without those of others.
        return folder / moment_id / f"{int(at_ms)}.jpg"

    def _instants(self, moment_id: str) -> list[Path]:
        folder = self._path(moment_id).with_suffix("")
        try:
            return list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk_trouble("read", folder, error) from error

    def _remove(self, paths: Collection[Path]) -> None:
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise disk_trouble("remove", path, error) from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise disk_trouble("read", path, error) from error


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
