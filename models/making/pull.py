"""Fetches a ready bundle from a hub, in the layout of Immich's open_clip exports, and seals it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx

from models.bundle import CONFIG, MANIFEST, OPTIONAL, PREPROCESS, TEXTUAL, TOKENIZER, VISUAL, Bundle, load_bundle
from models.making.hub import Fetched, fetch
from models.making.onnx_batch import with_free_batch
from models.making.onnx_rules import check_file, problems_of
from models.making.sealing import new_folder, seal
from models.making.vocabulary import published_tokenizer
from proto.errors import Broken

_WANTED = (CONFIG, PREPROCESS, TOKENIZER, VISUAL, TEXTUAL)
_TOKENIZER_SETTINGS = "textual/tokenizer_config.json"
_NO_LICENCE = "not stated; ask the model's owner"

Say = Callable[[str], None]


def pull_bundle(
    repository: str, target: Path, *, say: Say, revision: str = "main", endpoint: str | None = None
) -> Bundle:
    """Fetch the bundle in the hub's repository to the folder `target`.

    An interrupted fetch continues where it stopped; its files are kept beside `target`. A repository with its own
    manifest is used as it is; any other is checked, completed and sealed here.
    """
    partial = target.parent / f".{target.name}.partial"
    say(f"fetching {repository}")
    optional = (_TOKENIZER_SETTINGS, MANIFEST, *sorted(OPTIONAL))
    fetched = fetch(repository, _WANTED, partial, optional=optional, revision=revision, endpoint=endpoint)
    with new_folder(target) as work:
        for path in fetched.digests:
            _link(partial / path, work / path)
        if MANIFEST in fetched.digests:
            load_bundle(work)
        else:
            say("checking and sealing it")
            _complete(work)
            seal(work, name=target.name, licence=fetched.licence or _NO_LICENCE, provenance=_provenance(fetched))
    shutil.rmtree(partial, ignore_errors=True)
    return load_bundle(target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _complete(work: Path) -> None:
    """Convert the published files to the form of a bundle."""
    for tower in (VISUAL, TEXTUAL):
        for problem in problems_of(work / tower):
            if problem.kind != "batch":
                raise Broken(f"{tower} {problem.words}", todo="choose another repository")
        model = onnx.load(work / tower, load_external_data=False)
        freed = with_free_batch(model)
        if freed is not model:
            _replace(work / tower, freed.SerializeToString())
        check_file(work / tower)
    try:
        text = json.loads((work / CONFIG).read_bytes())["text_cfg"]
        settings = work / _TOKENIZER_SETTINGS
        named = json.loads(settings.read_bytes()) if settings.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise Broken(f"{CONFIG} does not say how texts are fed", todo="choose another repository") from error
    tokenizer = published_tokenizer((work / TOKENIZER).read_bytes(), named, text)
    _replace(work / TOKENIZER, tokenizer.to_str().encode())
    settings.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    """Replace the file instead of overwriting it: it may be a link to the fetched one."""
    path.unlink()
    path.write_bytes(content)


def _provenance(fetched: Fetched) -> list[str]:
    files = [f"{path} was fetched with SHA-256 {digest}" for path, digest in sorted(fetched.digests.items())]
    return [f"the hub's {fetched.repository}, revision {fetched.revision}", *files]
