"""Files from a Hugging Face style hub; the only module that imports huggingface_hub.

The address is the library's own: `HF_ENDPOINT`, or the public hub. Telemetry is off. Only files that hold numbers or
settings are fetched, never pickles or programs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import huggingface_hub
from huggingface_hub import constants, errors

from proto.errors import Broken, Denied, Invalid, Transient, Unknown, WatchwordError

# The library reads this only on import.
constants.HF_HUB_DISABLE_TELEMETRY = True
# An interruption loses the current block; the library's default is 10 MB.
constants.DOWNLOAD_CHUNK_SIZE = 1024 * 1024

_HARMLESS = {".json", ".onnx", ".f32", ".safetensors"}
_BLOCK = 1024 * 1024
_ASK_TIMEOUT_S = 15.0
_OFFLINE = "is there a way out, and does HF_ENDPOINT name the hub? A bundle folder can also be copied here by hand"


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files of one repository at one revision."""

    repository: str
    revision: str
    """The commit, so that the same files can be fetched again."""
    licence: str
    """As stated on the repository's card; empty when not stated."""
    digests: dict[str, str]
    """SHA-256 of the fetched files, by path."""


def fetch(
    repository: str,
    wanted: Sequence[str],
    folder: Path,
    *,
    optional: Sequence[str] = (),
    revision: str = "main",
    endpoint: str | None = None,
) -> Fetched:
    """Fetch files into `folder`, continuing an interrupted fetch; progress goes to standard error.

    Each file is compared with the hub's checksum. Unknown when the repository or a file does not exist.
    """
    for path in (*wanted, *optional):
        pure = PurePosixPath(path)
        if pure.suffix not in _HARMLESS or pure.is_absolute() or ".." in pure.parts:
            raise Invalid(f"{path} is not fetched from a hub", todo=f"only {', '.join(sorted(_HARMLESS))} files are")
    try:
        api = huggingface_hub.HfApi(endpoint=endpoint, library_name="watchword")
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=_ASK_TIMEOUT_S)
        listed = {file.rfilename: file for file in info.siblings or []}
        if missing := sorted(set(wanted) - listed.keys()):
            raise Unknown(
                f"{repository} has no {', '.join(missing)}", todo="choose a repository in the layout of a bundle"
            )
        present = [*wanted, *(path for path in optional if path in listed)]
        digests = {path: _fetch_one(api, repository, str(info.sha), listed[path], folder) for path in present}
    except WatchwordError:
        raise
    except (OSError, ValueError, httpx.HTTPError, errors.EntryNotFoundError, errors.XetDownloadError) as error:
        raise _translated(error, repository) from error
    card = info.card_data
    return Fetched(repository, str(info.sha), str(getattr(card, "license", None) or ""), digests)


def without_notes(folder: Path) -> None:
    """Remove the library's files for resuming downloads."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _fetch_one(api: huggingface_hub.HfApi, repository: str, revision: str, listed: Any, folder: Path) -> str:
    path = str(listed.rfilename)
    file = Path(api.hf_hub_download(repository, path, revision=revision, local_dir=folder))
    found = _digest(file, hashlib.sha256())
    if listed.lfs:
        sound = found == listed.lfs.sha256
    elif listed.blob_id:
        header = f"blob {file.stat().st_size}\0".encode()
        sound = _digest(file, hashlib.sha1(header, usedforsecurity=False)) == listed.blob_id
    else:
        raise Broken(f"the hub lists no checksum for {path} of {repository}", todo="use another hub")
    if not sound:
        file.unlink()
        raise Broken(
            f"{path} of {repository} is not what the hub lists (checksum)", todo="fetch it again; it was removed"
        )
    return found


def _digest(file: Path, running: Any) -> str:
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            running.update(block)
    return str(running.hexdigest())


def _translated(error: Exception, repository: str) -> WatchwordError:
    match error:
        case errors.GatedRepoError():
            return Denied(f"{repository} is given only to those who asked its owner", todo="set HF_TOKEN")
        case errors.RepositoryNotFoundError() | errors.RevisionNotFoundError() | errors.RemoteEntryNotFoundError():
            return Unknown(f"the hub has no {repository} of that revision", todo="check its name, or set HF_TOKEN")
        case errors.HFValidationError():
            return Invalid(f"{repository!r} is no repository's name", todo="write OWNER/NAME")
        case errors.HfHubHTTPError() if error.response is not None and error.response.status_code in (401, 403):
            return Denied(f"the hub refuses {repository}", todo="set HF_TOKEN to one that may read it")
        case errors.HfHubHTTPError():
            return Transient(f"the hub failed ({error})", todo="try again; what was fetched is kept")
        case (
            httpx.ConnectError()
            | httpx.ConnectTimeout()
            | errors.OfflineModeIsEnabled()
            | errors.LocalEntryNotFoundError()
        ):
            return Transient(f"the hub cannot be reached ({error})", todo=_OFFLINE)
        case httpx.HTTPError():
            return Transient(f"the hub stopped answering ({error})", todo="run it again: it goes on where it stopped")
        case _:
            return Transient(
                f"fetching from the hub failed ({error})", todo="run it again: it goes on where it stopped"
            )
