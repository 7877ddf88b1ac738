"""The thumbnails of moments: one JPEG file each."""

from __future__ import annotations

from pathlib import Path

from catalog.files import disk_trouble, write_whole
from proto.errors import Unknown
from proto.types import check_moment_ids


class Thumbnails:
    """A folder of pictures by moment id. Methods block on the disk: call them from a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, moment_id: str, jpeg: bytes, at_ms: int | None = None) -> None:
        """Store the picture of this time, or the most representative one, replacing an earlier one.

        Raises Broken when the disk refuses.
        """
        # Not synced: a picture lost to a power cut is written again when its moment is replayed.
        # One scratch folder: else all 256 folders would have to be swept for files that killed processes left.
        write_whole(self._path(moment_id, at_ms), jpeg, durable=False, beside=self._folder / "scratch")

    def get(self, moment_id: str, at_ms: int | None = None) -> bytes:
        """The picture of this time, or the most representative one. Raises Unknown when there is none."""
        path = self._path(moment_id, at_ms)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unknown(
                f"there is no picture of moment {moment_id}", todo="give the id of a hit; its picture may have expired"
            ) from error
        except OSError as error:
            raise disk_trouble("read", path, error) from error

    def _path(self, moment_id: str, at_ms: int | None = None) -> Path:
        check_moment_ids([moment_id])
        # 256 folders: a folder of a million files is slow to list and to delete. An id begins with its time.
        name = moment_id if at_ms is None else f"{moment_id}-{at_ms}"
        return self._folder / moment_id[-2:] / f"{name}.jpg"
