"""The manifest of a backup: which files it has, with their hashes, and what they are copies of. Pure.

It is written last, and names every file by its content, so a backup is always what its manifest says: a run that ends
half-way changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from proto.errors import Broken, Invalid

NAME = "manifest.json"
FORM = "watchword backup"
VERSION = 1
_SELF = "sha256"

Kind = Literal["moments", "pictures", "facts"]
FOLDERS: tuple[Kind, ...] = ("moments", "pictures", "facts")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a backup."""

    kind: Kind
    of: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,64}$")]
    """The space of moments; "" for pictures; the table of facts."""
    start_ms: int
    """Its moments begin in [start_ms, end_ms)."""
    end_ms: int
    count: int
    """Moments, pictures or rows."""
    bytes: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    stored: int = 0
    """How many moments of this time the index had, also those that were left out. Of moments that are not `final`
    it says nothing."""
    final: bool = False
    """Whether all its moments are closed and nothing was left out: then it is read again only when `stored` changed."""
    dimension: int = 0
    """Of moments: that of their space."""
    rules: int = 0
    """Of moments: the version of the rules by which they were left out."""
    seen: str = ""
    """Of pictures: a hash of what the listing said of them, and of the moments."""

    @property
    def name(self) -> str:
        """Where it lies."""
        ending = "jsonl" if self.kind == "facts" else "parquet"
        parts = [self.of] if self.kind == "facts" else [f"{self.start_ms}-{self.end_ms}", *filter(None, [self.of])]
        return f"{self.kind}/{'-'.join([*parts, self.sha256[:16]])}.{ending}"

    def key(self) -> tuple[str, str, int, int]:
        """What it is a copy of."""
        return self.kind, self.of, self.start_ms, self.end_ms


@dataclass(frozen=True)
class Manifest:
    """A whole backup."""

    installation: str
    """Which installation it is of."""
    made_by: str
    """The version of Watchword that wrote it."""
    begun_ms: int
    """What was looked at by then is in it: as far as each camera's mark says."""
    done_ms: int
    spaces: Mapping[str, int]
    """The dimension of each space."""
    rules: int
    """The version of the limits, erasures and holds that were in force."""
    erasures: int
    """How many erasures were in force: nothing of them is in the backup."""
    files: tuple[File, ...]
    left: Mapping[str, int] = field(default_factory=dict)
    """How many moments fewer than in the run before it has, by space and day: erased, or too old."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many moments of the index are not in it, by reason: erased, expired, newer than the mark of their camera."""

    def count(self, kind: Kind, of: str | None = None) -> int:
        """How many moments, pictures or rows it has."""
        return sum(one.count for one in self.files if one.kind == kind and of in (None, one.of))

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(one.bytes for one in self.files)


_MANIFEST = TypeAdapter(Manifest)
_FILES = TypeAdapter(tuple[File, ...])


def packed(manifest: Manifest) -> bytes:
    """The manifest as it is stored."""
    told = {"form": FORM, "version": VERSION, **_MANIFEST.dump_python(manifest, mode="json")}
    return json.dumps({**told, _SELF: _hash(told)}, indent=1).encode()


def unpacked(data: bytes | None, where: str) -> Manifest:
    """The manifest of this file. Raises Invalid or Broken when it cannot be used."""
    if data is None:
        raise Invalid(f"there is no backup in {where}", todo=f"name the place that has a {NAME}")
    try:
        told = json.loads(data)
    except ValueError as error:
        raise _damaged(where, "it is no JSON") from error
    if not isinstance(told, dict) or told.get("form") != FORM:
        raise Invalid(f"{where} has a {NAME} of something else", todo="name the place of a backup")
    if told.get("version") != VERSION:
        raise Invalid(
            f"the backup in {where} has the form {told.get('version')!r}, this Watchword knows {VERSION}",
            todo="restore it by the Watchword that made it, or a later one",
        )
    if told.pop(_SELF, None) != _hash(told):
        raise _damaged(where, "it is not as it was written")
    try:
        return _MANIFEST.validate_python(
            {name: value for name, value in told.items() if name not in {"form", "version"}}
        )
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise _damaged(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def packed_files(files: tuple[File, ...]) -> bytes:
    """What a run that goes on has copied so far."""
    return _FILES.dump_json(files)


def unpacked_files(data: bytes | None) -> tuple[File, ...]:
    """The same, read again; nothing if it cannot be: then it is copied again."""
    try:
        return _FILES.validate_json(data) if data else ()
    except ValidationError:
        return ()


def check_file(file: File, data: bytes | None, where: str) -> bytes:
    """The file's content, or Broken unless it is what the manifest says."""
    what = "is missing" if data is None else "is not as it was written"
    if data is None or len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise Broken(
            f"{file.name} of the backup in {where} {what}",
            todo="restore from another copy; `watchword backup` writes what is missing or damaged again with --full",
        )
    return data


def _hash(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _damaged(where: str, why: str) -> Broken:
    return Broken(
        f"the {NAME} of the backup in {where} is damaged or was changed ({why})", todo="restore from another copy"
    )
