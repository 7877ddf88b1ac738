"""A clip on its way into a file."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from watchword_client.answers import Clip, clip_of
from watchword_client.errors import Invalid, Transient
from watchword_client.v1 import query_pb2


class Saving:
    """The file is there when the clip is whole, and not before. An older file stays until then."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._arriving = self._path.with_name(f".{self._path.name[:200]}.{secrets.token_hex(4)}.part")
        self._clip: Clip | None = None
        self._size = 0

    def __enter__(self) -> Self:
        try:
            self._file = self._arriving.open("xb")
        except OSError as error:
            raise Invalid(f"{self._path} cannot be written ({error.strerror})", todo="name another file") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._arriving.unlink(missing_ok=True)

    def take(self, part: query_pb2.ClipPart) -> None:
        """Write what came."""
        if part.HasField("head"):
            self._clip = clip_of(part.head)
        self._size += self._file.write(part.data)

    def done(self) -> Clip:
        """The clip is whole. Transient when it is not."""
        if self._clip is None or self._size != self._clip.bytes:
            raise Transient("the clip ended early", todo="try again")
        self._file.close()
        self._arriving.replace(self._path)
        return self._clip
