"""The cameras of an installation whose registry was a file, cameras.json: taken over into the catalog, once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from catalog.cameras import CameraRegistry
from catalog.files import disk_trouble, locked
from proto.errors import Broken, Invalid
from proto.types import Camera, camera_name

log = logging.getLogger("watchword.catalog")

_VERSION = 1
_CAMERAS = TypeAdapter(list[Camera])


def take_over_cameras(path: Path, registry: CameraRegistry) -> None:
    """Register the cameras of the file, and rename it. Nothing is done when there is none.

    A name that is registered already keeps its camera, so being killed half-way and done again does no harm. Raises
    Broken when the file cannot be read: it is left as it is.
    """
    try:
        if not path.exists():
            return
        with locked(path):
            if not path.exists():  # another process was first
                return
            taken = registry.add_missing(_load(path))
            path.rename(path.with_name(f"{path.name}.taken-over"))
    except OSError as error:
        raise disk_trouble("rename", path, error) from error
    log.info("%d cameras of %s are in the catalog now", taken, path)


def _load(path: Path) -> list[Camera]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise disk_trouble("read", path, error) from error
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            raise ValueError(f"it is not a registry of version {_VERSION}")
        cameras = _CAMERAS.validate_python(content["cameras"], strict=False)
        return list({camera_name(camera.name): camera for camera in cameras}.values())
    except (ValueError, KeyError, ValidationError, Invalid) as error:
        raise Broken(
            f"{path} is damaged ({_first_line(error)})",
            todo="repair it, or move it away and register the cameras again",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
