from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from models.bundle import NEEDED, load_bundle
from proto.errors import Broken

PREPROCESS: dict[str, Any] = {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "longest"}
CANARY = {"pictures": [[1.0, 0.0], [0.0, 1.0]], "texts": {"a": [1.0, 0.0], "b": [0.0, 1.0]}}


def write_bundle(folder: Path, *, name: str = "small", sources: dict[str, str] | None = None, **files: bytes) -> Path:
    """A sound bundle with small stand-ins for its towers; `files` replaces some, by the word before the dot."""
    content = {
        "visual/model.onnx": files.get("visual", b"v"),
        "visual/preprocess_cfg.json": files.get("preprocess", json.dumps(PREPROCESS).encode()),
        "textual/model.onnx": files.get("textual", b"t"),
        "textual/tokenizer.json": files.get("tokenizer", b"{}"),
        "config.json": files.get("config", b'{"embed_dim": 2, "text_cfg": {"context_length": 9}}'),
    }
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    manifest = {
        "name": name,
        "dimension": 2,
        "licence": "Apache-2.0",
        "provenance": [],
        "sources": sources or {},
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in content.items()},
        "canary": CANARY,
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def bend(folder: Path, **changes: Any) -> None:
    """Change the manifest."""
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def pin(folder: Path, path: str, digest: str) -> None:
    """Add a file to the manifest."""
    manifest = json.loads((folder / "bundle.json").read_text())
    bend(folder, files=manifest["files"] | {path: digest})


def test_a_sound_bundle_is_loaded(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path))

    assert (bundle.name, bundle.licence, bundle.dimension, bundle.image_side) == ("small", "Apache-2.0", 2, 8)
    assert (bundle.text_window, bundle.text_fixed) == (9, True)
    assert bundle.visual.read_bytes() == b"v"
    assert bundle.space.dimension == 2


def space(folder: Path, **changes: Any) -> str:
    return load_bundle(write_bundle(folder, **changes)).space.id


def test_the_space_does_not_depend_on_names(tmp_path: Path) -> None:
    assert space(tmp_path / "a", name="one") == space(tmp_path / "b", name="two")


def test_the_space_does_not_depend_on_how_a_setting_is_written(tmp_path: Path) -> None:
    other = json.dumps(PREPROCESS | {"size": [8, 8], "interpolation": "bicubic"}, indent=4).encode()

    assert space(tmp_path / "a") == space(tmp_path / "b", preprocess=other)


@pytest.mark.parametrize(
    "change",
    [
        {"visual": b"other"},
        {"textual": b"other"},
        {"tokenizer": b"other"},
        {"preprocess": json.dumps(PREPROCESS | {"resize_mode": "squash"}).encode()},
        {"config": b'{"text_cfg": {"context_length": 10}}'},
        {"config": b'{"text_cfg": {"context_length": 9, "fixed_length": false}}'},
        {"sources": {"weights": "abc"}},
    ],
)
def test_the_space_depends_on_all_that_makes_the_vectors(tmp_path: Path, change: dict[str, Any]) -> None:
    assert space(tmp_path / "a") != space(tmp_path / "b", **change)


def test_sources_stand_for_the_towers_made_from_them(tmp_path: Path) -> None:
    sources = {"weights": "abc"}

    assert space(tmp_path / "a", sources=sources) == space(tmp_path / "b", sources=sources, visual=b"another last bit")


@pytest.mark.parametrize("path", sorted(NEEDED))
def test_a_changed_file_is_refused(tmp_path: Path, path: str) -> None:
    (write_bundle(tmp_path) / path).write_bytes(b"changed")

    with pytest.raises(Broken, match="not the file its manifest names"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("path", sorted(NEEDED))
def test_a_missing_file_is_refused(tmp_path: Path, path: str) -> None:
    (write_bundle(tmp_path) / path).unlink()

    with pytest.raises(Broken, match="cannot read"):
        load_bundle(tmp_path)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    (write_bundle(tmp_path) / "visual" / "model.onnx.data").write_bytes(b"weights")

    with pytest.raises(Broken, match="files it does not name"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside", "visual/../../outside", "visual//model.onnx", "a\\b"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    folder = write_bundle(tmp_path / "bundle")
    pin(folder, path, hashlib.sha256(b"secret").hexdigest())

    with pytest.raises(Broken, match="could lie outside"):
        load_bundle(folder)


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, whole_folder: bool) -> None:
    elsewhere = write_bundle(tmp_path / "elsewhere")
    folder = write_bundle(tmp_path / "bundle")
    path = "visual" if whole_folder else "visual/model.onnx"
    (folder / path).rename(tmp_path / "old")
    (folder / path).symlink_to(elsewhere / path)

    with pytest.raises(Broken, match="leads out"):
        load_bundle(folder)


def test_a_manifest_without_a_needed_file_is_refused(tmp_path: Path) -> None:
    bend(write_bundle(tmp_path), files={})

    with pytest.raises(Broken, match=r"has no config\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"dimension": 0}, {"name": ""}, {"canary": {"pictures": [], "texts": {}}}, {"strange": 1}, {"files": ["a"]}],
)
def test_a_manifest_that_is_wrong_names_the_place(tmp_path: Path, change: dict[str, Any]) -> None:
    bend(write_bundle(tmp_path), **change)

    with pytest.raises(Broken, match=rf"bundle\.json .* is wrong at '{next(iter(change))}") as met:
        load_bundle(tmp_path)

    assert met.value.todo


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{" * 100_000, b" " * 5_000_000])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (write_bundle(tmp_path) / "bundle.json").write_bytes(content)

    with pytest.raises(Broken):
        load_bundle(tmp_path)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="is no bundle"):
        load_bundle(tmp_path / "nowhere")
